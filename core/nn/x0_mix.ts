/** A residual stream that takes up the input's output again before each layer, with a factor a channel for each sum. */

import { z } from "zod";
import { add, mul } from "../../kernels/mod.ts";
import { reveal, scope, type Tensor } from "../graph/mod.ts";
import { normConfig, norms } from "./norms.ts";
import { gain } from "./params.ts";
import {
  bindFrom,
  type BoundPositionwise,
  type Dims,
  type ParamDescription,
  type TensorTree,
} from "./part.ts";
import type { BoundResidual } from "./residual.ts";

const config = z.strictObject({
  kind: z.literal("x0_mix"),
  norm: normConfig.prefault({ kind: "rms_norm" }),
  /** Mixer and mlp read the same stream and are added at once. */
  parallel: z.boolean().default(false),
});

/** The stream's factors, 1 at first, and those of x0, 0 at first. */
const mix = (width: number): { x: ParamDescription; x0: ParamDescription } => ({
  x: gain(width),
  x0: { ...gain(width), init: { kind: "constant", value: 0 } },
});

/**
 * y = mix.x · x + mix.x0 · x0, then y + mixer_scale · mixer(norm y), then the same with the mlp: all factors a channel.
 */
export const x0Mix = {
  config,
  bind({ norm: normed, parallel }: z.output<typeof config>, dims: Dims): BoundResidual {
    const norm: BoundPositionwise = bindFrom(norms, normed, dims), width = dims.hidden_size;
    return {
      params: {
        mix: mix(width),
        mixer_norm: norm.params,
        mixer_scale: gain(width),
        mlp_norm: norm.params,
        mlp_scale: gain(width),
      },
      run(params, streams, branches) {
        const p = params as
          & Record<"mixer_norm" | "mlp_norm", TensorTree>
          & Record<"mixer_scale" | "mlp_scale", Tensor>
          & { readonly mix: { readonly x: Tensor; readonly x0: Tensor } };
        const branch = (half: "mixer" | "mlp", x: Tensor) => {
          const normed = scope(`${half}_norm`, () => norm.at(p[`${half}_norm`], x));
          return mul(p[`${half}_scale`], branches[half](normed));
        };
        const factors = {
          "of x": p.mix.x,
          "of x0": p.mix.x0,
          mixer: p.mixer_scale,
          mlp: p.mlp_scale,
        };
        for (const [name, value] of Object.entries(factors)) {
          scope("residual", () => reveal(name, { kind: "factor", over: "part" }, () => value));
        }
        const start = add(mul(p.mix.x, streams.x), mul(p.mix.x0, streams.x0));
        const mixed = add(start, branch("mixer", start));
        return { ...streams, x: add(mixed, branch("mlp", parallel ? start : mixed)) };
      },
    };
  },
};
