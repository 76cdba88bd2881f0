/** Norms over the channels. */

import { z } from "zod";
import { layerNorm, rmsNorm } from "../../kernels/mod.ts";
import { bias, gain } from "./params.ts";
import { definePositionwise } from "./part.ts";

export const rmsNormPart = definePositionwise({
  config: z.strictObject({ kind: z.literal("rms_norm"), eps: z.number().positive().default(1e-6) }),
  params: (_, { hidden_size }) => ({ gain: gain(hidden_size) }),
  apply: (p, x, { config: { eps } }) => ({ out: rmsNorm(x, p.gain, { eps }) }),
});

export const layerNormPart = definePositionwise({
  config: z.strictObject({
    kind: z.literal("layer_norm"),
    eps: z.number().positive().default(1e-5),
    /** Adds a bias after the gain. */
    bias: z.boolean().default(true),
  }),
  params: (c, { hidden_size }) => ({
    gain: gain(hidden_size),
    ...(c.bias ? { bias: bias(hidden_size) } : {}),
  }),
  apply: (p, x, { config: { eps } }) => ({ out: layerNorm(x, p.gain, p.bias, { eps }) }),
});

export const norms = { rms_norm: rmsNormPart, layer_norm: layerNormPart };
export const normConfig = z.discriminatedUnion("kind", [rmsNormPart.config, layerNormPart.config]);
