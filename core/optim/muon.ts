/**
 * Muon (Jordan et al. 2024): momentum whose matrix is made nearly orthogonal before it moves the weights.
 */

import { z } from "zod";
import {
  add,
  div,
  element,
  matmul,
  mul,
  reshape,
  sqrt,
  square,
  sub,
  sumLast,
  where,
} from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";
import { betaConfig } from "./betas.ts";
import { defineOptimizer } from "./record.ts";
import { curveOf, nonnegativeSchedule, rateConfig } from "./schedule.ts";

export const muonConfig = z.strictObject({
  kind: z.literal("muon"),
  learning_rate: rateConfig,
  momentum: betaConfig.default(0.95),
  /** The step is taken from where the momentum will be. */
  nesterov: z.boolean().default(true),
  /** Newton-Schulz steps towards an orthogonal matrix. */
  ns_steps: z.int().positive().default(5),
  weight_decay: nonnegativeSchedule.default(0),
});

/** Of the quintic that is applied to the singular values: they end between about 0.7 and 1.2. */
const [A, B, C] = [3.4445, -4.775, 2.0315];

/**
 * u [..., rows, cols] → nearly the orthogonal matrix nearest to it: x = u / (‖u‖ + 1e-7), then so many times
 * x ← ax + (bG + cG²)x with G = xxᵀ, or on the other side where that is the smaller matrix.
 */
export function newtonSchulz(u: Tensor, steps: number): Tensor {
  const lead = u.shape.slice(0, -2), [rows, cols] = u.shape.slice(-2), isTall = rows > cols;
  const squares = sumLast(reshape(square(u), [...lead, rows * cols]));
  let x = div(u, add(sqrt(reshape(squares, [...lead, 1, 1])), 1e-7));
  for (let step = 0; step < steps; step++) {
    const gram = matmul(x, x, isTall ? { transA: true } : { transB: true });
    const factor = add(mul(gram, B), mul(matmul(gram, gram), C));
    x = add(mul(x, A), isTall ? matmul(x, factor) : matmul(factor, x));
  }
  return x;
}

/**
 * buf ← μ·buf + g; u = g + μ·buf (or buf); p ← p(1 − lr·wd) − lr·√max(1, rows / cols) · newtonSchulz(u).
 */
export const muonOptimizer = defineOptimizer({
  config: muonConfig,
  buffers: ["momentum"],
  refuses: ({ shape }) => shape.length === 2 ? undefined : "muon trains matrices alone",
  schedules: (config) =>
    (["learning_rate", "momentum", "weight_decay"] as const).map((name) => ({
      path: [name],
      schedule: config[name],
    })),
  words: 3,
  wordsAt(config, clock) {
    const curves = [config.learning_rate, config.momentum, config.weight_decay]
      .map((schedule) => curveOf(schedule, clock));
    return (step) => Float64Array.from(curves, (curve) => curve(step));
  },
  decayOf: ({ weight_decay }) => weight_decay,
  update({ nesterov, ns_steps }, { shape: [rows, cols] }, { param, grad, buffers, hyper, gate }) {
    const [rate, momentum, decay] = [0, 1, 2].map((n) => element(hyper, n));
    const scale = element(gate, 0), finite = element(gate, 1);
    const g = mul(grad, scale), next = add(mul(momentum, buffers.momentum), g);
    const direction = newtonSchulz(nesterov ? add(g, mul(momentum, next)) : next, ns_steps);
    const length = Math.sqrt(Math.max(1, rows / cols));
    const kept = mul(param, sub(1, mul(rate, decay)));
    const moved = sub(kept, mul(mul(rate, length), direction));
    return {
      param: where(finite, moved, param),
      buffers: { momentum: where(finite, next, buffers.momentum) },
    };
  },
});
