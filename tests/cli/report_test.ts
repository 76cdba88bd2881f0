import assert from "node:assert/strict";
import { join } from "node:path";
import { requireWholeCharts } from "../core/report/pages.ts";
import { readEvents } from "../core/report/event_reader.ts";
import { startQuern, withTempDir } from "../support.ts";
import { attempt, makeProject, run, startTraining } from "./tiny_project.ts";

const set = (...fields: string[]) => fields.flatMap((field) => ["--set", field]);

Deno.test("report: a run that is killed and goes on has a report; runs are laid side by side", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const often = set("log_every=1", "checkpoint.every=2");
    const killed = [
      "tiny.yaml",
      "--out",
      "a",
      ...often,
      ...set("steps=1000000"),
      "--log",
      "tensorboard",
    ];
    const child = await startTraining(dir, killed, "checkpoint");
    child.kill("SIGKILL");
    await child.status;
    await child.stderr.cancel();
    await run(dir, "pretrain", "--resume", "a", ...set("steps=40"));
    const page = await Deno.readTextFile(join(dir, "a/report.html"));
    assert.match(page, /<dt>state<\/dt><dd>done/);
    assert.match(page, /went on from step \d+/);
    requireWholeCharts(page);

    // the config says that numbers go to TensorBoard, so the second session has its file, too
    const names = [...Deno.readDirSync(join(dir, "a/tensorboard"))].map(({ name }) => name).sort();
    const sessions = names.map((name) =>
      readEvents(Deno.readFileSync(join(dir, "a/tensorboard", name)))
    );
    assert.equal(sessions.length, 2);
    const records = (await Deno.readTextFile(join(dir, "a/metrics.jsonl"))).trim().split("\n").map((
      line,
    ) => JSON.parse(line));
    const losses = records.filter(({ loss }) => loss).map((
      { step, loss },
    ) => [step, Math.fround(loss)]);
    const restart = sessions[1][1].step!, told = new Map<number, number>();
    for (const [i, events] of sessions.entries()) {
      for (const { step, scalars = [] } of events) {
        const loss = scalars.find(([tag]) => tag === "loss")?.[1];
        if (loss !== undefined && (i === 1 || step! < restart)) told.set(step!, loss);
      }
    }
    assert.deepEqual([...told], losses);

    await run(dir, "pretrain", "tiny.yaml", "--out", "b", ...set("steps=6", "sequence_length=16"));
    const both = await run(
      dir,
      "report",
      "a",
      "b",
      "--by",
      "tokens",
      "--out",
      "both.html",
      "--json",
    );
    const { report, runs } = JSON.parse(both.stdout);
    assert.equal(report, "both.html");
    assert.deepEqual(
      runs.map(({ run, step, state }: Record<string, unknown>) => [run, step, state]),
      [
        ["a", 40, "done"],
        ["b", 6, "done"],
      ],
    );
    const comparison = await Deno.readTextFile(join(dir, "both.html"));
    assert.match(comparison, /<th scope="row">sequence_length<\/th><td>32<\/td><td>16<\/td>/);
    requireWholeCharts(comparison);

    await Deno.remove(join(dir, "b/report.html"));
    assert.equal((await run(dir, "report", "b")).stdout, `${join("b", "report.html")}\n`);
    assert.match(await Deno.readTextFile(join(dir, "b/report.html")), /^<!doctype html>/);
    const none = await attempt(dir, "report", "a", "data");
    assert.equal(none.code, 2);
    assert.equal(none.stderr, "error: data: not a run folder: it has no config.yaml\n");
  }));

Deno.test("watch: prints where it serves, and ends at Ctrl-C with browsers still open", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    const child = startQuern(["watch", "later"], { cwd: dir });
    const output = child.stdout.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
    const { value } = await output.next();
    const url = value!.trim();
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    const page = await (await fetch(url)).text();
    assert.match(page, /not there yet/);
    const events = await fetch(`${url}events`);
    child.kill("SIGINT");
    const { code } = await child.status;
    assert.equal(code, 0);
    await events.text().catch(() => {}); // the stream ends with the server
    assert.match(await new Response(child.stderr).text(), /^shows 1 run; Ctrl-C ends it\n/);
    await output.return?.();
  }));
