/** AdamW over a tree of parameters, grouped by role. */

import { z } from "zod";
import { adamW, hyperSize, packHyper } from "../../kernels/mod.ts";
import { leavesOf, mapTree, type Spec, type Tensor } from "../graph/mod.ts";
import { type ParamDescription, type Role, roles } from "../nn/mod.ts";
import { type Curve, curveOf, type Schedule, scheduleOf } from "./schedule.ts";
import type { Clock } from "./span.ts";

// an id is the name in the JSON schema, where each is said once
const nonnegative = z.number().nonnegative();
const rate = scheduleOf(nonnegative, z.number().positive()) // a peak of 0 would train nothing
  .meta({ id: "rate_schedule" });
const beta = scheduleOf(z.number().min(0).lt(1)).meta({ id: "beta_schedule" });
const decay = scheduleOf(nonnegative).meta({ id: "schedule" });
const decayByRole = z.strictObject({
  kind: z.never().optional(), // what has one is a schedule, even if it is misspelt
  matrix: decay.default(0),
  embedding: decay.default(0),
  gain: decay.default(0),
  bias: decay.default(0),
  router: decay.default(0),
});

export const adamWConfig = z.strictObject({
  kind: z.literal("adamw"),
  learning_rate: rate,
  beta1: beta.default(0.9),
  beta2: beta.default(0.95),
  eps: z.number().positive().default(1e-8),
  /**
   * One number or schedule decays matrices alone: embeddings, gains, biases and routers are left. A map decays the roles
   * that it names.
   */
  weight_decay: z.union([decay, decayByRole]).default(0.1),
  /** Gradients longer than this, all together, are shortened to it; 0 is no limit. */
  max_norm: decay.default(1),
});
export type AdamWConfig = z.output<typeof adamWConfig>;

type DecayConfig = Pick<AdamWConfig, "weight_decay">;

export function decayOf({ weight_decay }: DecayConfig, role: Role): Schedule {
  if (typeof weight_decay === "object" && "matrix" in weight_decay) return weight_decay[role];
  return role === "matrix" ? weight_decay : 0;
}

/** Decay by role, whole: what a resolved config says. */
export function decayTable(config: DecayConfig): Record<Role, Schedule> {
  return Object.fromEntries(roles.map((role) => [role, decayOf(config, role)])) as Record<
    Role,
    Schedule
  >;
}

/** The optimizer's schedules, by their place in its config. */
export function optimizerSchedules(
  config: AdamWConfig,
): { path: readonly string[]; schedule: Schedule }[] {
  const { weight_decay } = config;
  const ofDecay = typeof weight_decay === "object" && "matrix" in weight_decay
    ? roles.map((role) => ({ path: ["weight_decay", role], schedule: weight_decay[role] }))
    : [{ path: ["weight_decay"], schedule: weight_decay }];
  const plain = ["learning_rate", "beta1", "beta2", "max_norm"] as const;
  return [...plain.map((name) => ({ path: [name], schedule: config[name] })), ...ofDecay];
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

/** The scalars of one update. */
export interface OptimizerScalars {
  readonly learningRate: number;
  readonly maxNorm: number;
  /** The rest as the kernels read it, from `packHyper`. */
  readonly hyper: Float64Array<ArrayBuffer>;
}

/** The scalars of update `step`, counted from 0. */
export function scalarsOf(config: AdamWConfig, clock: Clock): (step: number) => OptimizerScalars {
  const curve = (schedule: Schedule) => curveOf(schedule, clock);
  const [rate, norm, beta1, beta2] = [
    config.learning_rate,
    config.max_norm,
    config.beta1,
    config.beta2,
  ].map(curve);
  const decays = roles.map((role) => curve(decayOf(config, role)));
  const corrections = [config.beta1, config.beta2].map((beta) => biasCorrection(beta, clock));
  return (step) => {
    const learning_rate = rate(step);
    const hyper = packHyper({
      learning_rate,
      beta1: beta1(step),
      beta2: beta2(step),
      corrections: [corrections[0](step), corrections[1](step)],
      decays: decays.map((decay) => decay(step)),
    });
    return { learningRate: learning_rate, maxNorm: norm(step), hyper };
  };
}

/**
 * What a moment of update `step` (from 0) is divided by. With m₀ = 0 and mₜ = βₜmₜ₋₁ + (1 − βₜ)gₜ the weights of all gradients
 * in mₜ add up to 1 − β₁β₂…βₜ, exactly, whatever the betas; that is 1 − βᵗ where they are one number. The product is
 * taken from the first update on, in order, so it is the same after a resume.
 */
function biasCorrection(beta: Schedule, clock: Clock): Curve {
  if (typeof beta === "number") return (step) => 1 - beta ** (step + 1);
  const betaAt = curveOf(beta, clock);
  let taken = 0, product = 1;
  return (step) => {
    if (step + 1 < taken) [taken, product] = [0, 1];
    while (taken <= step) product *= betaAt(taken++);
    return 1 - product;
  };
}

/** What an update reads: all trees have the shape of `params`. */
export interface Update {
  readonly params: unknown;
  readonly grads: unknown;
  readonly moments: Moments<unknown>;
  /** As from `scalarsOf`. */
  readonly hyper: Tensor;
  /** As from `globalNorm`, [2]. */
  readonly gate: Tensor;
}

/** The parameters and moments after one update. */
export function adamWUpdate(
  descriptions: unknown,
  { params, grads, moments, hyper, gate }: Update,
  { eps }: Pick<AdamWConfig, "eps">,
): { params: unknown; moments: Moments<unknown> } {
  const described = leavesOf<ParamDescription>(descriptions);
  const [p, g, m, v] = [params, grads, moments.m, moments.v].map((tree) => leavesOf<Tensor>(tree));
  const updated = described.map(({ leaf: { role } }, i) =>
    adamW(p[i].leaf, g[i].leaf, m[i].leaf, v[i].leaf, hyper, gate, {
      eps,
      decay: roles.indexOf(role),
    })
  );
  const tree = (pick: "param" | "m" | "v") => {
    let next = 0;
    return mapTree(descriptions, () => updated[next++][pick]);
  };
  return { params: tree("param"), moments: { m: tree("m"), v: tree("v") } };
}

/** The shape of `hyper`. */
export const hyperSpec: Spec = { shape: [hyperSize(roles.length)], dtype: "f32" };
