/** What a sample case is, and how its inputs are made. */

import {
  type Attrs,
  type Dtype,
  normals,
  type Op,
  roundBf16,
  roundF16,
  sizeOf,
  type Spec,
} from "../../../core/graph/mod.ts";

/** Values of an input, given how many and a seed. */
export type Values = (count: number, seed: number) => ArrayLike<number>;

export interface InputCase extends Spec {
  readonly values: Values;
}

export interface Case {
  readonly name: string;
  readonly op: Op;
  readonly attrs: Attrs;
  readonly inputs: readonly InputCase[];
  /**
   * Largest error against the loops in double precision, relative to the value or, below 1,
   * absolute. Halves may be off by one unit of their last place beyond it: both sides round.
   */
  readonly tolerance: number;
  /** The loop is not differentiable at (or near) these values, or not at all. */
  readonly rough?: boolean;
}

/**
 * A few units of the last place of f32 (6e-8): single operations, and functions accurate to some
 * 1e-7.
 */
export const ONE = 1e-6;
/** Sums of up to some hundred terms of size 1, in another order than the loop's. */
export const SUM = 2e-5;

export const spread = (low: number, high: number): Values => (count, seed) =>
  normals(seed, "case", count).map((x) => low + (high - low) / (1 + Math.exp(-1.7 * x)) // roughly even
  );
export const normal: Values = (count, seed) => normals(seed, "case", count);
export const positive = spread(0.2, 3);
export const list = (...values: number[]): Values => (count) =>
  Array.from({ length: count }, (_, i) => values[i % values.length]);
export const integers = (low: number, high: number): Values => (count, seed) =>
  Int32Array.from(spread(low, high + 0.999)(count, seed), Math.floor);

export const f32 = (shape: number[], values: Values = normal): InputCase => ({
  shape,
  dtype: "f32",
  values,
});
export const half = (
  dtype: "bf16" | "f16",
  shape: number[],
  values: Values = normal,
): InputCase => {
  const round = dtype === "bf16" ? roundBf16 : roundF16;
  return {
    shape,
    dtype,
    values: (count, seed) => Array.from(values(count, seed) as ArrayLike<number>, round),
  };
};
export const stored = (dtype: Dtype, shape: number[], values: Values = normal): InputCase =>
  dtype === "bf16" || dtype === "f16" ? half(dtype, shape, values) : { shape, dtype, values };
export const i32 = (shape: number[], values: Values): InputCase => ({
  shape,
  dtype: "i32",
  values,
});

/**
 * The case as training in bf16 has it: operands at `reads` come, and outputs at `makes` go, as
 * bf16. The planner makes such nodes; `check` alone does not.
 */
export function inHalves(sample: Case, reads: readonly number[], makes: readonly number[]): Case {
  return {
    ...sample,
    name: `${sample.name}, bf16`,
    op: storingHalves(sample.op, makes),
    inputs: sample.inputs.map((x, i) =>
      reads.includes(i) ? half("bf16", [...x.shape], x.values) : x
    ),
    rough: true,
  };
}

/** The op, with outputs that are stored as bf16. */
export function storingHalves<O extends Op>(op: O, makes: readonly number[]): O {
  return {
    ...op,
    check: (inputs, attrs) =>
      op.check(inputs, attrs).map((spec, i) =>
        makes.includes(i) ? { ...spec, dtype: "bf16" } : spec
      ),
  };
}

/** Values of a case's inputs; the same on each call. */
export function valuesOf({ inputs }: Case): ArrayLike<number>[] {
  return inputs.map(({ shape, values }, i) => values(sizeOf(shape), 17 * (i + 1)));
}
