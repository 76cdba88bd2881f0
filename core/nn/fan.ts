/**
 * FAN layers (Dong et al. 2025, arXiv 2502.21309): one projection of which a part goes through cosine and sine.
 * They stand before a mixer's own projections.
 */

import { z } from "zod";
import { add, concat, cos, gelu, linear, sin, slice } from "../../kernels/mod.ts";
import { currentPath, scope, ShapeError, type Tensor } from "../graph/mod.ts";
import { bias, matrix } from "./params.ts";
import type { Dims, ParamDescription } from "./part.ts";

export const fanConfig = z.strictObject({
  /** The part of the channels that come out that are cosines; as many are sines. */
  ratio: z.number().gt(0).lt(0.5).default(0.125),
  /** Channels that come out: as many as go in, or `expanded`, ratio · hidden_size more. */
  width: z.enum(["same", "expanded"]).default("same"),
  bias: z.boolean().default(true),
  /** Of the channels that are neither cosine nor sine. */
  activation: z.enum(["none", "gelu"]).default("none"),
});
export type FanConfig = z.output<typeof fanConfig>;

export interface FanParams<T> {
  /** [periodic + others, in] */
  readonly weight: T;
  readonly bias?: T | undefined;
}

/** Channels that come out, and how many of them are cosines. */
export function fanSizes({ ratio, width }: FanConfig, { hidden_size }: Dims) {
  const out = hidden_size + (width === "expanded" ? Math.floor(ratio * hidden_size) : 0);
  const periodic = Math.floor(ratio * out);
  if (periodic === 0) {
    const at = currentPath() && ` at ${currentPath()}`;
    throw new ShapeError(`fan: a ratio of ${ratio} of ${out} channels is less than one${at}`);
  }
  return { out, periodic };
}

/** Channels that a mixer's projections read, and the parameters of what makes them. */
export function fanBefore(
  config: FanConfig | undefined,
  dims: Dims,
): {
  width: number;
  params: { fan?: FanParams<ParamDescription> & Record<string, ParamDescription> };
} {
  if (!config) return { width: dims.hidden_size, params: {} };
  const { out, periodic } = fanSizes(config, dims), rows = out - periodic;
  return {
    width: out,
    params: {
      fan: {
        weight: matrix(rows, dims.hidden_size, dims),
        ...(config.bias ? { bias: bias(rows) } : {}),
      },
    },
  };
}

/** x as a mixer's projections read it. */
export function throughFan(
  p: FanParams<Tensor> | undefined,
  x: Tensor,
  config: FanConfig | undefined,
  dims: Dims,
): Tensor {
  if (!config || !p) return x;
  return scope("fan", () => fan(p, x, fanSizes(config, dims).periodic, config.activation));
}

/** z = Wx + b → [cos z₁ | sin z₁ | f(z₂)], z₁ being the first `periodic` channels: the bias is in all three. */
export function fan(
  { weight, bias }: FanParams<Tensor>,
  x: Tensor,
  periodic: number,
  activation: FanConfig["activation"] = "none",
): Tensor {
  const product = linear(x, weight), z = bias ? add(product, bias) : product;
  const waves = slice(z, -1, 0, periodic),
    rest = slice(z, -1, periodic, weight.shape[0] - periodic);
  return concat([cos(waves), sin(waves), activation === "gelu" ? gelu(rest) : rest], -1);
}
