import assert from "node:assert/strict";
import { join } from "node:path";
import { meanError } from "../../../core/eval/results/aggregate.ts";
import { compareResults } from "../../../core/eval/results/compare.ts";
import { comparisonPage } from "../../../core/eval/results/comparison_page.ts";
import { readResults } from "../../../core/eval/results/results_file.ts";
import { withTempDir } from "../../support.ts";

const a = [1, 0, 1, 1, 0, 0], b = [1, 1, 1, 1, 0, 1];

async function write(
  folder: string,
  values: readonly number[],
  docs = values.map((_, i) => ({ i })),
) {
  await Deno.mkdir(folder);
  const mean = values.reduce((x, y) => x + y) / values.length, stderr = meanError(values);
  const row = { alias: "t", "acc,none": mean, "acc_stderr,none": stderr };
  const results = {
    results: { t: row, g: { ...row, alias: "g" } },
    group_subtasks: { g: ["t"] },
    aggregation: { t: { "acc,none": "mean" } },
    higher_is_better: { t: { acc: true } },
  };
  await Deno.writeTextFile(join(folder, "results.json"), JSON.stringify(results));
  const samples = values.map((value, doc_id) => ({
    doc_id,
    doc: docs[doc_id],
    metrics: { "acc,none": value },
  }));
  await Deno.writeTextFile(
    join(folder, "samples_t.jsonl"),
    samples.map((s) => `${JSON.stringify(s)}\n`).join(""),
  );
}

Deno.test("compare: documents are paired where both have the same, so that the error is of their differences", () =>
  withTempDir(async (dir) => {
    const [first, second, other] = ["a", "b", "c"].map((name) => join(dir, name));
    await write(first, a);
    await write(second, b);
    await write(other, b, b.map((_, i) => ({ i: i + 1 })));
    const [one, two, three] = [
      await readResults(first),
      await readResults(join(second, "results.json")),
      await readResults(other),
    ];
    const [paired, group] = await compareResults(one, two);
    assert.ok(Math.abs(paired.delta - 2 / 6) < 1e-12);
    assert.ok(Math.abs(paired.stderr - meanError(a.map((x, i) => b[i] - x))) < 1e-15);
    assert.deepEqual([paired.by, paired.documents, paired.higher_is_better], ["paired", 6, true]);
    assert.deepEqual([group.task, group.by, group.stderr], ["g", "paired", paired.stderr]);
    const [apart] = await compareResults(one, three);
    assert.equal(apart.by, "independent");
    assert.equal(apart.stderr, Math.hypot(meanError(a), meanError(b)));
    await Deno.remove(join(second, "samples_t.jsonl"));
    assert.equal((await compareResults(one, two))[0].by, "independent");
    const page = comparisonPage([paired, group], ["base <1>", "tuned"]);
    assert.match(page, /base &lt;1&gt;/);
    assert.match(page, /Differences/);
    await assert.rejects(
      compareResults(one, { ...two, results: { u: {} } }),
      /no task and metric in common/,
    );
    await assert.rejects(readResults(dir), /there are no results/);
    await Deno.writeTextFile(join(dir, "results.json"), "{}");
    await assert.rejects(readResults(dir), /not a results\.json of quern or the harness/);
  }));
