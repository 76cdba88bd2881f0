import { roles } from "../../core/nn/mod.ts";
import { curveOf, evenClock, scheduleConfig } from "../../core/optim/mod.ts";
import { type CheckCase, testVectors } from "../vector_tests.ts";
import { checkClose, vectorSet } from "../vectors.ts";
import { modelParams, recycledCore } from "./recycled.ts";
import { cachedForward, caseOps, otherCases, recordedAverages, sizesOf } from "./recycled_cases.ts";
import { slidingEval } from "./recycled_sliding.ts";
import { updates } from "./updates.ts";

const set = vectorSet("recycled-core"), start = set.read("model_train");
// Muon in bf16 throughout, of which only the tolerances differ
const inHalves = set.read("optimizer_steps_bf16_muon");

interface Recipe {
  readonly opt: {
    readonly iterations: number;
    warmdown_iters: number;
    readonly start_step: number;
  };
  readonly muon_momentum_warmup: readonly [from: number, to: number, over: number];
  readonly matrix_lr: number;
  readonly scalar_lr: number;
  readonly tied_embed_lr: number;
  readonly betas: readonly [number, number];
  readonly adam_eps: number;
  readonly adam_wd: number;
  readonly muon_wd: number;
  readonly grad_clip_norm: number;
}

/** Muon for the big matrices, AdamW for all else; the recorded updates begin in the middle of a run. */
const muonAndAdamW = updates((c) => {
  const recipe = c.config as unknown as Recipe, model = recycledCore(sizesOf(c));
  const { iterations, warmdown_iters: decay, start_step } = recipe.opt, steps = [0, 1, 2];
  const clock = evenClock(iterations), [from, to, over] = recipe.muon_momentum_warmup;
  const part = (config: unknown) => {
    const curve = curveOf(scheduleConfig.parse(config), clock);
    const points = steps.map((step) => [step, curve(start_step + step)]);
    return { kind: "points", points, interpolate: "hold" };
  };
  const rate = (peak: number) => part({ kind: "warmup_stable_decay", peak, decay });
  const momentum = part({ kind: "points", points: [[0, from], [over, to]] });
  for (const step of steps) {
    const recorded = ["lr_mult", "muon_momentum"].map((name) =>
      c.tensors.get(`step${step}/${name}`)!.values[0]
    );
    const used = [rate(1), momentum].map(({ points }) => points[step][1]);
    checkClose(`update ${step}`, used, recorded, 1e-12, 0);
  }
  const [beta1, beta2] = recipe.betas;
  const adamw = (lr: number, weight_decay = recipe.adam_wd) => ({
    kind: "adamw",
    learning_rate: rate(lr),
    beta1,
    beta2,
    eps: recipe.adam_eps,
    weight_decay: Object.fromEntries(roles.map((role) => [role, weight_decay])),
  });
  return {
    model,
    start,
    steps: iterations,
    optimizer: {
      max_norm: recipe.grad_clip_norm,
      groups: [
        {
          kind: "muon",
          learning_rate: rate(recipe.matrix_lr),
          momentum,
          weight_decay: recipe.muon_wd,
          params: ["q", "k", "v", "o"].map((name) => `layers.*.mixer.${name}`)
            .concat("layers.*.mlp.up", "layers.*.mlp.down"),
        },
        { ...adamw(recipe.tied_embed_lr), roles: ["embedding"] },
        // the first layer's values are mixed with none, and what has no gradient does not decay there
        { ...adamw(recipe.scalar_lr, 0), params: ["layers.0.mixer.value_mix"] },
        adamw(recipe.scalar_lr),
      ],
    },
    params: (state) => modelParams(model, state),
    also: [inHalves],
  };
});

const averages = recordedAverages(start);
const both: CheckCase = async (machine, c) => {
  await muonAndAdamW(machine, c);
  await averages(machine, c);
};

testVectors("recycled-core", set, caseOps, {
  ...otherCases,
  cached_forward: cachedForward(start),
  sliding_eval: slidingEval(start),
  optimizer_steps_f32_muon: both,
  [inHalves.id]: () => Promise.resolve(), // held to what is found there
});
