/** A run's inputs as the one block of bytes that is sent. */

import { bytesOf, isHalf, packHalves } from "../../graph/mod.ts";
import type { Plan } from "../../plan/types.ts";
import { prepareUploads } from "../inputs.ts";

/** Checks and packs a run's inputs into `bytes`, host results included. */
export function packUploads(
  plan: Plan,
  inputs: Readonly<Record<string, ArrayLike<number> | number>>,
  bytes: Uint8Array<ArrayBuffer>,
): void {
  const values = prepareUploads(plan, inputs);
  plan.uploads.forEach((upload, i) => {
    const { dtype, offset } = upload, size = values[i].length;
    if (isHalf(dtype)) {
      bytes.set(new Uint8Array(packHalves(dtype, values[i]).buffer, 0, bytesOf(upload)), offset);
    } else if (dtype === "i32") new Int32Array(bytes.buffer, offset, size).set(values[i]);
    else if (dtype === "u32") new Uint32Array(bytes.buffer, offset, size).set(values[i]);
    else new Float32Array(bytes.buffer, offset, size).set(values[i]);
  });
}
