/** Tensors of `tests/vectors/spec/tiny_models.json`: made from their numbers, as that file says. */

import { readJson } from "./vectors.ts";

export interface TinyTensor {
  readonly n: number;
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly scale: number;
}

export interface TinyCase {
  readonly name: string;
  readonly loss: number;
  readonly logits: readonly (readonly number[])[];
  /** Tensor, flat index, derivative of the loss. */
  readonly grad_checks?: readonly (readonly [string, number, number])[];
}

export interface TinyModels {
  readonly hash_check: Readonly<Record<string, number>>;
  readonly tokens: readonly number[];
  readonly targets: readonly number[];
  readonly vocab: number;
}

export const tinyModels = <T>() => readJson<TinyModels & T>("spec/tiny_models.json");

/** The number u(n, i) in (0, 1). */
export function hashed(n: number, i: number): number {
  let h = (Math.imul(n + 1, 0x9E3779B1) + Math.imul(i + 1, 0x85EBCA77)) >>> 0;
  h = Math.imul((h ^ (h >>> 15)) >>> 0, 0x2C1B3C6D) >>> 0;
  h = Math.imul((h ^ (h >>> 12)) >>> 0, 0x297A2D39) >>> 0;
  h = (h ^ (h >>> 15)) >>> 0;
  return (h + 0.5) / 2 ** 32;
}

export function tinyValues({ n, shape, offset, scale }: TinyTensor): Float64Array {
  const size = shape.reduce((a, b) => a * b, 1);
  return Float64Array.from({ length: size }, (_, i) => offset + scale * (2 * hashed(n, i) - 1));
}
