/** The norms' programs as WGSL, and the sums over rows that their gains' gradients need. */

import { type OpContext, sizeOf, type Spec } from "../../core/graph/mod.ts";
import { type GpuKernel, input, type Operand, output, scratch } from "../lowering.ts";
import type { WriteNorm } from "../norm_programs.ts";
import { columnSumPasses, columnSumScratch } from "./column_sums.ts";
import { fusedPasses } from "./fused.ts";

export const normKernel = (write: WriteNorm): GpuKernel => ({
  name: "rows",
  passes(node) {
    const { writer, element } = write(node);
    return fusedPasses(writer.finish([element], node.outputs[0]));
  },
});

/**
 * A gradient whose gains' gradients are sums over rows of `terms`, WGSL functions of (row, column) that read `x`, `dy` and the
 * program's rows by the names given. Scratch: those rows, then partial sums.
 */
export function normGradKernel(
  write: WriteNorm,
  rowNames: readonly string[],
  terms: readonly string[],
): GpuKernel {
  const sizes = ({ inputs: [x] }: OpContext) => {
    const columns = x.shape.at(-1)!;
    return { rows: sizeOf(x.shape) / columns, columns };
  };
  return {
    name: "rows and columns",
    scratch(node) {
      if (node.outputs.length === 1) return [];
      const { rows, columns } = sizes(node), row: Spec = { shape: [rows], dtype: "f32" };
      return [...rowNames.map(() => row), ...columnSumScratch(rows, columns, terms.length)];
    },
    passes(node) {
      const { writer, element, rows } = write(node), inputs = node.inputs.map((_, i) => input(i));
      const rowsPass = fusedPasses(writer.finish([element], node.outputs[0], rows), {
        inputs,
        outputs: [output(0), ...rows.map((_, i) => scratch(i))],
      });
      if (node.outputs.length === 1) return rowsPass;
      const named = rowNames.map((name, i): [string, Operand] => [name, scratch(i)]);
      const sums = columnSumPasses({
        ...sizes(node),
        terms,
        bindings: { x: input(0), dy: input(1), ...Object.fromEntries(named) },
        outputs: terms.map((_, i) => output(i + 1)),
        partials: terms.map((_, i) => scratch(rowNames.length + i)),
      });
      return [...rowsPass, ...sums];
    },
  };
}

/** dy · x · inverse */
export const rmsNormTerms = [`fn term0(row: u32, column: u32) -> f32 {
  let i = row * params.columns + column;
  return load_dy(i) * load_x(i) * load_inverse(row);
}`];

/** dy · (x − mean) · inverse, and dy */
export const layerNormTerms = [
  `fn term0(row: u32, column: u32) -> f32 {
  let i = row * params.columns + column;
  return load_dy(i) * (load_x(i) - load_mean(row)) * load_inverse(row);
}`,
  `fn term1(row: u32, column: u32) -> f32 { return load_dy(row * params.columns + column); }`,
];
