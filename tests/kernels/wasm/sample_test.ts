/** Sampling in WASM, which searches for its thresholds, against the plain loop, which sorts. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { spec } from "../../../core/graph/tensor.ts";
import { sampleOp } from "../../../kernels/mod.ts";
import { checkWasm, load, type Sample, sample } from "./harness.ts";

const numbers = (...values: number[]): Sample => ({
  ...spec([values.length]),
  values: Float64Array.from(values, Math.fround),
});

/** Logits [batch, vocab] of a spread like a model's. */
function logits(batch: number, vocab: number, seed: number, dtype: "f32" | "bf16" = "f32"): Sample {
  const x = sample([batch, vocab], seed, dtype);
  return { ...x, values: x.values.map((v) => 8 * v) };
}

// Tokens are whole numbers below 1,000, so 1e-5 of the largest tells them apart; log-probabilities
// round to about 1e-6.
const tolerance = 1e-5;

Deno.test("sample: any settings, odd vocabularies", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 3, 17, 65, 257, 999),
      fc.constantFrom(0, 0.3, 1, 2.5),
      fc.constantFrom(0, 1, 2, 5, 50, 5000),
      fc.constantFrom(0.05, 0.5, 0.9, 0.999, 1),
      fc.constantFrom(0, 0, 0.02, 0.3, 1),
      fc.nat(1000),
      (vocab, temperature, top_k, top_p, min_p, seed) => {
        const u = sample([4], seed + 1).values.map((v) => Math.fround((v + 1) / 2));
        const settings = numbers(temperature, top_k, top_p, min_p);
        const inputs = [logits(4, vocab, seed), numbers(...u), settings];
        checkWasm(sampleOp, inputs, {}, tolerance);
      },
    ),
    { numRuns: 300, seed: 3 },
  );
});

Deno.test("sample: ties at a threshold are kept, the first of equals is the likeliest", () => {
  const row = [1, 5, 3, 5, 3, 3, -Infinity, 0, -0];
  const cuts = [[0, 0, 1, 0], [1, 2, 1, 0], [1, 3, 1, 0], [1, 0, 0.4, 0], [1, 0, 0.8, 0]];
  for (const settings of [...cuts, [1, 8, 1, 0], [1, 0, 1, 1], [1, 0, 1, 0.1], [2, 0, 0.9, 0.3]]) {
    for (const u of [0.01, 0.3, 0.49, 0.7, 0.999]) {
      const x: Sample = { ...spec([1, row.length]), values: Float64Array.from(row) };
      checkWasm(sampleOp, [x, numbers(u), numbers(...settings)], {}, tolerance);
    }
  }
});

Deno.test("sample: logits in bf16; a row that is not a number still ends", () => {
  checkWasm(
    sampleOp,
    [logits(2, 65, 1, "bf16"), numbers(0.2, 0.7), numbers(1, 9, 0.9, 0)],
    {},
    1e-5,
  );
  const row: Sample = { ...spec([1, 33]), values: new Float64Array(33).fill(NaN) };
  const loaded = load(sampleOp, [row, numbers(0.5), numbers(1, 5, 0.9, 0.1)], {})!;
  loaded.run();
  const [token] = loaded.outputs[0];
  assert.ok(token >= 0 && token < 33);
});
