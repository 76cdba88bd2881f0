/** Tensors in shared memory as JavaScript sees them. */

import {
  bytesOf,
  isHalf,
  type Numbers,
  packHalves,
  sizeOf,
  type Spec,
  unpackHalves,
} from "../../graph/mod.ts";
import type { HostArray } from "../types.ts";

export interface Placed {
  readonly offset: number;
  readonly spec: Spec;
}

/** A view of the stored words; halves are packed. */
function wordsAt(
  buffer: SharedArrayBuffer,
  { offset, spec }: Placed,
): Float32Array | Int32Array | Uint32Array {
  const words = bytesOf(spec) / 4;
  if (spec.dtype === "f32") return new Float32Array(buffer, offset, words);
  if (spec.dtype === "i32") return new Int32Array(buffer, offset, words);
  return new Uint32Array(buffer, offset, words);
}

/** The values for a plain loop to read: a view, or for halves a widened copy. */
export function numbersAt(buffer: SharedArrayBuffer, placed: Placed): Numbers {
  const words = wordsAt(buffer, placed), { dtype, shape } = placed.spec;
  return isHalf(dtype) ? unpackHalves(dtype, words as Uint32Array, sizeOf(shape)) : words;
}

export function writeAt(
  buffer: SharedArrayBuffer,
  placed: Placed,
  values: ArrayLike<number>,
): void {
  const words = wordsAt(buffer, placed), { dtype } = placed.spec;
  words.set(isHalf(dtype) ? packHalves(dtype, values) : values);
}

/** Elements of halves that are held as f32 on their way. */
const PIECE = 2 ** 20;

/** Lets `give` write the values: in place, or piece by piece where they are stored as halves. */
export function fillAt(
  buffer: SharedArrayBuffer,
  placed: Placed,
  give: (into: Float32Array, at: number) => void,
): void {
  const words = wordsAt(buffer, placed), { dtype, shape } = placed.spec, size = sizeOf(shape);
  if (words instanceof Float32Array) return give(words, 0);
  if (!isHalf(dtype)) throw new Error(`there is no filling ${dtype}`);
  for (let at = 0; at < size; at += PIECE) {
    const piece = new Float32Array(Math.min(PIECE, size - at));
    give(piece, at);
    words.set(packHalves(dtype, piece), at / 2);
  }
}

/** A copy for the host. */
export function readAt(buffer: SharedArrayBuffer, placed: Placed): HostArray {
  const words = wordsAt(buffer, placed), { dtype, shape } = placed.spec;
  if (isHalf(dtype)) {
    return unpackHalves(dtype, (words as Uint32Array).slice(), sizeOf(shape));
  }
  return words.slice();
}
