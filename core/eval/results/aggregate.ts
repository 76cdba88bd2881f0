/** From values of documents to numbers with their errors. Pure. */

import type { Aggregation, Value } from "../types.ts";

/** A metric over documents. */
export interface Estimate {
  readonly value: number;
  /** Standard error; NaN of fewer than two documents. */
  readonly stderr: number;
  readonly count: number;
}

/** The number, and its standard error by the sample deviation of what each document adds to it. */
export function aggregate(values: readonly Value[], aggregation: Aggregation): Estimate {
  const { value } = reduce(values, aggregation);
  return { value, stderr: meanError(influences(values, aggregation)), count: values.length };
}

/**
 * What each document contributes to the number, up to a constant: its value, or by the slope of the aggregation at its
 * value (the delta method). The number's error is that of the contributions' mean.
 */
export function influences(values: readonly Value[], aggregation: Aggregation): number[] {
  const { value, ratio } = reduce(values, aggregation);
  const meanWeight = values.reduce<number>((sum, x) => sum + weightOf(x), 0) / values.length;
  const deviations = values.map((x) => (sumOf(x) - ratio * weightOf(x)) / meanWeight);
  switch (aggregation) {
    case "mean":
      return values.map(sumOf);
    case "perplexity":
    case "weighted_perplexity":
      return deviations.map((x) => -value * x);
    case "bits_per_byte":
      return deviations.map((x) => -x / Math.LN2);
  }
}

function reduce(values: readonly Value[], aggregation: Aggregation) {
  let sum = 0, weight = 0;
  for (const x of values) {
    sum += sumOf(x);
    weight += weightOf(x);
  }
  const ratio = sum / weight;
  const value = aggregation === "mean"
    ? ratio
    : aggregation === "bits_per_byte"
    ? -ratio / Math.LN2
    : Math.exp(-ratio);
  return { value, ratio };
}

const sumOf = (x: Value) => typeof x === "number" ? x : x.sum;
const weightOf = (x: Value) => typeof x === "number" ? 1 : x.weight;

/** Sample standard deviation / √n. */
export function meanError(values: readonly number[]): number {
  const n = values.length;
  if (n < 2) return NaN;
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return Math.sqrt(squares / (n - 1) / n);
}

/**
 * Estimates of parts joined, each weighted by its documents. The error is that of all documents by their variance within the
 * parts, as the harness pools it.
 */
export function pool(parts: readonly Estimate[]): Estimate {
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const value = parts.reduce((sum, part) => sum + part.value * part.count, 0) / count;
  const squares = parts.reduce(
    (sum, { stderr, count }) => sum + (count < 2 ? 0 : (count - 1) * count * stderr ** 2),
    0,
  );
  const freedom = count - parts.length;
  return { value, stderr: freedom > 0 ? Math.sqrt(squares / freedom / count) : NaN, count };
}
