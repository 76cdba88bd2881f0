/** AdEMAMix (Pagliardini et al. 2024, arXiv 2409.03137): AdamW with a second, slow average of gradients. */

import { z } from "zod";
import { add, div, element, mul, sqrt, square, sub, where } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import { roles } from "../nn/mod.ts";
import { decayConfig, decayOf, decaySchedules } from "./decay.ts";
import { defineOptimizer } from "./record.ts";
import { curveOf, rateConfig } from "./schedule.ts";
import { type Clock, type Span, spanConfig } from "./span.ts";

const beta = z.number().min(0).lt(1);

export const adEMAMixConfig = z.strictObject({
  kind: z.literal("ademamix"),
  learning_rate: rateConfig,
  beta1: beta.default(0.9),
  beta2: beta.default(0.999),
  /** Of the slow average. */
  beta3: beta.default(0.9999),
  /** How much of the slow average is added to the fast one. */
  alpha: z.number().nonnegative().default(5),
  /** How long alpha rises from 0 in a straight line. */
  alpha_warmup: spanConfig.default(0),
  /** How long beta3 rises from beta1, its half-life in a straight line. */
  beta3_warmup: spanConfig.default(0),
  eps: z.number().positive().default(1e-8),
  weight_decay: decayConfig.default(0.1),
});

type Config = z.output<typeof adEMAMixConfig>;

/** Words of `hyper` before the decays of the roles. */
const firstDecay = 10;

export const adEMAMixOptimizer = defineOptimizer({
  config: adEMAMixConfig,
  buffers: ["m1", "m2", "v"],
  schedules: ({ learning_rate, weight_decay }) => [
    { path: ["learning_rate"], schedule: learning_rate },
    ...decaySchedules(weight_decay),
  ],
  words: firstDecay + roles.length,
  wordsAt(config, clock) {
    const { beta1, beta2 } = config, rate = curveOf(config.learning_rate, clock);
    const decays = roles.map((role) => curveOf(decayOf(config.weight_decay, role), clock));
    const slow = slowAverage(config, clock);
    return (step) => {
      const t = step + 1, { alpha, beta3 } = slow(t);
      return Float64Array.of(
        rate(step),
        1 - beta1 ** t,
        1 - beta2 ** t,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        beta3,
        1 - beta3,
        alpha,
        ...decays.map((decay) => decay(step)),
      );
    };
  },
  decayOf: (config, role) => decayOf(config.weight_decay, role),
  update({ eps }, { role }, { param, grad, buffers, hyper, gate }) {
    const [rate, c1, c2, beta1, rest1, beta2, rest2, beta3, rest3, alpha] = Array.from(
      { length: firstDecay },
      (_, n) => element(hyper, n),
    );
    const scale = element(gate, 0), finite = element(gate, 1);
    const g = mul(grad, scale);
    const blend = (old: Tensor, keep: Tensor, rest: Tensor, x: Tensor) =>
      add(mul(old, keep), mul(rest, x));
    const m1 = blend(buffers.m1, beta1, rest1, g), m2 = blend(buffers.m2, beta3, rest3, g);
    const v = blend(buffers.v, beta2, rest2, square(g));
    const spread = add(div(sqrt(v), sqrt(c2)), eps);
    const direction = div(add(div(m1, c1), mul(alpha, m2)), spread);
    const decay = element(hyper, firstDecay + roles.indexOf(role));
    const moved = sub(param, mul(rate, add(direction, mul(decay, param))));
    const kept = (now: Tensor, before: Tensor) => where(finite, now, before);
    return {
      param: kept(moved, param),
      buffers: {
        m1: kept(m1, buffers.m1),
        m2: kept(m2, buffers.m2),
        v: kept(v, buffers.v),
      },
    };
  },
});

/** alpha and beta3 of update `t`, counted from 1. */
export function slowAverage(
  { alpha, beta1, beta3, alpha_warmup, beta3_warmup }: Pick<
    Config,
    "alpha" | "beta1" | "beta3" | "alpha_warmup" | "beta3_warmup"
  >,
  clock: Clock,
): (t: number) => { alpha: number; beta3: number } {
  const part = (t: number, span: Span) => {
    const steps = clock.stepsOf(span);
    return t < steps ? t / steps : 1;
  };
  // the half-life of an average, and the beta that has it
  const halfLife = (beta: number) => Math.log(0.5) / Math.log(beta + 1e-8) - 1;
  const betaOf = (life: number) => 0.5 ** (1 / (life + 1));
  return (t) => {
    const risen = part(t, beta3_warmup);
    const rising = betaOf((1 - risen) * halfLife(beta1) + risen * halfLife(beta3));
    return { alpha: alpha * part(t, alpha_warmup), beta3: risen < 1 ? rising : beta3 };
  };
}
