import * as k from "../../../kernels/mod.ts";
import type { Tensor } from "../../../core/graph/mod.ts";
import {
  applyPolyglu,
  attention,
  type Dims,
  mlpConfig,
  type PolygluConfig,
  routingEntropy,
  routingPull,
  routingWeights,
} from "../../../core/nn/mod.ts";
import { type CaseOps, testVectors } from "../../vector_tests.ts";
import { type Tensors, type VectorCase, type VectorSet, vectorSet } from "../../vectors.ts";
import {
  layerParams,
  modelOf,
  paramsOf,
  scalar,
  segmentsOf,
  trailOf,
  withNoise,
} from "./polyglu_network.ts";
import { leakCase, optimizerCase, scheduleCase } from "./polyglu_runs.ts";

const golden = vectorSet("polyglu");

/** Cases that are about the parameters, and where not their own the ids and targets, of another. */
const borrowed: Readonly<Record<string, string>> = {
  dynamic_routing_entropy: "model_eval_noise_free",
  leak_last_token: "model_eval_noise_free",
  model_document_mask: "model_eval_noise_free",
  sft_masked_loss: "model_eval_noise_free",
  optimizer_steps: "model_train_gumbel",
};

const set: VectorSet = {
  ids: golden.ids,
  read(id) {
    const c = golden.read(id), from = borrowed[id];
    if (!from) return c;
    const lent = [...golden.read(from).tensors].filter(([name]) => /^(param|in)\//.test(name));
    return { ...c, tensors: new Map([...lent, ...c.tensors]) };
  },
};

// Angles come from f32 tables, of ours and theirs.
const whole = { transcendental: true, table: true } as const;
const smooth = { transcendental: true } as const;

const stacked = (each: readonly Tensor[]) =>
  k.concat(each.map((x) => k.reshape(x, [...x.shape, 1])), each[0].shape.length);

const positionsOf = ({ shape: [batch, time] }: Tensor) =>
  k.constant(
    `positions ${batch} ${time}`,
    [batch, time],
    Int32Array.from({ length: batch * time }, (_, i) => i % time),
  );

const rowsOf = (inputs: Tensors, c: VectorCase) => ({
  ids: inputs.ids,
  targets: inputs.targets,
  positions: positionsOf(inputs.ids),
  scalars: scalar(c.config.tau as number),
});

const mean = (model: { sum: Tensor }, { targets }: Tensors) =>
  k.div(model.sum, targets.shape[0] * targets.shape[1]);

/** What each layer told under a name, averaged over the tokens. */
const layers = (metrics: Tensors, name: string, count: number) =>
  k.concat(
    Array.from({ length: count }, (_, i) => k.reshape(k.meanAll(metrics[`${name}.${i}`]), [1])),
    0,
  );

const layerCase: CaseOps = {
  ...smooth,
  body: ({ x, noise, ...inputs }, { y: cotangent }, { config: c }) => {
    const config = mlpConfig.parse({
      kind: "polyglu",
      intermediate_size: c.d_ff,
      pooling: "sequence",
    }) as PolygluConfig;
    const p = layerParams(inputs), tau = c.tau as number;
    const { out } = applyPolyglu(p, x, { config, segment_ids: undefined, layer: 0, tau, noise });
    const pull = routingPull(p, x, { config, segment_ids: undefined });
    const weights = routingWeights({ alpha: p.router.alpha, pull, noise, tau });
    const [batch, units] = [x.shape[0], c.d_ff as number];
    const routing = stacked(weights.map((w) => k.reshape(w, [batch, units])));
    return { out: { y: out, routing }, loss: k.sumAll(k.mul(out, cotangent)) };
  },
};

const modelCase = (withRecorded: boolean): CaseOps => ({
  ...whole,
  body(inputs, _, c) {
    const plain = modelOf(c, { tau: c.config.tau as number }), tau = c.config.tau as number;
    const noise = withRecorded ? [0, 1, 2].map((i) => inputs[`noise.${i}`]) : [];
    const model = withRecorded ? withNoise(plain, tau, noise) : plain;
    const params = paramsOf(model, inputs), rows = rowsOf(inputs, c);
    const { hidden, mixers, mlps } = trailOf(model, params, rows, { tau, noise });
    const named = (name: string, all: readonly Tensor[]) =>
      all.map((x, i) => [`${name}.${i}`, x] as const);
    const loss = withRecorded
      ? meanLoss(model, params, rows, inputs)
      : mean(model.loss(params, rows), inputs);
    const entropies = [0, 1, 2].map((i) =>
      k.meanAll(routingEntropy(inputs[`model_core.${i}.polyglu.alpha`]))
    );
    return {
      out: {
        ...Object.fromEntries([
          ...named("hidden", hidden),
          ...named("attn", mixers),
          ...named("ffn", mlps),
        ]),
        logits: model.logits(params, model.apply(params, rows).hidden),
        loss,
        static_routing_entropy: withRecorded
          ? k.concat(entropies.map((x) => k.reshape(x, [1])), 0)
          : layers(model.apply(params, rows).metrics, "static_routing_entropy", 3),
      },
      loss,
    };
  },
});

type Applicable = ReturnType<typeof withNoise>;
type ModelParams = Parameters<Applicable["apply"]>[0];
type ModelRows = Parameters<Applicable["loss"]>[1];

/** The mean loss, of what `apply` is now. */
function meanLoss(
  model: Applicable,
  params: ModelParams,
  rows: ModelRows,
  { "embeddings.weight": head, targets }: Tensors,
  weights?: Tensor,
): Tensor {
  const { hidden } = model.apply(params, rows), flat = k.reshape(targets, [-1]);
  const width = hidden.shape.at(-1)!;
  const { sum } = k.linearCrossEntropy(k.reshape(hidden, [-1, width]), head, flat, weights);
  return k.div(sum, weights ? k.maximum(k.sumAll(weights), 1) : flat.shape[0]);
}

const caseOps: Readonly<Record<string, CaseOps>> = {
  rmsnorm: {
    body: ({ x, gama }, _, { config }) => ({
      out: { y: k.rmsNorm(x, gama, { eps: Number(config.eps) }) },
    }),
  },
  rope: {
    table: true,
    body: ({ q }, _, { config: c }) => {
      const tables = k.ropeTables(Number(c.seq_length), Number(c.head_dim), Number(c.theta));
      return { out: { y: k.rope(q, positionsOf(q), tables) } };
    },
  },
  gqa_attention: {
    ...whole,
    body({ x, ...inputs }, _, { config: c }) {
      const part = attention.bind(
        attention.config.parse({
          kind: "attention",
          num_attention_heads: c.n_q_heads,
          num_key_value_heads: c.n_kv_heads,
          head_dim: c.head_dim,
          rope_theta: c.rope_theta,
          qk_norm: true,
          qk_norm_eps: c.eps,
        }),
        { hidden_size: x.shape[2], max_position_embeddings: x.shape[1] } as Dims,
      );
      const named = Object.fromEntries(
        ["q", "k", "v", "o"].map((name) => [name, inputs[`W_${name}.weight`]]),
      );
      const params = {
        ...named,
        q_norm: inputs["rmsnorm_q.gama"],
        k_norm: inputs["rmsnorm_k.gama"],
      };
      const { out } = part.apply(params, x, {
        ids: positionsOf(x),
        positions: positionsOf(x),
        segment_ids: undefined,
        scalars: {},
        noise: undefined,
        streams: {},
        isReplay: false,
      });
      return { out: { y: out } };
    },
  },
  gumbel_softmax: {
    ...smooth,
    body({ logits, noise }, _, { config }) {
      const [batch, units, kinds] = logits.shape;
      const weights = routingWeights({
        alpha: k.fill([units, kinds], 0),
        pull: k.fill([batch, 1, kinds], 0),
        noise: k.add(logits, noise),
        tau: Number(config.tau),
      });
      return { out: { y: stacked(weights.map((w) => k.reshape(w, [batch, units]))) } };
    },
  },
  polyglu_layer_noise_free: layerCase,
  polyglu_layer_gumbel: layerCase,
  polyglu_layer_cold: layerCase,
  model_eval_noise_free: modelCase(false),
  model_train_gumbel: modelCase(true),
  dynamic_routing_entropy: {
    ...whole,
    body(inputs, _, c) {
      const model = modelOf(c, { tau: c.config.tau as number });
      const { metrics } = model.apply(paramsOf(model, inputs), rowsOf(inputs, c));
      return {
        out: {
          entropy: layers(metrics, "dynamic_routing_entropy", 3),
          mean: k.meanAll(metrics.dynamic_routing_entropy),
        },
      };
    },
  },
  model_document_mask: {
    ...whole,
    body(inputs, _, c) {
      const model = modelOf(c, { tau: c.config.tau as number }), params = paramsOf(model, inputs);
      const starts = c.tensors.get("in/cu_seqlens")!.values;
      const longest = Math.max(...[...starts].slice(1).map((start, i) => start - starts[i]));
      const rows = { ...rowsOf(inputs, c), segment_ids: segmentsOf(c) };
      const { hidden } = model.apply(params, rows);
      return {
        out: {
          max_seqlen: k.constant("longest", [], Int32Array.of(longest)),
          final_hidden: hidden,
          logits: model.logits(params, hidden),
          loss: mean(model.loss(params, rows), inputs),
        },
      };
    },
  },
  sft_masked_loss: {
    ...whole,
    body(inputs, _, c) {
      const model = modelOf(c, { tau: c.config.tau as number }), params = paramsOf(model, inputs);
      const rows = rowsOf(inputs, c), mask = k.reshape(inputs.loss_mask, [-1]);
      const loss = meanLoss(model, params, rows, inputs, mask);
      const none = meanLoss(model, params, rows, inputs, k.mul(mask, 0));
      return { out: { loss, loss_all_masked: none }, loss };
    },
  },
};

testVectors("polyglu vectors", set, caseOps, {
  leak_last_token: leakCase,
  optimizer_steps: optimizerCase,
  schedule_tiny: scheduleCase,
  schedule_default: scheduleCase,
});
