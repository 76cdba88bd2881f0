/** AdamW (Loshchilov & Hutter 2019). */

import { z } from "zod";
import { adamW, hyperSize, packHyper } from "../../kernels/mod.ts";
import { roles } from "../nn/mod.ts";
import { betaConfig, biasCorrection } from "./betas.ts";
import { decayConfig, decayOf, decaySchedules } from "./decay.ts";
import { defineOptimizer } from "./record.ts";
import { curveOf, rateConfig } from "./schedule.ts";

export const adamWConfig = z.strictObject({
  kind: z.literal("adamw"),
  learning_rate: rateConfig,
  beta1: betaConfig.default(0.9),
  beta2: betaConfig.default(0.95),
  eps: z.number().positive().default(1e-8),
  weight_decay: decayConfig.default(0.1),
});

export const adamWOptimizer = defineOptimizer({
  config: adamWConfig,
  buffers: ["m", "v"],
  schedules: (config) => [
    ...(["learning_rate", "beta1", "beta2"] as const).map((name) => ({
      path: [name],
      schedule: config[name],
    })),
    ...decaySchedules(config.weight_decay),
  ],
  words: hyperSize(roles.length),
  wordsAt(config, clock) {
    const [rate, beta1, beta2] = [config.learning_rate, config.beta1, config.beta2]
      .map((schedule) => curveOf(schedule, clock));
    const decays = roles.map((role) => curveOf(decayOf(config.weight_decay, role), clock));
    const corrections = [config.beta1, config.beta2].map((beta) => biasCorrection(beta, clock));
    return (step) =>
      packHyper({
        learning_rate: rate(step),
        beta1: beta1(step),
        beta2: beta2(step),
        corrections: [corrections[0](step), corrections[1](step)],
        decays: decays.map((decay) => decay(step)),
      });
  },
  decayOf: (config, role) => decayOf(config.weight_decay, role),
  update({ eps }, { role }, { param, grad, buffers: { m, v }, hyper, gate }) {
    const next = adamW(param, grad, m, v, hyper, gate, { eps, decay: roles.indexOf(role) });
    return { param: next.param, buffers: { m: next.m, v: next.v } };
  },
});
