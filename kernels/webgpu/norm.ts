/** The norms as row programs, and the sums over rows that their gains' gradients need. */

import { type OpContext, sizeOf, type Spec } from "../../core/graph/mod.ts";
import { columnSumPasses, columnSumScratch } from "./column_sums.ts";
import type { FusedProgram, FusedStep } from "../fused.ts";
import { fusedPasses } from "./fused.ts";
import { type GpuKernel, input, output, scratch } from "../lowering.ts";
import type { ScalarName } from "../elementwise.ts";

/** Writes a program step by step; every call returns the step's number. */
class Program {
  readonly steps: FusedStep[] = [];
  readonly #outputs: FusedProgram["outputs"][number][] = [];
  readonly rows: number;
  readonly width: number;

  constructor(x: Spec) {
    this.width = x.shape.at(-1)!;
    this.rows = sizeOf(x.shape) / this.width;
  }

  input = (at: number): number => this.#push({ op: "input", input: at });
  constant = (value: number): number => this.#push({ op: "constant", value });
  sum = (x: number): number => this.#push({ op: "reduce_sum", args: [x] });
  f = (op: ScalarName, ...args: number[]): number => this.#push({ op, args });
  mean = (x: number): number => this.f("mul", this.sum(x), this.constant(1 / this.width));
  /** 1 / √(x + eps) */
  inverseRoot = (x: number, eps: number): number =>
    this.f("rsqrt", this.f("add", x, this.constant(eps)));

  element(value: number): void {
    const shape = [this.rows, this.width];
    this.#outputs.push({ value, extent: "element", spec: { shape, dtype: "f32" } });
  }

  row(value: number): void {
    this.#outputs.push({ value, extent: "row", spec: { shape: [this.rows], dtype: "f32" } });
  }

  /**
   * With the first `dense` inputs of the program's shape and the others one value for each channel.
   */
  finish(dense: number, inputs: number): FusedProgram {
    return {
      shape: [this.rows, this.width],
      accesses: Array.from({ length: inputs }, (_, i) => ({
        strides: [i < dense ? this.width : 0, 1],
        offset: 0,
      })),
      steps: this.steps,
      outputs: this.#outputs,
    };
  }

  #push(step: FusedStep): number {
    return this.steps.push(step) - 1;
  }
}

const epsOf = ({ attrs }: OpContext) => attrs.eps as number;

export const rmsNormKernel: GpuKernel = {
  name: "rows",
  passes(node) {
    const p = new Program(node.inputs[0]), x = p.input(0);
    const unit = p.f("mul", x, p.inverseRoot(p.mean(p.f("square", x)), epsOf(node)));
    p.element(node.inputs.length > 1 ? p.f("mul", unit, p.input(1)) : unit);
    return fusedPasses(p.finish(1, node.inputs.length));
  },
};

export const layerNormKernel: GpuKernel = {
  name: "rows",
  passes(node) {
    const p = new Program(node.inputs[0]), x = p.input(0);
    const centred = p.f("sub", x, p.mean(x));
    const unit = p.f("mul", centred, p.inverseRoot(p.mean(p.f("square", centred)), epsOf(node)));
    const scaled = node.inputs.length > 1 ? p.f("mul", unit, p.input(1)) : unit;
    p.element(node.inputs.length > 2 ? p.f("add", scaled, p.input(2)) : scaled);
    return fusedPasses(p.finish(1, node.inputs.length));
  },
};

const sizesOf = ({ inputs: [x] }: OpContext) => {
  const columns = x.shape.at(-1)!;
  return { rows: sizeOf(x.shape) / columns, columns };
};
const rowScratch = (node: OpContext): Spec => ({ shape: [sizesOf(node).rows], dtype: "f32" });

/** Scratch: each row's inverse, then partial sums. */
export const rmsNormGradKernel: GpuKernel = {
  name: "rows and columns",
  scratch(node) {
    const { rows, columns } = sizesOf(node);
    return node.outputs.length > 1 ? [rowScratch(node), ...columnSumScratch(rows, columns, 1)] : [];
  },
  passes(node) {
    const gained = node.outputs.length > 1;
    const p = new Program(node.inputs[0]), x = p.input(0), dy = p.input(1);
    const inverse = p.inverseRoot(p.mean(p.f("square", x)), epsOf(node));
    const slope = gained ? p.f("mul", dy, p.input(2)) : dy;
    const cube = p.f("mul", inverse, p.f("square", inverse));
    const pull = p.f("mul", p.mean(p.f("mul", x, slope)), cube);
    p.element(p.f("sub", p.f("mul", slope, inverse), p.f("mul", x, pull)));
    if (gained) p.row(inverse);
    const inputs = node.inputs.map((_, i) => input(i));
    const rowsPass = fusedPasses(p.finish(2, inputs.length), {
      inputs,
      outputs: [output(0), ...(gained ? [scratch(0)] : [])],
    });
    if (!gained) return rowsPass;
    const gains = columnSumPasses({
      ...sizesOf(node),
      terms: [`fn term0(row: u32, column: u32) -> f32 {
  let i = row * params.columns + column;
  return load_dy(i) * load_x(i) * load_inverse(row);
}`],
      bindings: { x: input(0), dy: input(1), inverse: scratch(0) },
      outputs: [output(1)],
      partials: [scratch(1)],
    });
    return [...rowsPass, ...gains];
  },
};

/** Scratch: each row's mean and inverse deviation, then partial sums of both gradients. */
export const layerNormGradKernel: GpuKernel = {
  name: "rows and columns",
  scratch(node) {
    const { rows, columns } = sizesOf(node);
    return [rowScratch(node), rowScratch(node), ...columnSumScratch(rows, columns, 2)];
  },
  passes(node) {
    const p = new Program(node.inputs[0]), x = p.input(0), dy = p.input(1), mean = p.mean(x);
    const centred = p.f("sub", x, mean);
    const inverse = p.inverseRoot(p.mean(p.f("square", centred)), epsOf(node));
    const unit = p.f("mul", centred, inverse);
    const slope = node.inputs.length > 2 ? p.f("mul", dy, p.input(2)) : dy;
    const rest = p.f("sub", slope, p.mean(slope));
    const pull = p.f("mul", unit, p.mean(p.f("mul", slope, unit)));
    p.element(p.f("mul", inverse, p.f("sub", rest, pull)));
    p.row(mean);
    p.row(inverse);
    const inputs = node.inputs.map((_, i) => input(i));
    return [
      ...fusedPasses(p.finish(2, inputs.length), {
        inputs,
        outputs: [output(0), scratch(0), scratch(1)],
      }),
      ...columnSumPasses({
        ...sizesOf(node),
        terms: [
          `fn term0(row: u32, column: u32) -> f32 {
  let i = row * params.columns + column;
  return load_dy(i) * (load_x(i) - load_mean(row)) * load_inverse(row);
}`,
          `fn term1(row: u32, column: u32) -> f32 { return load_dy(row * params.columns + column); }`,
        ],
        bindings: { x: input(0), dy: input(1), mean: scratch(0), inverse: scratch(1) },
        outputs: [output(1), output(2)],
        partials: [scratch(2), scratch(3)],
      }),
    ];
  },
};
