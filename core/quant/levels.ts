/**
 * Matrices as small whole numbers: each row has a scale, each weight a level between -R and R.
 *
 * After the challenge's own quantiser (RecycledCore, "GPTQ-lite"): a row is clipped at a percentile of its absolute values,
 * and of some percentiles the one with the least squared error is taken. No activations are looked at.
 */

import { roundEven } from "../graph/mod.ts";
import { leastScale } from "../model/mod.ts";

/** Bits of a level; R is 15, 31 or 127. */
export type LevelBits = 5 | 6 | 8;

/** How a matrix is brought to levels. */
export interface LevelOptions {
  /**
   * The percentile with the least squared error of the whole matrix, as published, or of each row, which is never
   * worse.
   */
  readonly search: "matrix" | "row";
  /**
   * The least scale: `reference` is the published 1/R, so that a row of weights under 1 has no more than a few levels;
   * `tiny` lets scales be as small as f16 can say.
   */
  readonly floor: "reference" | "tiny";
}

/** A matrix [rows, columns] of which row r is `scales[r] * levels`. */
export interface Levels {
  readonly bits: LevelBits;
  readonly rows: number;
  readonly columns: number;
  readonly levels: Int8Array<ArrayBuffer>;
  /** One a row, each a value that f16 has. */
  readonly scales: Float32Array<ArrayBuffer>;
}

interface Kind {
  readonly range: number;
  /** Percentiles of absolute values that a row may be clipped at. */
  readonly percentiles: readonly number[];
  /** Whether levels are taken with the scale as it is stored, or with the f32 one that is rounded afterwards. */
  readonly roundsFirst: boolean;
}

const kinds: Readonly<Record<LevelBits, Kind>> = {
  5: { range: 15, percentiles: [0.999, 0.9995, 0.9999, 1], roundsFirst: true },
  6: { range: 31, percentiles: [0.999, 0.9995, 0.9999, 0.99999, 1], roundsFirst: true },
  8: { range: 127, percentiles: [0.9999984], roundsFirst: false },
};

/** The largest level. */
export function rangeOf(bits: LevelBits): number {
  return kinds[bits].range;
}

/**
 * Levels of a matrix [rows, columns] in row order. `percentiles` replace those that are tried.
 *
 * @throws {RangeError} where a weight is not finite, or a row's scale is beyond f16
 */
export function toLevels(
  weights: Float32Array,
  columns: number,
  bits: LevelBits,
  { search, floor }: LevelOptions,
  percentiles: readonly number[] = kinds[bits].percentiles,
): Levels {
  const { range, roundsFirst } = kinds[bits], rows = weights.length / columns;
  const least = leastScale(floor, range);
  const tries = percentiles.map((): Try => ({
    levels: new Int8Array(search === "row" ? columns : weights.length),
    scales: new Float32Array(search === "row" ? 1 : rows),
    error: 0,
  }));
  const chosen: Try = search === "row"
    ? { levels: new Int8Array(weights.length), scales: new Float32Array(rows), error: 0 }
    : tries[0];
  for (let r = 0; r < rows; r++) {
    const row = weights.subarray(r * columns, (r + 1) * columns);
    const clips = quantiles(row, percentiles);
    for (const [i, one] of tries.entries()) {
      const at = search === "row" ? 0 : r, exact = Math.max(clips[i] / range, least);
      const stored = Math.f16round(exact);
      if (!Number.isFinite(stored)) {
        throw new RangeError(`row ${r} has weights up to ${clips[i]}, too large for f16 scales`);
      }
      const levels = one.levels.subarray(at * columns, (at + 1) * columns);
      one.scales[at] = stored;
      const error = roundRow(row, levels, roundsFirst ? stored : Math.fround(exact), stored, range);
      one.error = search === "row" ? error : one.error + error;
    }
    if (search === "matrix") continue;
    const best = leastOf(tries);
    chosen.levels.set(best.levels, r * columns);
    chosen.scales[r] = best.scales[0];
  }
  const { levels, scales } = search === "row" ? chosen : leastOf(tries);
  return { bits, rows, columns, levels, scales };
}

interface Try {
  readonly levels: Int8Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>;
  error: number;
}

/** The first with the least error. */
function leastOf(tries: readonly Try[]): Try {
  return tries.reduce((best, one) => one.error < best.error ? one : best);
}

/** Fills in a row's levels; returns the squared error that they leave. */
function roundRow(
  row: Float32Array,
  levels: Int8Array,
  scale: number,
  stored: number,
  range: number,
): number {
  let error = 0;
  for (let i = 0; i < row.length; i++) {
    const level = Math.max(-range, Math.min(range, roundEven(Math.fround(row[i] / scale))));
    levels[i] = level;
    error += (row[i] - level * stored) ** 2;
  }
  return error;
}

/** The weights that levels stand for, each rounded to f32 once. */
export function fromLevels({ columns, levels, scales }: Levels): Float32Array<ArrayBuffer> {
  const weights = new Float32Array(levels.length);
  scales.forEach((scale, r) => {
    for (let i = r * columns; i < (r + 1) * columns; i++) weights[i] = levels[i] * scale;
  });
  return weights;
}

/**
 * Quantiles of a row's absolute values, with linear interpolation between two of them. Only the largest are kept in
 * order, as percentiles are near 1.
 */
function quantiles(row: Float32Array, percentiles: readonly number[]): number[] {
  const last = row.length - 1;
  const kept = Math.min(row.length, last - Math.floor(Math.min(...percentiles) * last) + 1);
  const largest = new Float32Array(kept); // in falling order
  for (const weight of row) {
    const x = Math.abs(weight);
    if (!(x < Infinity)) throw new RangeError(`a weight is ${weight}`);
    if (x <= largest[kept - 1]) continue;
    let i = kept - 1;
    for (; i > 0 && largest[i - 1] < x; i--) largest[i] = largest[i - 1];
    largest[i] = x;
  }
  return percentiles.map((p) => {
    const place = p * last, below = Math.floor(place), part = place - below;
    const low = largest[last - below], high = largest[Math.max(0, last - below - 1)];
    return low + part * (high - low);
  });
}
