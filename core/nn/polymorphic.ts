/**
 * Polymorphic mlps: branches of different form see the same input, and a router weighs their outputs for each token. All
 * branches always run; routing stays soft. Source: the model card of MhaWay/Veronica.
 */

import { z } from "zod";
import { add, mul, slice } from "../../kernels/mod.ts";
import { reveal, scope, type Tensor } from "../graph/mod.ts";
import { nonnegativeSchedule, scheduleOf } from "../optim/schedule.ts";
import { branchConfig, branches } from "./branches.ts";
import {
  type Applied,
  bindFrom,
  type BoundPart,
  type Dims,
  type ParamTree,
  type Part,
  type SpecTree,
  type StepContext,
  type TensorTree,
} from "./part.ts";
import {
  branchWeights,
  drawForced,
  forcingConfig,
  normalizedEntropy,
  type SoftRouter,
  softRouter,
  unevenness,
  withForced,
} from "./soft_router.ts";

const config = z.strictObject({
  kind: z.literal("polymorphic"),
  branches: z.array(branchConfig).min(2),
  /** Hidden units of the router. Left out: hidden_size / 6, and at least 64. */
  router_size: z.int().positive().optional(),
  /** The router's logits are divided by it: the higher, the more even the branches' weights. */
  tau: scheduleOf(z.number().positive()).default(1),
  /** Of the loss that keeps the router undecided: 1 − entropy of the weights / ln(branches). */
  aux_weight: nonnegativeSchedule.default(0.02),
  /** Whether that entropy is of each token's weights, or of their mean, which lets each token decide if all branches are used. */
  entropy_of: z.enum(["token", "mean"]).default("token"),
  /** How layers' losses are taken together. */
  aux_over_layers: z.enum(["mean", "sum"]).default("mean"),
  /** In training a branch gets all the weight now and then, whatever the router says, so that each learns. */
  forcing: forcingConfig.optional(),
});
export type PolymorphicConfig = z.output<typeof config>;

interface Params<T> {
  readonly router: SoftRouter<T>;
  readonly branches: readonly TensorTree[];
}

/** What routing depends on besides parameters and input. */
export interface RoutingSettings {
  readonly tau: Tensor | number;
  readonly auxWeight: Tensor | number;
  /** Branches that are forced: see `drawForced`. */
  readonly forced: Tensor | undefined;
}

/** Σ weight · output: weights [batch, time, branches], outputs [batch, time, channels] each. */
export function weighBranches(weights: Tensor, outputs: readonly Tensor[]): Tensor {
  return outputs.map((out, i) => mul(slice(weights, 2, i, 1), out)).reduce(add);
}

/** Whole rows: `run` gives the branches' outputs. What is told is of what the router itself says, forced or not. */
export function applyRouted(
  router: SoftRouter<Tensor>,
  x: Tensor,
  run: () => readonly Tensor[],
  { tau, auxWeight, forced, config, layer, labels }: RoutingSettings & {
    readonly config: Pick<PolymorphicConfig, "entropy_of" | "aux_over_layers">;
    readonly layer: number;
    /** What the branches are called. */
    readonly labels?: readonly string[];
  },
): Applied {
  const weights = scope("router", () => branchWeights(router, x, tau)), outputs = run();
  const about = { kind: "shares", over: "tokens", labels } as const;
  scope("router", () => reveal("branches", about, () => weights));
  const aux = config.aux_over_layers === "mean" ? "router_entropy" : `router_entropy.${layer}`;
  return {
    out: weighBranches(forced ? withForced(weights, forced) : weights, outputs),
    aux: { [aux]: mul(unevenness(weights, config.entropy_of), auxWeight) },
    metrics: {
      "router.alpha": weights,
      "router.entropy_norm": normalizedEntropy(weights),
    },
  };
}

/** A kind that comes twice is told apart by its place. */
function labelsOf({ branches }: PolymorphicConfig): string[] {
  return branches.map(({ kind }, i) =>
    branches.filter((other) => other.kind === kind).length > 1 ? `${i} ${kind}` : kind
  );
}

function routerSize({ router_size }: PolymorphicConfig, { hidden_size }: Dims): number {
  return router_size ?? Math.max(64, Math.floor(hidden_size / 6));
}

export const polymorphic: Part<typeof config> = {
  config,
  bind(config, dims): BoundPart {
    const { tau, aux_weight, forcing } = config, count = config.branches.length;
    const bound: readonly BoundPart[] = config.branches.map((branch, i) =>
      scope(`branches.${i}`, () => bindFrom(branches, branch, dims))
    );
    const params: ParamTree = {
      router: softRouter(routerSize(config, dims), count, dims),
      branches: bound.map(({ params }) => params),
    };
    const each = <R>(run: (branch: BoundPart, i: number) => R) => () =>
      bound.map((branch, i) => scope(`branches.${i}`, () => run(branch, i)));
    const typed = (tree: TensorTree) => tree as unknown as Params<Tensor>;
    return {
      params,
      scalars: { tau, aux_weight, ...(forcing && { force_prob: forcing.probability }) },
      noise: forcing || bound.some(({ noise }) => noise === "training") ? "training" : "never",
      looksAhead: bound.some(({ looksAhead }) => looksAhead),
      apply(tree, x, ctx) {
        const p = typed(tree), { scalars, noise } = ctx;
        const forced = forcing && noise && drawForced(noise, forcing, {
          probability: scalars.force_prob,
          branches: count,
          time: x.shape[1],
        });
        const run = each((branch, i) => branch.apply(p.branches[i], x, ctx).out);
        return applyRouted(p.router, x, run, {
          tau: scalars.tau,
          auxWeight: scalars.aux_weight,
          forced,
          config,
          layer: dims.layer,
          labels: labelsOf(config),
        });
      },
      state: (room): SpecTree => ({ branches: bound.map((branch) => branch.state(room)) }),
      step(tree, x, ctx: StepContext, state) {
        const p = typed(tree), before = (state as { branches: readonly TensorTree[] }).branches;
        const weights = scope("router", () => branchWeights(p.router, x, ctx.scalars.tau));
        const stepped = each((branch, i) => branch.step(p.branches[i], x, ctx, before[i]))();
        return {
          out: weighBranches(weights, stepped.map(({ out }) => out)),
          state: { branches: stepped.map(({ state }) => state) },
        };
      },
    };
  },
};
