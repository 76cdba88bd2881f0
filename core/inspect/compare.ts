/** How far a device's numbers are from the plain loops', and whether that is within what is allowed. */

import type { Dtype } from "../graph/mod.ts";

/** What is allowed: see `compareValues`. */
export interface Allowance {
  /** Largest error, relative to the value or, below 1, absolute. */
  readonly tolerance: number;
  readonly dtype: Dtype;
}

export interface Comparison {
  /** The largest error found, relative to the value or, below 1, absolute; Infinity for a NaN. */
  readonly worst: number;
  /** What `worst` may be, near enough: for people. */
  readonly allowed: number;
  /** The first value that is too far away, in words. */
  readonly fault: string | undefined;
}

// One unit of the last place, as both sides round and may stand on either side of a middle.
const unit: Record<Dtype, number> = { f32: 1.2e-7, bf16: 1 / 128, f16: 1 / 1024, i32: 0, u32: 0 };

/** Compares with what the loops say in double precision. Halves may be off by one unit of their last place. */
export function compareValues(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { tolerance, dtype }: Allowance,
): Comparison {
  const allowed = tolerance + unit[dtype];
  if (actual.length !== expected.length) {
    return { worst: Infinity, allowed, fault: `${actual.length} values, not ${expected.length}` };
  }
  let worst = 0, fault: string | undefined;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i], b = dtype === "f32" ? Math.fround(expected[i]) : expected[i];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    if (dtype === "f16" && Math.f16round(b) === a) continue; // infinity, and what is too small
    const error = Math.abs(a - b), scale = Math.max(1, Math.abs(b));
    worst = Math.max(worst, Number.isNaN(error) ? Infinity : error / scale);
    const bound = tolerance * scale + unit[dtype] * Math.abs(b);
    if (!(error <= bound)) fault ??= `element ${i} is ${a}, not ${b}`;
  }
  return { worst, allowed, fault };
}
