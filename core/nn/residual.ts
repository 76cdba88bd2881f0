/** Residual topologies: how a layer's mixer and mlp are joined to the streams that cross layers. */

import { z } from "zod";
import { add } from "../../kernels/mod.ts";
import { scope, type Tensor } from "../graph/mod.ts";
import { gpas } from "./gpas.ts";
import { normConfig, norms } from "./norms.ts";
import {
  bindFrom,
  type BoundPositionwise,
  type Dims,
  type ParamTree,
  type TensorTree,
} from "./part.ts";
import { x0Mix } from "./x0_mix.ts";

/**
 * Values that cross layers. `x` is the residual stream; a topology may thread others beside it, by
 * name.
 */
export interface Streams {
  readonly x: Tensor;
  readonly [name: string]: Tensor;
}

/** A layer's two halves, already bound to their weights and to rows or a state. */
export interface Branches {
  mixer(x: Tensor): Tensor;
  mlp(x: Tensor): Tensor;
}

/** Norms run over channels, so a topology serves `apply` and `step` alike. */
export interface BoundResidual {
  readonly params: ParamTree;
  run(params: TensorTree, streams: Streams, branches: Branches): Streams;
}

const preNormConfig = z.strictObject({
  kind: z.literal("pre_norm"),
  norm: normConfig.prefault({ kind: "rms_norm" }),
});

/** x + mixer(norm x), then x + mlp(norm x). */
export const preNorm = {
  config: preNormConfig,
  bind(config: z.output<typeof preNormConfig>, dims: Dims): BoundResidual {
    const norm: BoundPositionwise = bindFrom(norms, config.norm, dims);
    return {
      params: { mixer_norm: norm.params, mlp_norm: norm.params },
      run(params, streams, branches) {
        const p = params as Record<"mixer_norm" | "mlp_norm", TensorTree>;
        const normed = (name: keyof typeof p, x: Tensor) => scope(name, () => norm.at(p[name], x));
        const mixed = add(streams.x, branches.mixer(normed("mixer_norm", streams.x)));
        return { ...streams, x: add(mixed, branches.mlp(normed("mlp_norm", mixed))) };
      },
    };
  },
};

export const residuals = { pre_norm: preNorm, gpas, x0_mix: x0Mix };
export const residualConfig = z.discriminatedUnion("kind", [
  preNormConfig,
  gpas.config,
  x0Mix.config,
]);
