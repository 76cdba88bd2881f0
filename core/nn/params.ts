/** Descriptions of parameters, by role. Weights are stored as [out, in]. */

import type { Dims, ParamDescription } from "./part.ts";

/** A weight that reads the residual stream or hidden units. */
export function matrix(
  out: number,
  into: number,
  { initializer_range: std, initializer }: Dims,
): ParamDescription {
  const init = initializer === "orthogonal"
    ? { kind: initializer }
    : { kind: "normal", std } as const;
  return { shape: [out, into], dtype: "f32", role: "matrix", init };
}

/** A weight whose numbers begin alike: with 0 what it feeds begins without it. */
export function constantMatrix(out: number, into: number, value: number): ParamDescription {
  return { shape: [out, into], dtype: "f32", role: "matrix", init: { kind: "constant", value } };
}

/** A weight that writes to the residual stream. */
export function outputMatrix(out: number, into: number, dims: Dims): ParamDescription {
  const std = dims.output_initializer_range;
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

/** The same, beginning elsewhere. */
export function constantBias(width: number, value: number): ParamDescription {
  return { ...bias(width), init: { kind: "constant", value } };
}

/** What is added to 1 for each channel's factor: the form of which weight decay pulls the factor to 1. */
export function zeroCentredGain(width: number): ParamDescription {
  return { ...gain(width), init: { kind: "constant", value: 0 } };
}

/** The factors of a causal convolution of each channel alone, [taps, channels]; uniform by their number. */
export function taps(count: number, channels: number): ParamDescription {
  const high = 1 / Math.sqrt(count);
  return {
    shape: [count, channels],
    dtype: "f32",
    role: "matrix",
    init: { kind: "uniform", low: -high, high },
  };
}

/** The factors of a causal convolution that at first leaves its input almost as it is. */
export function identityTaps(
  count: number,
  channels: number,
  { initializer_range: std }: Dims,
): ParamDescription {
  return { ...taps(count, channels), init: { kind: "identity_taps", std } };
}
