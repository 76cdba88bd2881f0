import assert from "node:assert/strict";
import { aggregate, influences, meanError, pool } from "../../../core/eval/results/aggregate.ts";
import type { Aggregation, Value } from "../../../core/eval/types.ts";
import { readJson } from "../../vectors.ts";

const close = (found: number, wanted: number, error = 1e-12) =>
  assert.ok(
    Math.abs(found - wanted) <= error * Math.max(1, Math.abs(wanted)),
    `${found} ${wanted}`,
  );

Deno.test("aggregate: means, errors, perplexity and groups are those of the specification", () => {
  const vectors = readJson<Record<string, never>>("spec/eval_tasks.json");
  const { scores, mean, stderr } = vectors.stderr as Record<string, never>;
  const found = aggregate(scores, "mean");
  close(found.value, mean);
  close(found.stderr, stderr);
  const { loglik, perplexity } = vectors.lambada as Record<string, never>;
  close(aggregate(loglik, "perplexity").value, perplexity);
  const { sizes, acc, weighted } = vectors.group_weighted_accuracy as Record<string, number[]>;
  const parts = sizes.map((count, i) => ({ value: acc[i], stderr: 0.01, count }));
  close(pool(parts).value, weighted as unknown as number);
});

Deno.test("aggregate: the pooled error is that of all documents by their variance within the parts", () => {
  const parts = [[1, 0, 1, 1, 0], [0, 0, 1], [1, 1, 0, 1, 1, 1, 0]];
  const squares = parts.map((values) => {
    const mean = values.reduce((a, b) => a + b) / values.length;
    return values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  });
  const count = parts.flat().length, variance = squares.reduce((a, b) => a + b) / (count - 3);
  const pooled = pool(parts.map((values) => aggregate(values, "mean")));
  close(pooled.stderr, Math.sqrt(variance / count));
  close(pooled.value, parts.flat().reduce<number>((a, b) => a + b, 0) / count);
  assert.ok(Number.isNaN(aggregate([1], "mean").stderr));
  assert.equal(pool([aggregate([1], "mean"), aggregate([0, 0], "mean")]).stderr, 0);
});

Deno.test("aggregate: what documents contribute is the slope of the number at their weights", () => {
  const plain = [-1.2, -0.3, -4, -2.2],
    weighted = plain.map((sum, i) => ({ sum, weight: 3 + i * i }));
  const cases: [Aggregation, readonly Value[]][] = [
    ["mean", plain],
    ["perplexity", plain],
    ["weighted_perplexity", weighted],
    ["bits_per_byte", weighted],
  ];
  for (const [how, values] of cases) {
    const n = values.length, step = 1e-5, found = influences(values, how);
    const mean = found.reduce((a, b) => a + b) / n;
    // a document that counts a little more moves the number by its contribution above the mean
    const value = (extra: number, at: number) => {
      const more = (x: Value, by: number): Value =>
        typeof x === "number"
          ? { sum: x * by, weight: by }
          : { sum: x.sum * by, weight: x.weight * by };
      return aggregate(values.map((x, i) => more(x, i === at ? 1 + extra : 1)), how).value;
    };
    found.forEach((x, at) => {
      const slope = (value(step, at) - value(-step, at)) / (2 * step);
      close(slope * n, x - mean, 1e-6);
    });
    close(aggregate(values, how).stderr, meanError(found));
  }
});
