/** AdamW over a tree of parameters, grouped by role. */

import { z } from "zod";
import { adamW } from "../../kernels/mod.ts";
import { leavesOf, mapTree, type Spec, type Tensor } from "../graph/mod.ts";
import { type ParamDescription, type Role, roles } from "../nn/mod.ts";
import { scheduleConfig } from "./schedule.ts";

const beta = z.number().min(0).lt(1), decay = z.number().nonnegative();
const decayByRole = z.strictObject({
  matrix: decay.default(0),
  embedding: decay.default(0),
  gain: decay.default(0),
  bias: decay.default(0),
  router: decay.default(0),
});

export const adamWConfig = z.strictObject({
  kind: z.literal("adamw"),
  learning_rate: scheduleConfig,
  beta1: beta.default(0.9),
  beta2: beta.default(0.95),
  eps: z.number().positive().default(1e-8),
  /** One number decays matrices alone: embeddings, gains, biases and routers are left. A map decays the roles that it names. */
  weight_decay: z.union([decay, decayByRole]).default(0.1),
  /** Gradients longer than this, all together, are shortened to it; 0 is no limit. */
  max_norm: z.number().nonnegative().default(1),
});
export type AdamWConfig = z.output<typeof adamWConfig>;

export function decayOf({ weight_decay }: Pick<AdamWConfig, "weight_decay">, role: Role): number {
  if (typeof weight_decay === "object") return weight_decay[role];
  return role === "matrix" ? weight_decay : 0;
}

/** Decay by role, whole: what a resolved config says. */
export function decayTable(config: Pick<AdamWConfig, "weight_decay">): Record<Role, number> {
  return Object.fromEntries(roles.map((role) => [role, decayOf(config, role)])) as Record<
    Role,
    number
  >;
}

/** First and second moments, each a tree like the parameters. */
export interface Moments<T> {
  readonly m: T;
  readonly v: T;
}

export function momentSpecs(params: unknown): Moments<unknown> {
  const spec = () => mapTree(params, ({ shape }: Spec): Spec => ({ shape, dtype: "f32" }));
  return { m: spec(), v: spec() };
}

/** The scalars of update `step`, counted from 0: learning rate and bias corrections 1 − betaᵗ with t = step + 1. */
export function hyperAt(
  { beta1, beta2 }: Pick<AdamWConfig, "beta1" | "beta2">,
  rate: number,
  step: number,
): Float32Array {
  return Float32Array.of(rate, 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1));
}

/** What an update reads: all trees have the shape of `params`. */
export interface Update {
  readonly params: unknown;
  readonly grads: unknown;
  readonly moments: Moments<unknown>;
  /** As from `hyperAt`, [3]. */
  readonly hyper: Tensor;
  /** As from `globalNorm`, [2]. */
  readonly gate: Tensor;
}

/** The parameters and moments after one update. */
export function adamWUpdate(
  descriptions: unknown,
  { params, grads, moments, hyper, gate }: Update,
  config: AdamWConfig,
): { params: unknown; moments: Moments<unknown> } {
  const { beta1, beta2, eps } = config;
  const described = leavesOf<ParamDescription>(descriptions),
    [p, g, m, v] = [params, grads, moments.m, moments.v].map((tree) => leavesOf<Tensor>(tree));
  const updated = described.map(({ leaf: { role } }, i) =>
    adamW(p[i].leaf, g[i].leaf, m[i].leaf, v[i].leaf, hyper, gate, {
      beta1,
      beta2,
      eps,
      weight_decay: decayOf(config, role),
    })
  );
  const tree = (pick: "param" | "m" | "v") => {
    let next = 0;
    return mapTree(descriptions, () => updated[next++][pick]);
  };
  return { params: tree("param"), moments: { m: tree("m"), v: tree("v") } };
}
