/** The row kernels in WASM against the plain loops in doubles, for odd sizes and splits. */

import assert from "node:assert/strict";
import { philox, unitInterval } from "../../../core/graph/random.ts";
import { spec } from "../../../core/graph/tensor.ts";
import {
  adamWOp,
  addIntegerOp,
  cacheWriteOp,
  concatOp,
  embeddingGradOp,
  embeddingOp,
  globalNormOp,
  layerNormGradOp,
  layerNormOp,
  positionsOp,
  rmsNormGradOp,
  rmsNormOp,
  ropeOp,
  sumLeadingOp,
  toFloatOp,
  tokenListsOp,
  uniformOp,
} from "../../../kernels/mod.ts";
import { storingHalves } from "../cases/case.ts";
import { checkWasm, integers, load, type Sample, sample } from "./harness.ts";

const sizes = [1, 3, 17, 65, 257];

// Row sums round to about 1e-6 of their terms; gradients of gains are sums of hundreds of signs
// that partly cancel.
const rowTolerance = 5e-6, columnTolerance = 2e-5;

Deno.test("norms: forward and backward, with and without gain", () => {
  const attrs = { eps: 1e-6 };
  for (const n of sizes) {
    for (const rows of [1, 5, 65]) {
      const x = sample([rows, n], 1), dy = sample([rows, n], 2), gain = sample([n], 3);
      const bias = sample([n], 4);
      checkWasm(rmsNormOp, [x], attrs, rowTolerance);
      checkWasm(rmsNormOp, [x, gain], attrs, rowTolerance);
      checkWasm(storingHalves(rmsNormOp, [0]), [x, gain], attrs, rowTolerance);
      if (n === 1) continue; // of one channel eps alone is left: differences that cancel, on both sides
      checkWasm(rmsNormGradOp, [x, dy], attrs, rowTolerance);
      checkWasm(rmsNormGradOp, [x, dy, gain], attrs, columnTolerance);
      checkWasm(layerNormOp, [x], attrs, rowTolerance);
      checkWasm(layerNormOp, [x, gain], attrs, rowTolerance);
      checkWasm(layerNormOp, [x, gain, bias], attrs, rowTolerance);
      checkWasm(layerNormGradOp, [x, dy], attrs, columnTolerance);
      checkWasm(layerNormGradOp, [x, dy, gain], attrs, columnTolerance);
    }
  }
  checkWasm(rmsNormOp, [sample([2, 3, 64], 1, "bf16"), sample([64], 2, "bf16")], attrs, 5e-6);
});

Deno.test("sum_leading: few and many rows and columns", () => {
  for (const shape of [[3, 5], [300, 1], [300, 3], [257, 17], [1000, 65], [2, 5001], [50, 4100]]) {
    checkWasm(sumLeadingOp, [sample(shape, 1)], { axes: 1 }, columnTolerance);
    checkWasm(sumLeadingOp, [sample(shape, 1, "bf16")], { axes: 1 }, columnTolerance);
  }
  checkWasm(sumLeadingOp, [sample([7, 9, 33], 1)], { axes: 2 }, columnTolerance);
});

const numbers = (...values: number[]): Sample => ({
  ...spec([values.length]),
  values: Float64Array.from(values, Math.fround),
});
const scalar = (value: number): Sample => ({ ...numbers(value), shape: [] });

Deno.test("rope: both layouts, all or part of the head, both directions", () => {
  for (const layout of ["half", "interleaved"]) {
    for (const [rotary_dim, width] of [[2, 2], [6, 6], [6, 11], [16, 16], [10, 32]]) {
      for (const dtype of ["f32", "bf16"] as const) {
        const x = sample([2, 5, 3, width], 1, dtype), table = [7, rotary_dim / 2];
        const positions = integers([2, 5], [0, 1, 2, 3, 4, 6, 7, -1, 2, 3]); // two outside the table
        const inputs = [x, positions, sample(table, 2), sample(table, 3)];
        for (const direction of [1, -1]) {
          checkWasm(ropeOp, inputs, { layout, rotary_dim, direction }, 1e-6);
          checkWasm(storingHalves(ropeOp, [0]), inputs, { layout, rotary_dim, direction }, 1e-6);
        }
      }
    }
  }
});

Deno.test("embedding: rows are copied, ids outside the table give zeros", () => {
  for (const width of sizes) {
    const ids = integers([3, 3], [0, 4, 2, -1, 5, 4, 4, 1, 0]);
    checkWasm(embeddingOp, [sample([5, width], 1), ids], {}, 0);
    checkWasm(embeddingOp, [sample([5, width], 1, "bf16"), ids], {}, 0);
    const starts = new Int32Array(6), order = new Int32Array(9), attrs = { rows: 5 };
    const lists = { inputs: [ids], outputs: tokenListsOp.check([ids], attrs), attrs };
    tokenListsOp.reference([Int32Array.from(ids.values)], [starts, order], lists);
    const dy = sample([3, 3, width], 2);
    checkWasm(embeddingGradOp, [dy, integers([6], starts), integers([9], order)], attrs, 1e-6);
  }
});

Deno.test("concat and cache_write: elements are only moved", () => {
  for (const n of sizes) {
    checkWasm(concatOp, [sample([3, n], 1), sample([3, 2], 2), sample([3, 1], 3)], { axis: 1 }, 0);
    checkWasm(concatOp, [sample([n, 2, 3], 1), sample([4, 2, 3], 2)], { axis: 0 }, 0);
    const cache = sample([2, 5, 3, n], 1), rows = sample([2, 2, 3, n], 2);
    for (const starts of [[0, 3], [4, -1]]) {
      const start = integers([2], starts);
      checkWasm(cacheWriteOp, [cache, rows, start], {}, 0);
      checkWasm({ ...cacheWriteOp, inplace: undefined }, [cache, rows, start], {}, 0);
      const half = sample([2, 5, 3, n], 3, "bf16");
      checkWasm({ ...cacheWriteOp, inplace: undefined }, [half, rows, start], {}, 2 ** -8);
    }
  }
});

Deno.test("add_integer, to_float and positions", () => {
  checkWasm(addIntegerOp, [integers([5], [0, -3, 7, 100, 2])], { by: -2 }, 0);
  checkWasm(toFloatOp, [integers([5], [0, -3, 7, -100, 2])], {}, 0);
  checkWasm(positionsOp, [integers([3], [0, 5, 9])], { time: 4 }, 0);
});

Deno.test("adamw: parameters and moments in place; a closed gate changes nothing", () => {
  const attrs = { eps: 1e-8, decay: 1 };
  const hyper = numbers(3e-3, 0.1, 0.05, 0.9, 0.1, 0.95, 0.05, 7, 0.1);
  for (const n of [...sizes, 5000]) {
    const [param, grad, m] = [1, 2, 3].map((seed) => sample([n], seed));
    const v = { ...spec([n]), values: sample([n], 4).values.map(Math.abs) };
    checkWasm(adamWOp, [param, grad, m, v, hyper, numbers(0.25, 1)], attrs, 2e-6);
    const broken = { ...spec([n]), values: grad.values.map(() => NaN) };
    checkWasm(adamWOp, [param, broken, m, v, hyper, numbers(0, 0)], attrs, 0);
  }
});

Deno.test("global_norm: many gradients, the clip, and what is not finite", () => {
  const grads = [...sizes, 4096, 5000].map((n, seed) => sample([n], seed + 1));
  for (const limit of [0, 0.5, 1e6]) {
    checkWasm(globalNormOp, [scalar(7), scalar(limit), ...grads], {}, 1e-6);
  }
  for (const bad of [NaN, Infinity, 1e25]) { // the last one's square is infinite
    for (const place of [0, 4096, 4999]) {
      const spoilt = { ...grads[6], values: grads[6].values.with(place, bad) };
      const loaded = load(globalNormOp, [scalar(7), scalar(1), ...grads.slice(0, 6), spoilt], {})!;
      loaded.run(3);
      assert.deepEqual([...loaded.outputs[1]], [0, 0]);
    }
  }
});

Deno.test("uniform: the bits of the plain generator, at any size", () => {
  for (const n of [...sizes, 16, 8191]) {
    const key = { ...spec([3], "u32"), values: Float64Array.of(0xfedcba98, 0x12345678, 9) };
    const loaded = load(uniformOp, [key], { shape: [n], stream: 0xdeadbeef })!;
    for (const members of [1, 3]) {
      loaded.run(members);
      loaded.assertInside();
      loaded.outputs[0].forEach((found, i) => {
        const words = philox(i >> 2, 9, 0xdeadbeef, 0, 0xfedcba98, 0x12345678);
        assert.equal(found, unitInterval(words[i % 4]));
      });
    }
  }
});
