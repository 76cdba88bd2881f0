/**
 * Random fused programs, of every form that the planner can make and some that it does not, against
 * the plain loop.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Dtype, normals, philox, sizeOf, type Spec } from "../../core/graph/mod.ts";
import { openWebgpu, webgpuTarget } from "../../core/device/webgpu/mod.ts";
import {
  type Access,
  denseStrides,
  extentsOf,
  fusedOp,
  type FusedProgram,
  type FusedStep,
  type ScalarName,
} from "../../kernels/mod.ts";
import { webgpuTest } from "../support.ts";
import { disagreements } from "./agreement.ts";
import type { Case, InputCase } from "./cases.ts";

type Roll = (sides: number) => number;

const unary: ScalarName[] = ["neg", "abs", "tanh", "sigmoid", "silu", "relu", "sin", "softplus"];
const binary: ScalarName[] = ["add", "sub", "mul", "max", "min"];
const sizes = [1, 2, 3, 4, 5, 8, 17, 65];

function pickFrom<T>(roll: Roll, list: readonly T[]): T {
  return list[roll(list.length)];
}

/**
 * A tensor that `shape` can be read from: dense, broadcast, with axes in another order, or a part
 * of a longer one.
 */
function source(roll: Roll, shape: readonly number[]): { spec: Spec; access: Access } {
  const dtype = pickFrom<Dtype>(roll, ["f32", "f32", "bf16", "f16"]);
  const kept = shape.map(() => roll(4) > 0);
  const order = shape.map((_, axis) => axis);
  if (roll(3) === 0) order.reverse();
  const extra = roll(4) === 0 ? 1 : 0; // one more at the front of the slowest axis, skipped
  const stored = order.map((axis) => kept[axis] ? shape[axis] : 1);
  if (stored.length > 0) stored[0] += extra;
  const dense = denseStrides(stored), strides = new Array<number>(shape.length).fill(0);
  order.forEach((axis, place) => strides[axis] = kept[axis] ? dense[place] : 0);
  return {
    spec: { shape: stored, dtype },
    access: { strides, offset: stored.length > 0 ? extra * dense[0] : 0 },
  };
}

function randomProgram(seed: number): { program: FusedProgram; inputs: Spec[] } {
  let at = 0;
  const roll: Roll = (sides) => philox(at++, 1, 2, 3, seed, 0)[0] % sides;
  const shape = Array.from({ length: 1 + roll(3) }, () => pickFrom(roll, sizes));
  const sources = Array.from({ length: 1 + roll(3) }, () => source(roll, shape));
  const steps: FusedStep[] = sources.map((_, i) => ({ op: "input", input: i }));
  let reductions = roll(2) * (1 + roll(3));
  for (let i = 0; i < 3 + roll(8); i++) {
    const arg = () =>
      roll(2) ? steps.length - 1 - roll(Math.min(3, steps.length)) : roll(steps.length);
    const kind = roll(10);
    if (kind === 0) steps.push({ op: "constant", value: roll(7) / 2 - 1.5 });
    else if (kind <= 3 && reductions-- > 0) {
      const summed = steps.push({
        op: pickFrom(roll, ["reduce_sum", "reduce_max"]),
        args: [arg()],
      });
      steps.push({ op: "tanh", args: [summed - 1] }); // keeps long sums from growing
    } else if (kind <= 6) steps.push({ op: pickFrom(roll, unary), args: [arg()] });
    else steps.push({ op: pickFrom(roll, binary), args: [arg(), arg()] });
  }
  const bare: FusedProgram = { shape, accesses: sources.map((s) => s.access), steps, outputs: [] };
  const extents = extentsOf(bare);
  const outputs = Array.from({ length: 1 + roll(3) }, (_, o) => {
    const value = o === 0 ? steps.length - 1 : roll(steps.length);
    const row = extents[value] === "row" && roll(2) === 0;
    const dtype = pickFrom<Dtype>(roll, ["f32", "f32", "bf16", "f16"]);
    return {
      value,
      extent: row ? "row" as const : "element" as const,
      spec: { shape: row ? [...shape.slice(0, -1), 1] : shape, dtype },
    };
  });
  return { program: { ...bare, outputs }, inputs: sources.map(({ spec }) => spec) };
}

const rounders: Record<Dtype, (x: number) => number> = {
  f32: Math.fround,
  // Few digits, so that every type holds the values exactly.
  bf16: (x) => Math.round(x * 16) / 16,
  f16: (x) => Math.round(x * 16) / 16,
  i32: Math.round,
  u32: Math.round,
};

function caseOf(seed: number): Case {
  const { program, inputs } = randomProgram(seed);
  return {
    name: `seed ${seed}, ${program.steps.map(({ op }) => op).join(" ")} over [${program.shape}]`,
    op: fusedOp,
    attrs: { program },
    inputs: inputs.map((spec): InputCase => ({
      ...spec,
      values: (count, s) =>
        Array.from(normals(s + seed, "fused", count), (x) => rounders[spec.dtype](Math.tanh(x))),
    })),
    // Up to ten operations on sums of 65 terms; products of them grow the error with the value.
    tolerance: 5e-5,
  };
}

webgpuTest("webgpu: random fused programs agree with the plain loop", async (t) => {
  await using device = await openWebgpu();
  for (let group = 0; group < 6; group++) {
    await t.step(`seeds ${group * 16} to ${group * 16 + 15}`, async () => {
      const cases = Array.from({ length: 16 }, (_, i) => caseOf(group * 16 + i));
      assert.ok(cases.every(({ inputs }) => inputs.every(({ shape }) => sizeOf(shape) > 0)));
      assert.deepEqual(await disagreements(device, cases), []);
      const points = webgpuTarget(device.target.limits, { fused: "points" });
      assert.deepEqual(await disagreements(device, cases, points), []);
    });
  }
});

webgpuTest("webgpu: text and pipelines of a program do not depend on its sizes", async () => {
  await using device = await openWebgpu();
  const texts = [[3, 40], [7, 60]].map((shape) => {
    const access = { strides: denseStrides(shape), offset: 0 };
    const program: FusedProgram = {
      shape,
      accesses: [access],
      steps: [
        { op: "input", input: 0 },
        { op: "reduce_sum", args: [0] },
        { op: "constant", value: 1 / shape[1] },
        { op: "mul", args: [1, 2] },
        { op: "sub", args: [0, 3] },
      ],
      outputs: [{ value: 4, extent: "element", spec: { shape, dtype: "f32" } }],
    };
    const context = {
      inputs: [{ shape, dtype: "f32" as const }],
      outputs: [{ shape, dtype: "f32" as const }],
      attrs: { program },
    };
    return device.target.lower(fusedOp, context).lowered.passes[0].wgsl;
  });
  assert.equal(texts[0], texts[1]);
});
