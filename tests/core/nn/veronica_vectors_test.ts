import * as k from "../../../kernels/mod.ts";
import type { Tensor } from "../../../core/graph/mod.ts";
import {
  attention,
  bindFrom,
  branches,
  mlpConfig,
  type PolymorphicConfig,
  unevenness,
} from "../../../core/nn/mod.ts";
import { type CaseOps, testVectors } from "../../vector_tests.ts";
import { type VectorSet, vectorSet } from "../../vectors.ts";
import { expansionCase, optimizerCase, scheduleCase } from "./veronica_runs.ts";
import {
  applyForced,
  contextOf,
  dimsOf,
  forcedOf,
  modelOf,
  paramsOf,
  partParams,
  polymorphicConfig,
  trailOf,
} from "./veronica_network.ts";

const golden = vectorSet("veronica");

/** Cases that are about the parameters of another. */
const borrowed: Readonly<Record<string, string>> = { optimizer_steps: "model_eval" };

const set: VectorSet = {
  ids: golden.ids,
  read(id) {
    const c = golden.read(id), from = borrowed[id];
    if (!from) return c;
    const lent = [...golden.read(from).tensors].filter(([name]) => name.startsWith("param/"));
    return { ...c, tensors: new Map([...lent, ...c.tensors]) };
  },
};

// Angles come from f32 tables, of ours and theirs.
const whole = { transcendental: true, table: true } as const;
const smooth = { transcendental: true } as const;

const branchCase = (number: number): CaseOps => ({
  ...smooth,
  body({ x, ...inputs }, _, { config: c }) {
    const mlp = mlpConfig.parse(polymorphicConfig(c.hidden as number, 16)) as PolymorphicConfig;
    const part = bindFrom(branches, mlp.branches[number], dimsOf(c.d as number));
    const p = partParams(mlp, inputs, number);
    return { out: { y: part.apply(p, x, contextOf(x)).out } };
  },
});

const convCase: CaseOps = {
  body({ x, ...inputs }) {
    const weight = inputs["conv.weight"], [channels, , taps] = weight.shape;
    const y = k.causalConv(x, k.permute(k.reshape(weight, [channels, taps]), [1, 0]));
    return { out: { y: inputs["conv.bias"] ? k.add(y, inputs["conv.bias"]) : y } };
  },
};

const routedCase: CaseOps = {
  ...smooth,
  body({ x, force, ...inputs }, _, { config: c }) {
    const { hidden, router_hidden, tau } = c as Record<string, number>;
    const config = mlpConfig.parse(polymorphicConfig(hidden, router_hidden)) as PolymorphicConfig;
    const p = partParams(config, inputs);
    const forced = force && forcedOf(force);
    const { out, metrics } = applyForced(config, p, x, { tau, auxWeight: 1, forced });
    const alpha = metrics!["router.alpha"];
    return {
      out: {
        y: out,
        alpha,
        aux_token: k.meanAll(unevenness(alpha, "token")),
        aux_mean: k.meanAll(unevenness(alpha, "mean")),
      },
    };
  },
};

const modelCase: CaseOps = {
  ...whole,
  body(inputs, _, c) {
    const { tau, aux_weight, label_smoothing, n_layer } = c.config as Record<string, number>;
    const model = modelOf(c), params = paramsOf(model, inputs), { ids, targets, force } = inputs;
    const forced = force && Array.from(
      { length: n_layer },
      (_, i) => k.reshape(k.slice(force, 0, i, 1), ids.shape),
    );
    const settings = { tau, auxWeight: 1, ...(forced && { forced }) };
    const { hidden, mlps, aux } = trailOf(model, params, { ids }, settings);
    const final = k.layerNorm(
      hidden.at(-1)!,
      inputs["ln_f.weight"],
      inputs["ln_f.bias"],
      { eps: 1e-5 },
    );
    const flat = k.reshape(final, [-1, model.dims.hidden_size]), wanted = k.reshape(targets, [-1]);
    const { sum } = k.linearCrossEntropy(flat, inputs["lm_head.weight"], wanted, undefined, {
      label_smoothing,
    });
    const ce = k.div(sum, wanted.shape[0]), mean = k.meanAll(aux);
    const total = k.add(ce, k.mul(mean, aux_weight));
    const told = mlps.flatMap(({ metrics }, i): [string, Tensor][] => {
      const alpha = metrics!["router.alpha"], count = alpha.shape[2];
      return [
        [`alpha.${i}`, alpha],
        [
          `alpha_mean.${i}`,
          k.div(k.reshape(k.sumTo(alpha, [1, 1, count]), [count]), wanted.shape[0]),
        ],
        [`entropy_token.${i}`, k.meanAll(metrics!["router.entropy_norm"])],
        [`entropy_of_mean.${i}`, k.sub(1, k.meanAll(unevenness(alpha, "mean")))],
      ];
    });
    return {
      out: {
        ...Object.fromEntries(hidden.map((x, i) => [`hidden.${i}`, x])),
        ...Object.fromEntries(told),
        logits: model.logits(params, final),
        ce,
        aux: mean,
        total,
      },
      loss: total,
    };
  },
};

const caseOps: Readonly<Record<string, CaseOps>> = {
  layernorm: {
    body: ({ x, weight, bias }, _, { config }) => ({
      out: { y: k.layerNorm(x, weight, bias, { eps: Number(config.eps) }) },
    }),
  },
  attention_rope: {
    ...whole,
    body({ x, ...inputs }, _, { config: c }) {
      const config = attention.config.parse({ kind: "attention", num_attention_heads: c.heads });
      const part = attention.bind(config, dimsOf(c.d as number));
      const p = Object.fromEntries(
        ["q", "k", "v", "o"].map((name) => [name, inputs[`${name}_proj.weight`]]),
      );
      return { out: { y: part.apply(p, x, contextOf(x)).out } };
    },
  },
  branch_swiglu: branchCase(0),
  branch_glu: branchCase(1),
  branch_dwconv: branchCase(2),
  depthwise_causal_conv: convCase,
  depthwise_causal_conv_nobias: convCase,
  polymorphic_mlp: routedCase,
  polymorphic_mlp_forced: routedCase,
  model_eval: modelCase,
  model_train_forced: modelCase,
};

testVectors("veronica vectors", set, caseOps, {
  optimizer_steps: optimizerCase,
  schedule: scheduleCase,
  branch_expansion: expansionCase,
});
