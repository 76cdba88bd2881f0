/**
 * Work across the four lanes of vectors: transposes, sums and maxima. Orders are fixed, so sums
 * have the same bits everywhere.
 */

import { type F32, f32x4, type FunctionBuilder, type V128, v128 } from "./encode.ts";

/**
 * Four vectors as the rows of a 4x4 matrix, transposed. The arguments are printed twice: pass
 * locals.
 */
export function transposed(rows: readonly V128[]): V128[] {
  const [a, b, c, d] = rows;
  const low = [v128.shuffle32(a, b, [0, 4, 1, 5]), v128.shuffle32(c, d, [0, 4, 1, 5])];
  const high = [v128.shuffle32(a, b, [2, 6, 3, 7]), v128.shuffle32(c, d, [2, 6, 3, 7])];
  return [low, high].flatMap((
    [x, y],
  ) => [v128.shuffle32(x, y, [0, 1, 4, 5]), v128.shuffle32(x, y, [2, 3, 6, 7])]);
}

/** The sums of four vectors, one a lane. Pass locals. */
export function sumsOfFour(f: FunctionBuilder, vectors: readonly V128[]): V128 {
  const [a, b, c, d] = transposed(vectors);
  const pairs = f.v128(f32x4.add(a, b));
  return f32x4.add(pairs, f32x4.add(c, d));
}

function folded(f: FunctionBuilder, vector: V128, fold: (a: V128, b: V128) => V128): V128 {
  const whole = f.v128(vector);
  const half = f.v128(fold(whole, v128.shuffle32(whole, whole, [2, 3, 0, 1])));
  return fold(half, v128.shuffle32(half, half, [1, 0, 3, 2]));
}

/** The sum of the lanes, in every lane. */
export function sumLanes(f: FunctionBuilder, vector: V128): V128 {
  return folded(f, vector, f32x4.add);
}

/** The largest lane, in every lane. */
export function maxLanes(f: FunctionBuilder, vector: V128): V128 {
  return folded(f, vector, f32x4.pmax);
}

export function sumOf(f: FunctionBuilder, vector: V128): F32 {
  return f32x4.extractLane(sumLanes(f, vector), 0);
}

export function maxOf(f: FunctionBuilder, vector: V128): F32 {
  return f32x4.extractLane(maxLanes(f, vector), 0);
}
