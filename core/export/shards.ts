/** Weights in files of a size that others can carry. */

import { join } from "node:path";
import { packHalves } from "../graph/mod.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { tensorBytes, type TensorSource, writeSafetensors } from "../io/safetensors.ts";

export const exportDtypes = { f32: "F32", bf16: "BF16", f16: "F16" } as const;
export type ExportDtype = keyof typeof exportDtypes;

/** Numbers as another type, to nearest even. f16 has no room beyond 65,504: such numbers are refused. */
export function converted(values: Float32Array, dtype: ExportDtype, name: string): ArrayBufferView {
  if (dtype === "f32") return values;
  if (dtype === "bf16") {
    return new Uint16Array(packHalves("bf16", values).buffer, 0, values.length);
  }
  const halves = Float16Array.from(values), lost = halves.findIndex((x) => !Number.isFinite(x));
  if (lost < 0) return halves;
  throw new UserError(`${name} holds ${values[lost]}, which f16 cannot`, {
    where: "--dtype",
    hint: "bf16 has the range of f32",
    exitCode: exitCodes.failed,
  });
}

export const singleFile = "model.safetensors", indexFile = `${singleFile}.index.json`;

/** Tensors in their order in groups of at most so many bytes; a larger one is alone. */
export function inShards(all: readonly TensorSource[], bytes: number): TensorSource[][] {
  const groups: TensorSource[][] = [];
  let room = 0;
  for (const tensor of all) {
    const size = tensorBytes(tensor);
    if (groups.length === 0 || size > room) {
      groups.push([]);
      room = bytes;
    }
    groups.at(-1)!.push(tensor);
    room -= size;
  }
  return groups;
}

/** Writes the files, and where they are several the index that joins them. Returns their names. */
export async function writeShards(
  folder: string,
  all: readonly TensorSource[],
  shardBytes: number,
): Promise<string[]> {
  const groups = inShards(all, shardBytes), weight_map: Record<string, string> = {};
  const number = (n: number) => String(n).padStart(5, "0");
  const names: string[] = [];
  for (const [i, group] of groups.entries()) {
    const name = groups.length === 1
      ? singleFile
      : `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`;
    await writeSafetensors(join(folder, name), group, { format: "pt" });
    for (const tensor of group) weight_map[tensor.name] = name;
    names.push(name);
  }
  if (groups.length > 1) {
    const total_size = all.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    const index = { metadata: { total_size }, weight_map };
    await Deno.writeTextFile(join(folder, indexFile), `${JSON.stringify(index, null, 2)}\n`);
  }
  return names;
}
