/**
 * Fused programs and lone ops in WASM against the plain loops in doubles, for odd shapes, strides,
 * types and splits.
 */

import fc from "fast-check";
import assert from "node:assert/strict";
import { sizeOf, spec } from "../../../core/graph/tensor.ts";
import {
  castOp,
  elementwiseOps,
  expandOp,
  fusedOp,
  type FusedProgram,
  type FusedStep,
  permuteOp,
  type ScalarName,
  sliceOp,
} from "../../../kernels/mod.ts";
import { denseStrides } from "../../../kernels/layout.ts";
import { maxLastOp, sumLastOp } from "../../../kernels/reduce.ts";
import { checkWasm, integers, load, plain, type Sample, sample } from "./harness.ts";

const sizes = [1, 3, 17, 65, 257];

/**
 * Sums of signs that cancel to about √n: the f32 roundings are measured against a sum that small.
 */
const sumTolerance = 1e-5;

Deno.test("fused: lone functions broadcast over odd shapes", () => {
  for (const n of sizes) {
    const x = sample([n, 5], 1), row = sample([5], 2), column = sample([n, 1], 3);
    checkWasm(elementwiseOps.add, [x, row], {}, 1e-7);
    checkWasm(elementwiseOps.mul, [column, x], {}, 1e-7);
    checkWasm(elementwiseOps.sub, [row, column], {}, 1e-7);
    checkWasm(elementwiseOps.max, [x, sample([], 4)], {}, 0);
    checkWasm(elementwiseOps.gelu, [sample([n], 5)], {}, 1e-6);
    checkWasm(elementwiseOps.where, [elementsOf([n, 5], (i) => i % 3), x, row], {}, 0);
  }
  checkWasm(elementwiseOps.exp, [sample([], 1)], {}, 1e-6);
  checkWasm(elementwiseOps.add, [sample([2, 5000], 1), sample([5000], 2)], {}, 1e-7); // blocks in rows
  checkWasm(elementwiseOps.add, [sample([3, 1, 4, 1, 2], 1), sample([7, 1, 6, 1], 2)], {}, 1e-7);
});

function elementsOf(shape: readonly number[], f: (i: number) => number): Sample {
  return { ...spec(shape), values: Float64Array.from({ length: sizeOf(shape) }, (_, i) => f(i)) };
}

Deno.test("fused: copies with strides, and casts", () => {
  for (const n of sizes) {
    checkWasm(permuteOp, [sample([n, 3, 17], 1)], { order: [1, 0, 2] }, 0);
    checkWasm(permuteOp, [sample([n, 3, 17], 1)], { order: [2, 1, 0] }, 0);
    checkWasm(permuteOp, [sample([n, 3, 17], 1, "bf16")], { order: [2, 0, 1] }, 0);
    checkWasm(permuteOp, [integers([n, 3], Array.from({ length: 3 * n }, (_, i) => i))], {
      order: [1, 0],
    }, 0);
    checkWasm(sliceOp, [sample([5, n + 3, 2], 2)], { axis: 1, start: 2, length: n }, 0);
    checkWasm(sliceOp, [sample([5, n + 3], 2)], { axis: 1, start: 1, length: n }, 0);
    checkWasm(expandOp, [sample([1, n, 1], 3)], { shape: [3, n, 5] }, 0);
    checkWasm(castOp, [sample([n], 4)], { dtype: "bf16" }, 2 ** -8);
    checkWasm(castOp, [sample([n], 4, "bf16")], { dtype: "f32" }, 0);
  }
});

Deno.test("fused: integers are moved, not computed with; f16 is left to the plain loop", () => {
  const ints = integers([4], [1, 2, 3, 4]);
  assert.ok(load(permuteOp, [ints], { order: [0] }));
  const half = { ...spec([4], "f16"), values: new Float64Array(4) };
  assert.equal(load(castOp, [half], { dtype: "f32" }), undefined);
});

Deno.test("fused: bf16 results are rounded to nearest even, NaN kept", () => {
  const values = [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8, 3.4e38, NaN, Infinity];
  const loaded = load(castOp, [elementsOf([7], (i) => values[i])], { dtype: "bf16" })!;
  loaded.run();
  assert.deepEqual([...loaded.outputs[0]], [1, 1, 1 + 2 ** -6, -1, Infinity, NaN, Infinity]);
});

Deno.test("fused: row sums and maxima, wide rows in chunks", () => {
  for (const n of [...sizes, 4096, 4113, 10_001]) {
    checkWasm(sumLastOp, [sample([3, n], n)], {}, sumTolerance);
    checkWasm(maxLastOp, [sample([3, n], n, "bf16")], {}, 0);
  }
  // 2²⁰ ones and a half each: a running f32 sum would be off by percents.
  const ones = elementsOf([1 << 20], (i) => Math.fround(i % 2 ? 1.1 : 0.4));
  checkWasm(sumLastOp, [ones], {}, sumTolerance);
});

Deno.test("fused: NaN in a row is its maximum and its sum", () => {
  for (const place of [0, 5, 16, 18]) {
    for (const op of [sumLastOp, maxLastOp]) {
      const loaded = load(op, [elementsOf([1, 19], (i) => i === place ? NaN : i)], {})!;
      loaded.run();
      assert.ok(Number.isNaN(loaded.outputs[0][0]));
    }
  }
});

function program(
  shape: number[],
  reads: number[][],
  steps: FusedStep[],
  outputs: [number, "element" | "row", ("f32" | "bf16")?][],
): FusedProgram {
  return {
    shape,
    accesses: reads.map((strides) => ({ strides, offset: 0 })),
    steps,
    outputs: outputs.map(([value, extent, dtype]) => ({
      value,
      extent,
      spec: spec(extent === "row" ? [...shape.slice(0, -1), 1] : shape, dtype),
    })),
  };
}

const input = (n: number): FusedStep => ({ op: "input", input: n });

/** softmax, with the row's maximum as a second output. */
const softmax = (shape: number[]) =>
  program(shape, [denseStrides(shape)], [
    input(0),
    { op: "reduce_max", args: [0] },
    { op: "sub", args: [0, 1] },
    { op: "exp", args: [2] },
    { op: "reduce_sum", args: [3] },
    { op: "div", args: [3, 4] },
  ], [[5, "element"], [1, "row"]]);

Deno.test("fused: softmax keeps its exponentials between passes", () => {
  for (const n of sizes) {
    checkWasm(fusedOp, [sample([5, n], n)], { program: softmax([5, n]) }, 1e-6);
    checkWasm(fusedOp, [sample([2, 3, n], n, "bf16")], { program: softmax([2, 3, n]) }, 1e-6);
  }
});

Deno.test("fused: masked scores get no weight", () => {
  const scores = elementsOf([2, 7], (i) => i % 7 > 4 ? -Infinity : i);
  const loaded = load(fusedOp, [scores], { program: softmax([2, 7]) })!;
  loaded.run();
  assert.deepEqual([...loaded.outputs[0].slice(5, 7)], [0, 0]);
  const sum = loaded.outputs[0].slice(0, 7).reduce((a, b) => a + b);
  assert.ok(Math.abs(sum - 1) < 1e-6);
});

Deno.test("fused: an output may take the place of an input", () => {
  const shape = [3, 50], dense = denseStrides(shape);
  const swap = program(shape, [dense, dense], [
    input(0),
    input(1),
    { op: "add", args: [0, 1] },
    { op: "sub", args: [0, 1] },
  ], [[2, "element"], [3, "element"]]);
  const x = sample(shape, 1), y = sample(shape, 2);
  const inPlace = {
    ...fusedOp,
    inplace: { 0: 0, 1: 1 },
  };
  checkWasm(inPlace, [x, y], { program: swap }, 1e-6);
});

// Functions that do not amplify errors much on (-1, 1), so that one tolerance serves a chain of
// them.
const tame: [ScalarName, number][] = [
  ["add", 2],
  ["sub", 2],
  ["mul", 2],
  ["max", 2],
  ["min", 2],
  ["neg", 1],
  ["abs", 1],
  ["square", 1],
  ["exp", 1],
  ["sin", 1],
  ["cos", 1],
  ["tanh", 1],
  ["erf", 1],
  ["sigmoid", 1],
  ["softplus", 1],
  ["silu", 1],
  ["gelu", 1],
  ["gelu_tanh", 1],
];

/**
 * A random program and its inputs. Values are squashed by tanh now and then, so that chains do not
 * explode.
 */
const programs = fc.record({
  shape: fc.array(fc.constantFrom(1, 2, 3, 5, 16, 33), { minLength: 1, maxLength: 3 }),
  reads: fc.array(
    fc.record({
      kept: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
      reversed: fc.boolean(),
      bf16: fc.boolean(),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  picks: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat(9)), {
    minLength: 1,
    maxLength: 12,
  }),
  bf16Out: fc.boolean(),
}).map(({ shape, reads, picks, bf16Out }) => {
  const inputs: Sample[] = [], accesses: FusedProgram["accesses"][number][] = [];
  reads.forEach(({ kept, reversed, bf16 }, n) => {
    const own = shape.map((size, axis) => kept[axis] ? size : 1);
    const order = own.map((_, axis) => reversed ? own.length - 1 - axis : axis);
    const stored = order.map((axis) => own[axis]), dense = denseStrides(stored);
    inputs.push(sample([...stored, 2], n + 1, bf16 ? "bf16" : "f32"));
    accesses.push({
      strides: own.map((size, axis) => size === 1 ? 0 : 2 * dense[order.indexOf(axis)]),
      offset: n % 2,
    });
    // Without an inner axis of two, reading is dense.
    if (n === 0) {
      inputs[0] = sample(stored, 1, bf16 ? "bf16" : "f32");
      accesses[0] = { strides: accesses[0].strides.map((s) => s / 2), offset: 0 };
    }
  });
  const steps: FusedStep[] = reads.map((_, n) => input(n));
  steps.push({ op: "constant", value: 0.75 });
  for (const [which, a, b, reduce] of picks) {
    const args = [a % steps.length, b % steps.length], [name, arity] = tame[which % tame.length];
    if (reduce === 0) {
      const sum = steps.push({ op: "reduce_sum", args: [args[0]] }) - 1;
      steps.push({ op: "tanh", args: [sum] });
    } else if (reduce === 1) steps.push({ op: "reduce_max", args: [args[0]] });
    else {
      const at = steps.push({ op: name, args: args.slice(0, arity) }) - 1;
      if (reduce < 5) steps.push({ op: "tanh", args: [at] });
    }
  }
  const last = steps.length - 1;
  const outputs: [number, "element" | "row", ("f32" | "bf16")?][] = [
    [last, "element", bf16Out ? "bf16" : "f32"],
    [reads.length, "element"],
  ];
  const reduced = steps.findLastIndex(({ op }) => op === "reduce_sum" || op === "reduce_max");
  if (reduced >= 0) outputs.push([reduced, "row"]);
  return { inputs, bf16Out, program: { ...program(shape, [], steps, outputs), accesses } };
});

Deno.test("fused: random programs agree with the plain loop", () => {
  fc.assert(
    fc.property(programs, ({ inputs, program, bf16Out }) => {
      // Chains of up to 12 functions, each a few units in the last place, some with slopes of 10;
      // bf16 keeps 8 bits.
      const tolerance = bf16Out ? 2 ** -8 + 1e-4 : 1e-4;
      checkWasm(fusedOp, inputs, { program }, tolerance);
      checkWasm(fusedOp, inputs, { program }, tolerance, { ...plain, relaxed: false });
    }),
    { numRuns: 400, seed: 5 },
  );
});
