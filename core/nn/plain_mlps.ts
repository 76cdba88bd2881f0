/** Mlps that look at each position alone and mix nothing. */

import { z } from "zod";
import { gelu, linear, maximum, mul, sigmoid, silu, square } from "../../kernels/mod.ts";
import { scope, type Tensor } from "../graph/mod.ts";
import { matrix, outputMatrix } from "./params.ts";
import { definePositionwise } from "./part.ts";

const intermediate_size = z.int().positive();

/** down(activation(gate x) · up x). Shazeer 2020. */
function gatedMlp<K extends string>(kind: K, activation: (x: Tensor) => Tensor) {
  return definePositionwise({
    config: z.strictObject({ kind: z.literal(kind), intermediate_size }),
    params: (c, dims) => ({
      gate: matrix(c.intermediate_size, dims.hidden_size, dims),
      up: matrix(c.intermediate_size, dims.hidden_size, dims),
      down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
    }),
    apply(p, x) {
      const gate = scope("gate", () => activation(linear(x, p.gate)));
      const up = scope("up", () => linear(x, p.up));
      return { out: scope("down", () => linear(mul(gate, up), p.down)) };
    },
  });
}

export const swiglu = gatedMlp("swiglu", silu);
export const glu = gatedMlp("glu", sigmoid);

/** down(gelu(up x)), the mlp of GPT-2 without biases. */
export const geluMlp = definePositionwise({
  config: z.strictObject({ kind: z.literal("gelu"), intermediate_size }),
  params: (c, dims) => ({
    up: matrix(c.intermediate_size, dims.hidden_size, dims),
    down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
  }),
  apply(p, x) {
    const up = scope("up", () => gelu(linear(x, p.up)));
    return { out: scope("down", () => linear(up, p.down)) };
  },
});

/** down(f(x)²) with f(h) = h, or slope · h below 0, of up x; slope 0 is the squared ReLU of So et al. 2021. */
export const leakyReluSquared = definePositionwise({
  config: z.strictObject({
    kind: z.literal("leaky_relu_squared"),
    intermediate_size,
    negative_slope: z.number().min(0).max(1).default(0.5),
  }),
  params: (c, dims) => ({
    up: matrix(c.intermediate_size, dims.hidden_size, dims),
    down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
  }),
  apply(p, x, { config: { negative_slope } }) {
    const up = scope("up", () => linear(x, p.up));
    const leaky = maximum(up, mul(up, negative_slope));
    return { out: scope("down", () => linear(square(leaky), p.down)) };
  },
});
