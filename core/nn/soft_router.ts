/** A router that weighs branches for each token, softly; what is told of it, and how training may overrule it. */

import { z } from "zod";
import {
  add,
  constant,
  div,
  equal,
  expand,
  floor,
  gelu,
  inPrecision,
  less,
  linear,
  log,
  mul,
  neg,
  reshape,
  slice,
  softmaxLast,
  sub,
  sumLast,
  sumTo,
  uniform,
  type Value,
  where,
} from "../../kernels/mod.ts";
import { currentPath, type Tensor } from "../graph/mod.ts";
import { partSchedule } from "../optim/schedule.ts";
import type { Dims, ParamDescription } from "./part.ts";

export interface SoftRouter<T> {
  /** [router size, channels] */
  readonly hidden: T;
  readonly hidden_bias: T;
  /** [branches, router size] */
  readonly out: T;
  readonly out_bias: T;
}

/** Two layers; the second starts so small that all branches begin with about the same weight. */
export function softRouter(
  size: number,
  branches: number,
  { hidden_size, initializer_range: std }: Dims,
): SoftRouter<ParamDescription> & Record<string, ParamDescription> {
  const router = (shape: readonly number[], init: ParamDescription["init"]): ParamDescription => ({
    shape,
    dtype: "f32",
    role: "router",
    init,
  });
  return {
    hidden: router([size, hidden_size], { kind: "normal", std }),
    hidden_bias: router([size], { kind: "constant", value: 0 }),
    out: router([branches, size], { kind: "normal", std: std / 10 }),
    out_bias: router([branches], { kind: "constant", value: 0 }),
  };
}

/** x [batch, time, channels] → softmax(router x / tau) [batch, time, branches], f32 in all precisions. */
export function branchWeights(p: SoftRouter<Tensor>, x: Tensor, tau: Value): Tensor {
  return inPrecision("f32", () => {
    const hidden = gelu(add(linear(x, p.hidden), p.hidden_bias));
    return softmaxLast(div(add(linear(hidden, p.out), p.out_bias), tau));
  });
}

/** Entropy of weights [..., branches] as a part of the most that it could be: 1 where all are alike. */
export function normalizedEntropy(weights: Tensor): Tensor {
  const most = Math.log(weights.shape.at(-1)!);
  const entropy = neg(sumLast(mul(weights, log(add(weights, 1e-9)))));
  return reshape(mul(entropy, 1 / most), weights.shape.slice(0, -1));
}

/**
 * 1 − normalized entropy, [batch, time]: of each token's weights, or for all tokens alike of the mean of their weights
 * over all rows here.
 */
export function unevenness(weights: Tensor, of: "token" | "mean"): Tensor {
  if (of === "token") return sub(1, normalizedEntropy(weights));
  const [batch, time, branches] = weights.shape;
  const mean = mul(sumTo(weights, [1, 1, branches]), 1 / (batch * time));
  return expand(sub(1, normalizedEntropy(mean)), [batch, time]);
}

export const forcingConfig = z.strictObject({
  /** How often a branch is picked, all being equally likely, and gets all the weight. */
  probability: partSchedule,
  /**
   * What such a choice is for: a token, a row, or all rows that the device has at once. The last makes training depend on how the
   * rows of an update are divided (`accumulation`).
   */
  each: z.enum(["token", "sequence", "batch"]).default("sequence"),
});
export type ForcingConfig = z.output<typeof forcingConfig>;

/** Draws the branches that are forced, by number, −1 where none is: [batch or 1, time or 1, 1]. */
export function drawForced(
  keys: Tensor,
  { each }: ForcingConfig,
  { probability, branches, time }: { probability: Value; branches: number; time: number },
): Tensor {
  const rows = keys.shape[0], choices = each === "token" ? time : 1;
  const drawn = (what: string) => {
    const all = uniform(keys, `${currentPath()}.${what}`, [rows, choices, 1]);
    return each === "batch" ? slice(all, 0, 0, 1) : all;
  };
  const branch = floor(mul(drawn("forced_branch"), branches));
  return where(less(drawn("forced"), probability), branch, -1);
}

/** Weights with those of tokens that a branch is forced on replaced: 1 for it, 0 for the others. */
export function withForced(weights: Tensor, forced: Tensor): Tensor {
  const count = weights.shape.at(-1)!;
  const numbers = constant(`branches ${count}`, [count], Float32Array.from(Array(count).keys()));
  return where(less(forced, 0), weights, equal(forced, numbers));
}
