/** Tensors by name, wherever they lie. */

import type { TensorData } from "./dtypes.ts";
import { exitCodes, UserError } from "./errors.ts";
import { openGguf } from "./gguf_file.ts";
import { beginningOfFile } from "./ranges.ts";
import { openSafetensors, type TensorArray, type TensorInfo } from "./safetensors.ts";
import { openTorch } from "./torch/file.ts";

/** Open tensors whose values are read when they are asked for: a file's, or several files' under other names. */
export interface Tensors extends Disposable {
  /** Where they come from, for messages. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The values of one, as its dtype's array: see `TensorArray`. */
  read(name: string): TensorArray;
  /**
   * The values from element `at` on into memory of the caller's, as f32, as many as it holds: no second copy of the tensor
   * is made. What lacks it is read whole.
   */
  readInto?(name: string, into: Float32Array, at: number): void;
  /** The same as bf16 bits, of tensors that are stored so: `storesBf16` says it. */
  readBf16Into?(name: string, into: Uint16Array, at: number): void;
  storesBf16?(name: string): boolean;
}

/** A part of a file that is no weight, and why it is left out. */
export interface LeftOut {
  readonly name: string;
  readonly why: string;
}

/** The tensors of one file. */
export interface TensorFile extends Tensors {
  read(name: string): TensorData;
  readInto(name: string, into: Float32Array, at: number): void;
  /** What it says of itself, in words. */
  readonly about?: Readonly<Record<string, string>>;
  /** What it holds besides. */
  readonly leftOut?: readonly LeftOut[];
}

/** What a file is, by its first bytes: names do not tell. */
export async function openTensorFile(path: string): Promise<TensorFile> {
  const start = await beginningOfFile(path, 9);
  if (isGguf(start)) return openGguf(path);
  const isZip = start[0] === 0x50 && start[1] === 0x4b;
  // a safetensors file's header begins with a brace, after its length
  const isSafetensors = start[8] === 0x7b, isPickle = start[0] === 0x80 && !isSafetensors;
  if (isZip || isPickle) return openTorch(path);
  if (isSafetensors) return openSafetensors(path);
  throw new UserError("its first bytes are not those of safetensors, PyTorch or GGUF", {
    where: path,
    hint: "copy or download the file again",
    exitCode: exitCodes.failed,
  });
}

/** Whether a file begins as those of llama.cpp do. */
export function isGguf(start: Uint8Array): boolean {
  return new TextDecoder().decode(start.subarray(0, 4)) === "GGUF";
}
