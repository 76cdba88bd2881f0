import assert from "node:assert/strict";
import { join } from "node:path";
import { differences } from "../../../core/report/differences.ts";
import { openRunReader, type RunData, runReport, summaryOf } from "../../../core/report/mod.ts";
import { pace } from "../../../core/report/pace.ts";
import { withTempDir } from "../../support.ts";
import { requireWholeCharts } from "./pages.ts";
import { writeLongRun, writeRun } from "./runs.ts";

const writtenAt = new Date("2026-01-02T03:04:05Z");

/** A folder's run, with the texts of its report. */
async function reportOf(dir: string, name: string): Promise<{ data: RunData; text: string }> {
  const data = await openRunReader(join(dir, name))();
  return { data, text: runReport([data], { writtenAt }) };
}

Deno.test("report: a run's page has its curves, samples, checkpoints, config and environment", () =>
  withTempDir(async (dir) => {
    await writeRun(join(dir, "mine"), { steps: 3 });
    const { text, data } = await reportOf(dir, "mine");
    assert.deepEqual(requireWholeCharts(text), [
      ...["Loss", "Validation loss", "Bits per byte", "Learning rate", "Gradient norm", "Speed"],
      ...["Tokens by source", "Router shares", "Router entropy", "Dynamic routing entropy", "Tau"],
    ]);
    const sections = [...text.matchAll(/<section id="(\w+)"/g)].map(([, id]) => id);
    assert.deepEqual(sections, [
      ...["curves", "warnings", "samples", "averages", "checkpoints", "config", "environment"],
    ]);
    for (
      const part of [
        "branch 0 gets 0.010 of the weight",
        "To be, <b>or</b>".replaceAll("<", "&lt;").replaceAll(">", "&gt;"),
        "hidden_size: 8",
        "quern pretrain tiny",
        "an imagined device",
        "data/mine (sha256 cdcdcdcdcdcd…), held out 4",
        "step-3",
        "2026-01-02 03:04:05 UTC",
      ]
    ) assert.ok(text.includes(part), part);
    assert.ok(
      !text.includes("/home/somebody"),
      "where the data lie on a disk is nobody's business",
    );
    const { step, best, bitsPerByte, state } = summaryOf(data);
    assert.deepEqual({ step, best, bitsPerByte, state }, {
      step: 3,
      best: { loss: 2 / 3, step: 3 },
      bitsPerByte: 1,
      state: "done",
    });
  }));

Deno.test("report: hostile names and texts stay text", () =>
  withTempDir(async (dir) => {
    const evil = `</script><script>alert(1)</script><img src=x onerror="alert(2)">'`;
    const name = "a<img src=x onerror=alert(3)>b"; // a folder's name holds no slash
    await writeRun(join(dir, name), { steps: 3, text: evil, source: evil });
    const { text, data } = await reportOf(dir, name);
    const both = runReport([data, { ...data, name: evil }], { writtenAt });
    for (const page of [text, both]) {
      assert.equal([...page.matchAll(/<script>/g)].length, 2, "uPlot and the charts, no other");
      assert.ok(!/<img src=x/.test(page));
      assert.ok(!/<[^>]*\sonerror=/.test(page.replaceAll(/"[^"]*"/g, '""')));
      for (
        const [, json] of page.matchAll(/<script type="application\/json"[^>]*>(.*?)<\/script>/gs)
      ) {
        assert.ok(!json.includes("<"));
        JSON.parse(json);
      }
    }
  }));

Deno.test("report: whatever of a run is missing or half written, there is a page", () =>
  withTempDir(async (dir) => {
    const read = openRunReader(join(dir, "later"));
    const absent = await read();
    assert.equal(absent.state, "not there yet");
    assert.match(runReport([absent], { writtenAt }), /No step is logged yet/);
    await Deno.mkdir(join(dir, "later/checkpoints/step-5"), { recursive: true }); // it has no state yet
    await Deno.writeTextFile(
      join(dir, "later/metrics.jsonl"),
      '{"step":1,"loss":3}\nrubbish\n{"step":2,',
    );
    const begun = await read();
    assert.ok(begun.revision > absent.revision);
    assert.equal((await read()).revision, begun.revision);
    const text = runReport([begun], { writtenAt });
    assert.match(text, /1 line of metrics\.jsonl could not be read/);
    assert.deepEqual(requireWholeCharts(text), ["Loss"]);
    await Deno.writeTextFile(join(dir, "later/config.yaml"), "a: [1");
    await assert.rejects(read, { where: join(dir, "later/config.yaml") });
  }));

Deno.test("report: a loss that is not finite leaves a gap, and nothing else", () =>
  withTempDir(async (dir) => {
    await Deno.mkdir(join(dir, "run"));
    const lines = [1, 2, 3].map((step) => `{"step":${step},"loss":${step === 2 ? null : step}}\n`);
    await Deno.writeTextFile(join(dir, "run/metrics.jsonl"), lines.join(""));
    const { text, data } = await reportOf(dir, "run");
    const { lines: [{ y }] } = JSON.parse(text.match(/class="data">(.*?)<\/script>/s)![1]);
    assert.deepEqual(y, [1, null, 3]);
    assert.equal(summaryOf(data).loss, 3);
  }));

Deno.test("report: several runs share charts, by steps or by tokens, with results and differences", () =>
  withTempDir(async (dir) => {
    await writeRun(join(dir, "a/model"), { steps: 3 });
    await writeRun(join(dir, "b/model"), { steps: 4, hiddenSize: 16, rows: 2 });
    const runs = await Promise.all(
      ["a/model", "b/model"].map((run) => openRunReader(join(dir, run))()),
    );
    const text = runReport(runs, { writtenAt, by: "tokens" });
    requireWholeCharts(text);
    const [loss] = [...text.matchAll(/class="data">(.*?)<\/script>/gs)].map(([, json]) =>
      JSON.parse(json)
    );
    assert.equal(loss.x.label, "tokens");
    assert.deepEqual(loss.lines.map(({ name, x }: { name: string; x: number[] }) => [name, x]), [
      [join(dir, "a/model"), [100, 200, 300]], // runs of one name go by their folders
      [join(dir, "b/model"), [200, 400, 600, 800]],
    ]);
    const [, table] = text.match(/<section id="config".*?(<table>.*?<\/table>)/s)!;
    assert.match(table, /model\.hidden_size<\/th><td>8<\/td><td>16<\/td>/);
    assert.ok(!table.includes("kind"), "what is the same is left out");
  }));

Deno.test("report: configs differ by field; a field that one lacks, and lists of tables, too", () => {
  const found = differences([
    { a: 1, list: [1, 2], groups: [{ kind: "x" }], same: { deep: null } },
    { a: 1, list: [1, 3], groups: [{ kind: "y" }, { kind: "z" }], same: { deep: null }, more: "m" },
  ]);
  assert.deepEqual(found, [
    { path: "list", values: ["[1,2]", "[1,3]"] },
    { path: "groups.0.kind", values: ['"x"', '"y"'] },
    { path: "groups.1.kind", values: [undefined, '"z"'] },
    { path: "more", values: [undefined, '"m"'] },
  ]);
});

Deno.test("report: whatever one takes, a run spends less than 1 % of an hour on them, and writes one every 5 s at most", async () => {
  for (const cost_ms of [0, 20, 400, 6000]) {
    let now = 0, count = 0, spent = 0;
    const { isDue, spend } = pace(() => now);
    while (now < 3_600_000) {
      now += 300; // an update
      if (!isDue()) continue;
      count++;
      spent += cost_ms;
      await spend(() => Promise.resolve(void (now += cost_ms)));
    }
    assert.ok(count >= 3 && count <= 3600 / 5, `${count} of ${cost_ms} ms`);
    assert.ok(spent < 0.01 * now, `${spent} ms`);
  }
});

Deno.test("report: 100,000 logged steps are drawn in a page of bounded size, spikes and all", () =>
  withTempDir(async (dir) => {
    const { spikeAt } = await writeLongRun(join(dir, "long"));
    const { text: page } = await reportOf(dir, "long");
    assert.ok(page.length < 400_000, `${page.length} characters`);
    const [loss] = [...page.matchAll(/class="data">(.*?)<\/script>/gs)].map(([, json]) =>
      JSON.parse(json)
    );
    const [raw] = loss.lines;
    assert.equal(raw.y[raw.x.indexOf(spikeAt)], 99);
    requireWholeCharts(page);
  }));
