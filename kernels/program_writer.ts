/** Fused programs written by hand: each call adds a step and gives its place. */

import type { Spec } from "../core/graph/tensor.ts";
import type { ScalarName } from "./elementwise.ts";
import type { Access, FusedProgram, FusedStep } from "./fused.ts";

export interface ProgramWriter {
  /** The next input, read with these strides (in elements, one for each axis). */
  read(strides: readonly number[], offset?: number): number;
  constant(value: number): number;
  call(op: ScalarName, ...args: number[]): number;
  /** The sum over the row. */
  sum(arg: number): number;
  mean(arg: number): number;
  /** The program that writes `elements`, each like `spec`, and `rows`, one f32 a row each. */
  finish(elements: readonly number[], spec: Spec, rows?: readonly number[]): FusedProgram;
}

export function programWriter(shape: readonly number[]): ProgramWriter {
  const steps: FusedStep[] = [], accesses: Access[] = [], width = shape.at(-1)!;
  const put = (step: FusedStep) => steps.push(step) - 1;
  const constant = (value: number) => put({ op: "constant", value });
  const call = (op: ScalarName, ...args: number[]) => put({ op, args });
  const sum = (arg: number) => put({ op: "reduce_sum", args: [arg] });
  return {
    read: (strides, offset = 0) =>
      put({ op: "input", input: accesses.push({ strides, offset }) - 1 }),
    constant,
    call,
    sum,
    mean: (arg) => call("mul", sum(arg), constant(1 / width)),
    finish: (elements, spec, rows = []) => ({
      shape,
      accesses,
      steps,
      outputs: [
        ...elements.map((value) => ({ value, extent: "element" as const, spec })),
        ...rows.map((value) => ({
          value,
          extent: "row" as const,
          spec: { shape: shape.slice(0, -1), dtype: "f32" as const },
        })),
      ],
    }),
  };
}
