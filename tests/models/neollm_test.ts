import { curveOf, evenClock, scheduleConfig, slowAverage } from "../../core/optim/mod.ts";
import { type CheckCase, testVectors } from "../vector_tests.ts";
import { checkClose, vectorSet } from "../vectors.ts";
import { modelParams, neollm } from "./neollm.ts";
import { neollmCases, shortConvUpdate, sizesOf } from "./neollm_cases.ts";
import { updates } from "./updates.ts";

const set = vectorSet("neollm");

interface Rates {
  readonly start: number;
  readonly peak: number;
  readonly min: number;
  readonly t_alpha: number;
  readonly t_beta3: number;
}

const rate = ({ start, peak, min }: Rates, warmup: number) => ({
  kind: "cosine",
  start,
  peak,
  end: min,
  warmup,
});

const threeAverages = updates((c) => {
  const { lr, betas: [beta1, beta2, beta3], weight_decay, ...rest } = c.config as unknown as {
    lr: Rates & { warm: number; total: number };
    betas: number[];
    weight_decay: number;
    alpha: number;
    eps: number;
    grad_clip: number;
  };
  const sizes = sizesOf(c), last = `layers.${sizes.layers.length - 1}.gpas_mlp.gate`;
  const model = neollm(sizes);
  return {
    model,
    start: set.read("model_train"),
    steps: lr.total,
    optimizer: {
      kind: "ademamix",
      learning_rate: rate(lr, lr.warm),
      beta1,
      beta2,
      beta3,
      alpha: rest.alpha,
      alpha_warmup: lr.t_alpha,
      beta3_warmup: lr.t_beta3,
      eps: rest.eps,
      weight_decay: { matrix: weight_decay, embedding: weight_decay },
      max_norm: rest.grad_clip,
    },
    params: (named) => modelParams(model, (name) => named[name]),
    // the last norm takes any scale away, so that gate's gradient is noise: each update may go either way
    noisy: (name) => name === last ? 4 * lr.peak * (1 + rest.alpha) : undefined,
  };
});

const schedules: CheckCase = (_, { config, tensors }) => {
  const c = config as unknown as
    & Rates
    & Record<"warmup" | "total" | "alpha" | "beta1" | "beta3", number>;
  const steps = tensors.get("sched/step")!.values, clock = evenClock(c.total);
  const learningRate = curveOf(scheduleConfig.parse(rate(c, c.warmup)), clock);
  const slow = slowAverage({ ...c, alpha_warmup: c.t_alpha, beta3_warmup: c.t_beta3 }, clock);
  const found = {
    lr: Array.from(steps, learningRate),
    alpha: Array.from(steps, (step) => slow(step).alpha),
    beta3: Array.from(steps, (step) => slow(step).beta3),
  };
  for (const [name, values] of Object.entries(found)) {
    checkClose(name, values, tensors.get(`sched/${name}`)!.values, 1e-12, 1e-12);
  }
  return Promise.resolve();
};

testVectors("neollm", set, neollmCases, {
  short_conv_update: shortConvUpdate,
  optimizer_steps: threeAverages,
  schedule: schedules,
});
