/** What both forms of a fused program's kernel share. */

import { type Dtype, isHalf } from "../../core/graph/mod.ts";
import type { FusedProgram } from "../fused.ts";
import type { Binding, Operand } from "../lowering.ts";

export const WORKGROUP = 256;

/** Where a program's inputs and outputs are bound. */
export interface ProgramOperands {
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
}

/** Inputs are `x0`, `x1`, …, outputs `y0`, `y1`, … */
export const bindingsOf = ({ inputs, outputs }: ProgramOperands): Record<string, Binding> =>
  Object.fromEntries([
    ...inputs.map((at, i) => [`x${i}`, at]),
    ...outputs.map((at, o) => [`y${o}`, at]),
  ]);

/**
 * Constants travel in the uniform, as many are made from sizes (1/n) and the text should not be.
 */
export const constantsOf = (program: FusedProgram): Record<string, number> =>
  Object.fromEntries(
    program.steps.flatMap((step, i) => step.op === "constant" ? [[`k${i}`, step.value]] : []),
  );

/** The type of a stored value in arithmetic. */
export const wgslType = (dtype: Dtype) => isHalf(dtype) ? "f32" : dtype;
