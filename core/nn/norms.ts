/** Norms over the channels. */

import { z } from "zod";
import { add, layerNorm, mul, rmsNorm } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import { bias, gain, zeroCentredGain } from "./params.ts";
import { definePositionwise, type Dims, type ParamDescription } from "./part.ts";

const scaling = {
  /** What comes out is multiplied by 1 / √(layer + 1), layers from 0 (Sun et al. 2025, arXiv 2502.05795). */
  layernorm_scaling: z.boolean().default(false),
};

// The gain is scaled and not what comes out: a small product instead of a pass over the channels of all tokens.
const scaled = (gain: Tensor, { layernorm_scaling }: { layernorm_scaling: boolean }, dims: Dims) =>
  layernorm_scaling ? layerNormScaling(gain, dims) : gain;

/** x / √(layer + 1) */
export function layerNormScaling(x: Tensor, { layer }: Pick<Dims, "layer">): Tensor {
  return mul(x, 1 / Math.sqrt(layer + 1));
}

export const rmsNormPart = definePositionwise({
  config: z.strictObject({
    kind: z.literal("rms_norm"),
    eps: z.number().positive().default(1e-6),
    /** The gain is 1 + the weight, which starts at 0. */
    zero_centered: z.boolean().default(false),
    /** `false`: no gain. */
    weight: z.boolean().default(true),
    ...scaling,
  }).refine(({ zero_centered, weight }) => weight || !zero_centered, {
    path: ["zero_centered"],
    error: "there is no weight that could be centred: weight is false",
  }),
  params: ({ zero_centered, weight }, { hidden_size }): { gain?: ParamDescription } =>
    weight ? { gain: zero_centered ? zeroCentredGain(hidden_size) : gain(hidden_size) } : {},
  apply(p, x, { config, dims }) {
    if (!p.gain) return { out: scaled(rmsNorm(x, undefined, { eps: config.eps }), config, dims) };
    const gain = config.zero_centered ? add(p.gain, 1) : p.gain;
    return { out: rmsNorm(x, scaled(gain, config, dims), { eps: config.eps }) };
  },
});

export const layerNormPart = definePositionwise({
  config: z.strictObject({
    kind: z.literal("layer_norm"),
    eps: z.number().positive().default(1e-5),
    /** Adds a bias after the gain. */
    bias: z.boolean().default(true),
    ...scaling,
  }),
  params: (c, { hidden_size }) => ({
    gain: gain(hidden_size),
    ...(c.bias ? { bias: bias(hidden_size) } : {}),
  }),
  apply(p, x, { config, dims }) {
    const shift = p.bias && scaled(p.bias, config, dims);
    return { out: layerNorm(x, scaled(p.gain, config, dims), shift, { eps: config.eps }) };
  },
});

export const norms = { rms_norm: rmsNormPart, layer_norm: layerNormPart };
export const normConfig = z.discriminatedUnion("kind", [rmsNormPart.config, layerNormPart.config]);
