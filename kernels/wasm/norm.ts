/** The norms' programs as WASM; the gains' gradients are summed over rows in the same pass. */

import { sizeOf } from "../../core/graph/tensor.ts";
import { input, output, type WasmLowering } from "../lowering.ts";
import type { WriteNorm } from "../norm_programs.ts";
import { withColumns } from "./columns.ts";
import { programWasm } from "./fused.ts";

export const normWasm = (write: WriteNorm): WasmLowering => (node, target) => {
  const { inputs, outputs } = node;
  if (sizeOf(inputs[0].shape) === 0) return undefined;
  const { writer, element, columns } = write(node), program = writer.finish([element], outputs[0]);
  if (columns.length === 0) return programWasm(program, node, target);
  return withColumns(
    { ...program, columns },
    inputs.map((_, i) => input(i)),
    [output(0)],
    columns.map((_, i) => output(i + 1)),
    inputs,
    target,
  );
};
