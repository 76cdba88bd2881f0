/**
 * A fused chain: element-wise functions with their broadcasts, casts, strided reads and row
 * reductions, as one kernel. Programs are made by the planner (`core/plan/fuse.ts`), never by hand;
 * devices print WGSL and WASM from them.
 */

import { type Attrs, type Dtype, type Numbers, sizeOf, type Spec } from "../core/graph/mod.ts";
import { denseStrides } from "./layout.ts";
import { forEachStrided, type ScalarName, scalars } from "./elementwise.ts";
import { bytesPerElement, defineOp, type Kernel } from "./lowering.ts";
import { fusedKernels } from "./webgpu/fused.ts";
import { programWasm } from "./wasm/fused.ts";

/**
 * How an input is read: element strides for each axis of the iteration space (0 repeats) after a
 * first offset.
 */
export interface Access {
  readonly strides: readonly number[];
  readonly offset: number;
  /** Which of the node's inputs is read; left out: the one at the access's own place. */
  readonly from?: number;
}

/** For each access of a program the node's input that it reads. */
export function sourcesOf({ accesses }: FusedProgram): number[] {
  return accesses.map(({ from }, i) => from ?? i);
}

/**
 * One value of the program. Values are numbered by their place in `steps`; arguments come before
 * users.
 */
export type FusedStep =
  /** `input` is the place of an access. */
  | { readonly op: "input"; readonly input: number }
  | { readonly op: "constant"; readonly value: number }
  | { readonly op: "reduce_sum" | "reduce_max"; readonly args: readonly [number] }
  | { readonly op: ScalarName; readonly args: readonly number[] };

export interface FusedProgram {
  /**
   * Iteration space, row-major. The last axis is the row that reductions run over. Never empty; a
   * scalar is [1].
   */
  readonly shape: readonly number[];
  readonly accesses: readonly Access[];
  readonly steps: readonly FusedStep[];
  /**
   * What is written: `element` outputs have one value for each point of `shape`, dense; `row`
   * outputs one for each row (their value must be the same along the row: reductions, and what is
   * made of them).
   */
  readonly outputs: readonly {
    readonly value: number;
    readonly extent: "element" | "row";
    readonly spec: Spec;
  }[];
}

/**
 * `row` for values that are the same along a row because they come from reductions, constants or
 * inputs of stride 0.
 */
export function extentsOf(program: FusedProgram): ("element" | "row")[] {
  const extents: ("element" | "row")[] = [];
  for (const step of program.steps) {
    if (step.op === "constant" || step.op === "reduce_sum" || step.op === "reduce_max") {
      extents.push("row");
    } else if (step.op === "input") {
      extents.push(program.accesses[step.input].strides.at(-1) === 0 ? "row" : "element");
    } else extents.push(step.args.some((arg) => extents[arg] === "element") ? "element" : "row");
  }
  return extents;
}

/**
 * For each step the number of reductions that must be complete before it can be computed. Programs
 * run phase by phase.
 */
export function phasesOf(program: FusedProgram): number[] {
  const phases: number[] = [];
  for (const step of program.steps) {
    if (step.op === "input" || step.op === "constant") phases.push(0);
    else {
      const needed = Math.max(0, ...step.args.map((arg) => phases[arg]));
      phases.push(step.op === "reduce_sum" || step.op === "reduce_max" ? needed + 1 : needed);
    }
  }
  return phases;
}

export const fusedOp: Kernel = defineOp({
  name: "fused",
  check: (_: readonly Spec[], attrs: Attrs) =>
    (attrs.program as FusedProgram).outputs.map(({ spec }) => spec),
  reference(inputs, outputs, { attrs }) {
    runProgram(attrs.program as FusedProgram, inputs, outputs);
  },
  kernels: fusedKernels,
  wasm: (node, target) => programWasm(node.attrs.program as FusedProgram, node, target),
  cost: ({ inputs, outputs, attrs }) => {
    const program = attrs.program as FusedProgram, points = sizeOf(program.shape);
    const extents = extentsOf(program), rows = points / program.shape.at(-1)!;
    const flops = program.steps.reduce((sum, step, i) => {
      if (step.op === "input" || step.op === "constant") return sum;
      if (step.op === "reduce_sum" || step.op === "reduce_max") return sum + points;
      return sum + scalars[step.op].flops * (extents[i] === "element" ? points : rows);
    }, 0);
    const size = ({ shape, dtype }: Spec) => sizeOf(shape) * bytesPerElement(dtype);
    return { flops, bytes: [...inputs, ...outputs].reduce((sum, x) => sum + size(x), 0) };
  },
});

/** The plain loop: every step over the whole space, one after another. */
export function runProgram(
  { shape, accesses, steps, outputs: results }: FusedProgram,
  inputs: readonly Numbers[],
  outputs: readonly Numbers[],
): void {
  const points = sizeOf(shape), width = shape.at(-1)!;
  const values: Float64Array[] = [];
  // Storage decides the rounding between steps, as it would between the ops that were fused.
  const round = outputs.some((out) => out instanceof Float64Array) ? (x: number) => x : Math.fround;
  for (const step of steps) {
    const value = new Float64Array(points);
    if (step.op === "constant") value.fill(step.value);
    else if (step.op === "input") {
      const { strides, offset, from: source = step.input } = accesses[step.input];
      const from = inputs[source];
      forEachStrided(shape, [strides], ([at], i) => value[i] = from[offset + at]);
    } else if (step.op === "reduce_sum" || step.op === "reduce_max") {
      const [x] = step.args.map((arg) => values[arg]);
      for (let row = 0; row < points; row += width) {
        let sum = step.op === "reduce_sum" ? 0 : -Infinity;
        for (let i = row; i < row + width; i++) {
          sum = step.op === "reduce_sum" ? sum + x[i] : Math.max(sum, x[i]);
        }
        value.fill(round(sum), row, row + width);
      }
    } else {
      const args = step.args.map((arg) => values[arg]),
        f = scalars[step.op].f as (...x: number[]) => number;
      for (let i = 0; i < points; i++) value[i] = round(f(...args.map((arg) => arg[i])));
    }
    values.push(value);
  }
  results.forEach(({ value, extent }, o) => {
    const stride = extent === "row" ? width : 1;
    for (let i = 0; i < outputs[o].length; i++) outputs[o][i] = values[value][i * stride];
  });
}

/** The program of a lone strided copy or cast. */
export function copyProgram(shape: readonly number[], access: Access, dtype: Dtype): FusedProgram {
  return {
    shape: shape.length === 0 ? [1] : shape,
    accesses: [shape.length === 0 ? { ...access, strides: [0] } : access],
    steps: [{ op: "input", input: 0 }],
    outputs: [{ value: 0, extent: "element", spec: { shape, dtype } }],
  };
}

/** Dense reading of a tensor of the program's own shape. */
export function denseAccess(shape: readonly number[]): Access {
  return { strides: denseStrides(shape), offset: 0 };
}
