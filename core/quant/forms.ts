/** What a tensor is stored as in an artifact, and what that costs: in bytes, and in squared error. */

import { z } from "zod";
import { sizeOf } from "../graph/mod.ts";
import { fromLevels, type LevelBits, type LevelOptions, type Levels, toLevels } from "./levels.ts";

export const forms = ["f16", "int8", "int6", "int5"] as const;

/** `f16` is a half a number; the others are levels with a scale a row. */
export type Form = typeof forms[number];

export const formSchema = z.enum(forms);

const bitsOf: Readonly<Record<Exclude<Form, "f16">, LevelBits>> = { int8: 8, int6: 6, int5: 5 };

/** A tensor's name and shape, and its f32 values, read when asked for. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly read: () => Float32Array;
}

/** A tensor as an artifact holds it. */
export type Stored =
  & { readonly name: string; readonly shape: readonly number[] }
  & (
    | { readonly form: "f16"; readonly halves: Float16Array<ArrayBuffer> }
    | { readonly form: Exclude<Form, "f16">; readonly levels: Levels }
  );

/** @throws {RangeError} where a value is not finite, or beyond f16 */
export function store({ name, shape, read }: Weight, form: Form, options: LevelOptions): Stored {
  const values = read();
  if (form !== "f16") {
    return { name, shape, form, levels: toLevels(values, rowLength(shape), bitsOf[form], options) };
  }
  const halves = Float16Array.from(values), bad = halves.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) throw new RangeError(`the number ${values[bad]} is none that f16 has`);
  return { name, shape, form, halves };
}

/** The values that are read back. */
export function restore(stored: Stored): Float32Array<ArrayBuffer> {
  return stored.form === "f16" ? Float32Array.from(stored.halves) : fromLevels(stored.levels);
}

/** Numbers that share a scale; a vector is one row. */
export function rowLength(shape: readonly number[]): number {
  return shape.at(-1) ?? 1;
}

/** Bits a level takes. */
export function levelBits(form: Exclude<Form, "f16">): LevelBits {
  return bitsOf[form];
}

/** Bytes that a good compressor leaves, about: the entropy of levels and of halves' bytes; scales are not compressed. */
export function estimateBytes(stored: Stored): number {
  if (stored.form !== "f16") {
    const { levels, scales } = stored.levels;
    return entropyBytes(new Uint8Array(levels.buffer)) + 2 * scales.length;
  }
  const bytes = new Uint8Array(stored.halves.buffer);
  const half = (odd: number) => bytes.filter((_, i) => i % 2 === odd);
  return entropyBytes(half(0)) + entropyBytes(half(1));
}

function entropyBytes(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const byte of bytes) counts[byte]++;
  const bits = counts.reduce((sum, n) => n > 0 ? sum - n * Math.log2(n / bytes.length) : sum, 0);
  return bits / 8;
}

/** A tensor of which only the shape matters. */
type Shaped = Pick<Weight, "name" | "shape"> & { readonly role: string };

/** Tensors of no more numbers than this stay f16 in the published artifact. */
export const publishedSmall = 65_536;

/**
 * The published choice: what is small is f16, matrices are `matrices`, what is left (tables) int8 (RecycledCore's export,
 * steps 1 to 3).
 */
export function publishedForms(
  params: readonly Shaped[],
  matrices: Form = "int5",
  small = publishedSmall,
): Map<string, Form> {
  return new Map(params.map(({ name, shape, role }) => {
    return [name, sizeOf(shape) <= small ? "f16" : role === "matrix" ? matrices : "int8"];
  }));
}
