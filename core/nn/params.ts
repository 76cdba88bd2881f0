/** Descriptions of parameters, by role. Weights are stored as [out, in]. */

import type { Dims, ParamDescription } from "./part.ts";

/** A weight that reads the residual stream or hidden units. */
export function matrix(
  out: number,
  into: number,
  { initializer_range: std }: Dims,
): ParamDescription {
  return { shape: [out, into], dtype: "f32", role: "matrix", init: { kind: "normal", std } };
}

/**
 * A weight that writes to the residual stream: std / √(2 · depth), so that the stream's variance
 * does not grow with the number of layers, two writes each (Radford et al. 2019, section 2.3).
 */
export function outputMatrix(out: number, into: number, dims: Dims): ParamDescription {
  const std = dims.initializer_range / Math.sqrt(2 * dims.depth);
  return { shape: [out, into], dtype: "f32", role: "matrix", init: { kind: "normal", std } };
}

export function table(
  rows: number,
  width: number,
  { initializer_range: std }: Dims,
): ParamDescription {
  return { shape: [rows, width], dtype: "f32", role: "embedding", init: { kind: "normal", std } };
}

/** A factor for each channel, 1 at first. */
export function gain(width: number): ParamDescription {
  return { shape: [width], dtype: "f32", role: "gain", init: { kind: "constant", value: 1 } };
}

/** A summand for each channel, 0 at first. */
export function bias(width: number): ParamDescription {
  return { shape: [width], dtype: "f32", role: "bias", init: { kind: "constant", value: 0 } };
}
