/** Fused programs as WGSL: which form, and what halves need around it. */

import { type Dtype, isHalf, type Spec } from "../../core/graph/mod.ts";
import { copyProgram, denseAccess, type FusedProgram, sourcesOf } from "../fused.ts";
import { type GpuKernel, type GpuPass, input, output, scratch } from "../lowering.ts";
import { flatPass, isFlat, quadPass, takesQuads } from "./fused_flat.ts";
import type { ProgramOperands } from "./fused_parts.ts";
import { rowPass } from "./fused_rows.ts";

/**
 * Outputs whose words would be shared by rows: they are written as f32 first and packed by a second
 * pass.
 */
function detours(program: FusedProgram): number[] {
  if (isFlat(program)) return [];
  const odd = program.shape.at(-1)! % 2 === 1;
  return program.outputs.flatMap(({ extent, spec }, o) =>
    isHalf(spec.dtype) && (odd || extent === "row") ? [o] : []
  );
}

/** Room for the outputs that go a way round. */
function fusedScratch(program: FusedProgram): Spec[] {
  return detours(program).map((o) => ({ shape: program.outputs[o].spec.shape, dtype: "f32" }));
}

const ownOperands = (program: FusedProgram): ProgramOperands => ({
  inputs: Array.from({ length: 1 + Math.max(-1, ...sourcesOf(program)) }, (_, i) => input(i)),
  outputs: program.outputs.map((_, o) => output(o)),
});

/** The dispatches of a program. */
export function fusedPasses(
  program: FusedProgram,
  operands: ProgramOperands = ownOperands(program),
): GpuPass[] {
  if (isFlat(program)) return [flatPass(program, operands)];
  const around = detours(program), outputs = [...operands.outputs];
  around.forEach((o, i) => outputs[o] = scratch(i));
  const wide = program.outputs.map(({ spec, ...rest }, o) => ({
    ...rest,
    spec: around.includes(o) ? { shape: spec.shape, dtype: "f32" as Dtype } : spec,
  }));
  const main = rowPass({ ...program, outputs: wide }, { inputs: operands.inputs, outputs });
  const packs = around.map((o, i) => {
    const { shape, dtype } = program.outputs[o].spec;
    const copy = copyProgram(shape, denseAccess(shape), dtype);
    return flatPass(copy, { inputs: [scratch(i)], outputs: [operands.outputs[o]] });
  });
  return [main, ...packs];
}

const programOf = (attrs: Readonly<Record<string, unknown>>) => attrs.program as FusedProgram;

/**
 * Four points a thread where the program allows it, else one by one; rows where it has reductions.
 */
export const fusedKernels: readonly GpuKernel[] = [
  {
    name: "quads",
    when: ({ attrs }) => takesQuads(programOf(attrs)),
    passes: ({ attrs }) => [quadPass(programOf(attrs), ownOperands(programOf(attrs)))],
  },
  {
    name: "points",
    scratch: ({ attrs }) => fusedScratch(programOf(attrs)),
    passes: ({ attrs }) => fusedPasses(programOf(attrs)),
  },
];
