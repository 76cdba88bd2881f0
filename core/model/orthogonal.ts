/** Random orthogonal matrices: how weights may begin that must neither stretch nor shrink what they read. */

import { normals } from "../graph/mod.ts";

/**
 * [rows, cols] whose rows (columns, where they are fewer) have length 1 and stand upright on each other: normal numbers,
 * made so one after another (Saxe et al. 2014; the same distribution as a QR decomposition with a positive diagonal).
 */
export function orthogonal(
  seed: number,
  stream: string,
  rows: number,
  cols: number,
): Float32Array {
  const count = Math.min(rows, cols), length = Math.max(rows, cols);
  const drawn = normals(seed, stream, rows * cols);
  // vectors one behind the other, whichever side of the matrix they are
  const vectors = Float64Array.from(drawn);
  for (let i = 0; i < count; i++) {
    const own = vectors.subarray(i * length, (i + 1) * length);
    for (let j = 0; j < i; j++) {
      const other = vectors.subarray(j * length, (j + 1) * length);
      let dot = 0;
      for (let k = 0; k < length; k++) dot += own[k] * other[k];
      for (let k = 0; k < length; k++) own[k] -= dot * other[k];
    }
    let square = 0;
    for (let k = 0; k < length; k++) square += own[k] * own[k];
    const inverse = 1 / Math.sqrt(square);
    for (let k = 0; k < length; k++) own[k] *= inverse;
  }
  if (rows <= cols) return Float32Array.from(vectors);
  const out = new Float32Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) out[i * cols + j] = vectors[j * length + i];
  }
  return out;
}
