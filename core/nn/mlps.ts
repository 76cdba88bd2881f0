/** Mlps: what each position does alone between two mixers. */

import { z } from "zod";
import { gelu, linear, mul, silu } from "../../kernels/mod.ts";
import { scope } from "../graph/mod.ts";
import { matrix, outputMatrix } from "./params.ts";
import { definePositionwise } from "./part.ts";
import { polyglu } from "./polyglu.ts";
import { polyNormMlp } from "./polynorm.ts";

const intermediate_size = z.int().positive();

/** down(silu(gate x) · up x). Shazeer 2020. */
export const swiglu = definePositionwise({
  config: z.strictObject({ kind: z.literal("swiglu"), intermediate_size }),
  params: (c, dims) => ({
    gate: matrix(c.intermediate_size, dims.hidden_size, dims),
    up: matrix(c.intermediate_size, dims.hidden_size, dims),
    down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
  }),
  apply(p, x) {
    const gate = scope("gate", () => silu(linear(x, p.gate)));
    const up = scope("up", () => linear(x, p.up));
    return { out: scope("down", () => linear(mul(gate, up), p.down)) };
  },
});

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

export const mlps = { swiglu, gelu: geluMlp, polyglu, polynorm: polyNormMlp };
export const mlpConfig = z.discriminatedUnion("kind", [
  swiglu.config,
  geluMlp.config,
  polyglu.config,
  polyNormMlp.config,
]);
