/**
 * Gradient-preserving activation scaling (Chen et al. 2025, arXiv 2506.22049): after each sum the residual
 * stream is scaled by 1 − silu(gate), but its gradient passes as if it were not.
 */

import { z } from "zod";
import { add, mul, reshape, silu, sub } from "../../kernels/mod.ts";
import { reveal, scope, stopGradient, type Tensor } from "../graph/mod.ts";
import { normConfig, norms } from "./norms.ts";
import { bindFrom, type BoundPositionwise, type Dims, type ParamDescription } from "./part.ts";
import type { TensorTree } from "./part.ts";
import type { BoundResidual } from "./residual.ts";

const config = z.strictObject({
  kind: z.literal("gpas"),
  norm: normConfig.prefault({ kind: "rms_norm" }),
  /** `each`: the sums after mixer and mlp have a gate each; `shared`: a layer has one. */
  gates: z.enum(["each", "shared"]).default("each"),
});

/** One number; at 0 nothing is scaled. */
const gate: ParamDescription = {
  shape: [],
  dtype: "f32",
  role: "gain",
  init: { kind: "constant", value: 0 },
};

const factor = { kind: "factor", over: "part" } as const;

/** x · (1 − silu(gate)), whose gradient passes to x unscaled. */
export function preservingScale(x: Tensor, gate: Tensor): Tensor {
  return sub(x, mul(silu(gate), stopGradient(x)));
}

/** scaled(x + mixer(norm x)), then scaled(x + mlp(norm x)). */
export const gpas = {
  config,
  bind({ norm: normed, gates }: z.output<typeof config>, dims: Dims): BoundResidual {
    const norm: BoundPositionwise = bindFrom(norms, normed, dims);
    return {
      params: {
        mixer_norm: norm.params,
        mlp_norm: norm.params,
        ...(gates === "shared" ? { gate } : { mixer_gate: gate, mlp_gate: gate }),
      },
      run(params, streams, branches) {
        const p = params as Record<"mixer_norm" | "mlp_norm", TensorTree> & Record<string, Tensor>;
        const after = (half: "mixer" | "mlp", x: Tensor) => {
          const normed = scope(`${half}_norm`, () => norm.at(p[`${half}_norm`], x));
          const gate = p.gate ?? p[`${half}_gate`];
          const scale = () => reshape(sub(1, silu(gate)), [1]);
          scope("residual", () => reveal(`scale after ${half}`, factor, scale));
          return preservingScale(add(x, branches[half](normed)), gate);
        };
        return { ...streams, x: after("mlp", after("mixer", streams.x)) };
      },
    };
  },
};
