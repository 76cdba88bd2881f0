/** Fused programs written by hand: each call adds a step and gives its place. */

import type { Spec } from "../../core/graph/tensor.ts";
import type { ScalarName } from "../elementwise.ts";
import type { Access, FusedStep } from "../fused.ts";
import type { RowProgram } from "./passes.ts";

export interface ProgramWriter {
  /** The next input, read with these strides (in elements, one for each axis). */
  read(strides: readonly number[], offset?: number): number;
  constant(value: number): number;
  call(op: ScalarName, ...args: number[]): number;
  /** The sum over the row. */
  sum(arg: number): number;
  /** The program that writes `elements`, each like `spec`, and sums `columns` over the rows. */
  finish(elements: readonly number[], spec: Spec, columns?: readonly number[]): RowProgram;
}

export function programWriter(shape: readonly number[]): ProgramWriter {
  const steps: FusedStep[] = [], accesses: Access[] = [];
  const put = (step: FusedStep) => steps.push(step) - 1;
  return {
    read: (strides, offset = 0) =>
      put({ op: "input", input: accesses.push({ strides, offset }) - 1 }),
    constant: (value) => put({ op: "constant", value }),
    call: (op, ...args) => put({ op, args }),
    sum: (arg) => put({ op: "reduce_sum", args: [arg] }),
    finish: (elements, spec, columns) => ({
      shape,
      accesses,
      steps,
      outputs: elements.map((value) => ({ value, extent: "element", spec })),
      columns,
    }),
  };
}
