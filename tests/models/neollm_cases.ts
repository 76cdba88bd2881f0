/** How each golden case of NeoLLM is computed with our parts. */

import * as k from "../../kernels/mod.ts";
import { scope, type Tensor } from "../../core/graph/mod.ts";
import { bindParts } from "../../core/model/bind.ts";
import {
  attention,
  type BoundPart,
  type Dims,
  fan,
  gatedDeltaMixer,
  gatedRmsNorm,
  layerNormScaling,
  ofLength,
  polyNorm,
  polyNormMlp,
  preservingScale,
  rmsNormPart,
  type RowContext,
  type StepContext,
  type TensorTree,
  withTail,
} from "../../core/nn/mod.ts";
import { type DeltaInputs, gatedDelta } from "../../core/nn/delta_rule.ts";
import type { CaseOps, CheckCase } from "../vector_tests.ts";
import {
  caseGraph,
  type CaseResult,
  checkClose,
  type Tensors,
  type VectorCase,
} from "../vectors.ts";
import { bySuffix } from "../original_names.ts";
import { layerOf, layerParams, mixerOf, modelParams, neollm, type Sizes } from "./neollm.ts";

type Config = Record<string, number>;

export const sizesOf = ({ config }: VectorCase): Sizes => {
  const c = config as Config;
  return {
    hidden_size: c.hidden_size,
    vocab_size: c.vocab_size,
    positions: c.T,
    layers: Array.from(
      { length: c.num_hidden_layers },
      (_, i) => (i + 1) % c.full_every === 0 ? "full" : "linear",
    ),
    num_attention_heads: c.num_attention_heads,
    num_key_value_heads: c.num_key_value_heads,
    head_dim: c.head_dim,
    partial_rotary_factor: c.partial_rotary_factor,
    output_gate: true,
    num_key_heads: c.linear_num_key_heads,
    num_value_heads: c.linear_num_value_heads,
    key_head_dim: c.linear_key_head_dim,
    value_head_dim: c.linear_value_head_dim,
    fan_ratio: c.fan_ratio,
    intermediate_size: c.intermediate_size,
  };
};

export const rowContext = (ids: Tensor): RowContext => ({
  ids,
  positions: positions(ids.shape),
  segment_ids: undefined,
  scalars: {},
  noise: undefined,
  streams: {},
  isReplay: false,
});

export const positions = ([batch, time]: readonly number[]) =>
  k.constant(
    `positions ${batch} ${time}`,
    [batch, time],
    Int32Array.from({ length: batch * time }, (_, i) => i % time),
  );

const dimsOf = (hidden_size: number, layer = 0): Dims => ({
  hidden_size,
  vocab_size: 1,
  max_position_embeddings: 64,
  depth: 1,
  initializer_range: 1,
  output_initializer_range: 1,
  layer,
});

/** A part on rows x. */
const through = (part: BoundPart, params: unknown, x: Tensor) =>
  part.apply(params as TensorTree, x, rowContext(positions(x.shape))).out;

const smooth = { transcendental: true } as const;
const of = (
  body: (x: Tensors, c: VectorCase) => Tensors,
  rest: Partial<CaseOps> = smooth,
): CaseOps => ({
  body: (inputs, _cotangents, c) => ({ out: body(inputs, c) }),
  ...rest,
});

const fanLayer = of((x, { config }) => ({
  y: fan(
    { weight: x["input_linear.weight"], bias: x["input_linear.bias"] },
    x.x,
    Number(config.p_dim),
    config.activation === "gelu" ? "gelu" : "none",
  ),
}));

const gpas = of(({ x, gate }) => ({ y: preservingScale(x, gate) }));
const lns = of(
  ({ h }, { config }) => ({ y: layerNormScaling(h, { layer: Number(config.layer_index) }) }),
  {},
);

/** The rule on a case's inputs, all at once or token by token. */
const deltaRule = (
  run: (inputs: DeltaInputs, before: Tensor, c: Config) => { out: Tensor; state: Tensor },
) =>
  of((x, { config }) => {
    const { dk, dv, heads } = config as Config, [batch] = x.query.shape;
    const unit = (y: Tensor, scale: number) => config.l2norm ? ofLength(scale, y) : k.mul(y, scale);
    const inputs: DeltaInputs = {
      q: unit(x.query, 1 / Math.sqrt(dk)),
      k: unit(x.key, 1),
      v: x.value,
      g: x.g,
      beta: x.beta,
    };
    const before = x.initial_state ?? k.fill([batch, heads, dk, dv], 0);
    const { out, state } = run(inputs, before, config as Config);
    return { o: out, final_state: state };
  });

const chunked = deltaRule((inputs, before, { chunk_size }) =>
  gatedDelta(inputs, before, chunk_size)
);
const recurrent = deltaRule(({ q, k: key, v, g, beta }, before, { T }) => {
  const outs: Tensor[] = [];
  let state = before;
  for (let t = 0; t < T; t++) {
    const at = (y: Tensor) => k.slice(y, 1, t, 1);
    const one = gatedDelta({ q: at(q), k: at(key), v: at(v), g: at(g), beta: at(beta) }, state);
    outs.push(one.out);
    state = one.state;
  }
  return { out: k.concat(outs, 1), state };
});

const convolved = (x: Tensor, weight: Tensor) =>
  k.causalConv(x, k.permute(k.reshape(weight, [-1, weight.shape.at(-1)!]), [1, 0]));

const gatedAttention: CaseOps = {
  ...of((x, { config }) => {
    const c = config as Config;
    const sizes = {
      ...c,
      hidden_size: c.hidden,
      num_attention_heads: c.heads,
      num_key_value_heads: c.kv_heads,
      output_gate: true,
      intermediate_size: 1,
    } as unknown as Sizes;
    const { fan: _, ...options } = mixerOf(sizes, "full");
    const part = attention.bind(attention.config.parse(options), dimsOf(c.hidden));
    const layer = { ...layerOf(sizes, "full"), mixer: options };
    return { y: through(part, layerParams(sizes, layer, ".mixer", bySuffix(x)), x.x) };
  }),
  table: true,
};

const mlp = (gated: boolean) =>
  of((x, { config }) => {
    const mlp = { kind: "polynorm", intermediate_size: config.intermediate, gated };
    const part = polyNormMlp.bind(polyNormMlp.config.parse(mlp), dimsOf(Number(config.hidden)));
    const sizes = { hidden_size: config.hidden } as Sizes;
    const layer = { mixer: { kind: "attention", num_attention_heads: 1 }, mlp };
    return { y: through(part, layerParams(sizes, layer, ".mlp", bySuffix(x)), x.x) };
  });

/** One layer, with what its halves give: the parts' own, as a model runs them. */
export function runLayer(
  sizes: Sizes,
  layer: number,
  params: Readonly<Record<"residual" | "mixer" | "mlp", TensorTree>>,
  x: Tensor,
) {
  const { residual, mixer, mlp } = bindParts(neollm(sizes).config).layers[layer];
  const given: Record<string, Tensor> = {};
  const half = (name: "mixer" | "mlp", part: BoundPart) => (x: Tensor) =>
    given[name] = scope(name, () => through(part, params[name], x));
  const streams = residual.run(params.residual, { x }, {
    mixer: half("mixer", mixer),
    mlp: half("mlp", mlp),
  });
  return { out: streams.x, ...given } as Record<"out" | "mixer" | "mlp", Tensor>;
}

const layer = (rest: Partial<CaseOps> = {}): CaseOps => ({
  ...of((x, c) => {
    const sizes = sizesOf(c), at = Number(c.config.layer_index);
    const params = layerParams(sizes, layerOf(sizes, sizes.layers[at]), "", bySuffix(x));
    return { y: runLayer(sizes, at, params as Parameters<typeof runLayer>[2], x.x).out };
  }),
  ...rest,
});

function wholeModel(x: Tensors, _: Tensors, c: VectorCase): CaseResult {
  const sizes = sizesOf(c), model = neollm(sizes), params = modelParams(model, (name) => x[name]);
  const rows = { ids: x.ids, targets: x.targets, positions: positions(x.ids.shape) };
  const counted = x.targets.shape.reduce((a, b) => a * b);
  const loss = k.div(model.loss(params, rows).objective, counted);
  const out: Record<string, Tensor> = {
    loss,
    logits: model.logits(params, model.apply(params, rows).hidden),
  };
  let hidden = out["hidden.0"] = k.embedding(x["embed_tokens.weight"], x.ids);
  sizes.layers.forEach((_, i) => {
    const ran = runLayer(sizes, i, params.layers[i], hidden);
    hidden = out[`hidden.${i + 1}`] = ran.out;
    Object.assign(out, { [`mixer.${i}`]: ran.mixer, [`mlp.${i}`]: ran.mlp });
  });
  return { out, loss };
}

export const neollmCases: Readonly<Record<string, CaseOps>> = {
  fan_layer: fanLayer,
  fan_layer_gelu: fanLayer,
  fan_layer_nobias: fanLayer,
  fan_qkv_projection: of((x) => ({
    y: k.linear(
      fan(
        {
          weight: x["fanlayer.input_linear.weight"],
          bias: x["fanlayer.input_linear.bias"],
        },
        x.x,
        x.x.shape[2] - x["fanlayer.input_linear.weight"].shape[0],
      ),
      x["linear.weight"],
    ),
  })),
  polynorm: of(({ x, weight, bias }) => ({ y: polyNorm(x, weight, bias) }), {}),
  polyrelu: of(({ x, weight, bias }) => {
    const r = k.relu(x), squared = k.square(r), w = (i: number) => k.slice(weight, 0, i, 1);
    const terms = [k.mul(r, squared), squared, r].map((power, i) => k.mul(power, w(i)));
    return { y: terms.reduce((sum, term) => k.add(sum, term), bias) };
  }, {}),
  gpas_gate_0: gpas,
  gpas_gate_0p7: gpas,
  gpas_gate_m1p3: gpas,
  lns_layer0: lns,
  lns_layer1: lns,
  lns_layer3: lns,
  rmsnorm_zero_centered: of(({ x, weight }) => {
    const config = rmsNormPart.config.parse({ kind: "rms_norm", zero_centered: true });
    return { y: through(rmsNormPart.bind(config, dimsOf(x.shape[2])), { gain: weight }, x) };
  }, {}),
  rmsnorm_gated: of(({ x, gate, weight }, { config }) => ({
    y: gatedRmsNorm(x, weight, gate, Number(config.eps)),
  })),
  l2norm: of(({ x }) => ({ y: ofLength(1, x) }), {}),
  short_conv: of((x) => {
    const y = k.silu(convolved(k.permute(x.x, [0, 2, 1]), x["conv1d.weight"]));
    return { y: k.permute(y, [0, 2, 1]) };
  }),
  ...Object.fromEntries(["a", "b", "c"].flatMap((name) => [
    [`gdr_recurrent_${name}`, recurrent],
    [`gdr_chunk_${name}`, chunked],
  ])),
  gated_delta_net: of((x, { config }) => {
    const c = config as Config;
    const sizes = {
      num_key_heads: c.k_heads,
      num_value_heads: c.v_heads,
      key_head_dim: c.dk,
      value_head_dim: c.dv,
      hidden_size: c.hidden,
      intermediate_size: 1,
    } as Sizes;
    const { fan: _, ...options } = mixerOf(sizes, "linear");
    const part = gatedDeltaMixer.bind(gatedDeltaMixer.config.parse(options), dimsOf(c.hidden));
    const layer = { ...layerOf(sizes, "linear"), mixer: options };
    return { y: through(part, layerParams(sizes, layer, ".mixer", bySuffix(x)), x.x) };
  }),
  gated_attention: gatedAttention,
  gated_attention_full_rope: gatedAttention,
  partial_rope: {
    ...of((x, { config }) => {
      const time = x.q.shape[2], tables = k.ropeTables(time, Number(config.rotary_dim), 10000);
      const turned = (y: Tensor) => {
        const rows = k.permute(y, [0, 2, 1, 3]);
        return k.permute(k.rope(rows, positions(rows.shape), tables), [0, 2, 1, 3]);
      };
      return { q_rot: turned(x.q), k_rot: turned(x.k) };
    }),
    table: true,
  },
  mlp_polynorm_gated: mlp(true),
  mlp_polynorm_plain: mlp(false),
  layer_linear: layer(),
  layer_full: layer({ table: true }),
  model_train: { ...smooth, table: true, body: wholeModel },
};

/** Their state has the newest input, too: it is what we join before a step. */
const convolutionByToken = of((x, { config }) => {
  const kernel = Number(config.kernel), [batch, channels, time] = x.x.shape;
  const ids = positions([batch, 1]), outs: Tensor[] = [], states: Tensor[] = [];
  let tail = k.fill([batch, kernel - 1, channels], 0);
  for (let t = 0; t < time; t++) {
    const token = k.permute(k.slice(x.x, 2, t, 1), [0, 2, 1]);
    const start = k.constant(`at ${t}`, [batch], new Int32Array(batch).fill(t));
    const next = withTail(
      tail,
      token,
      { ...rowContext(ids), start, lengths: undefined } as StepContext,
    );
    const y = k.silu(convolved(next.joined, x["conv1d.weight"]));
    outs.push(k.permute(k.slice(y, 1, kernel - 1, 1), [0, 2, 1]));
    states.push(k.reshape(k.permute(next.joined, [0, 2, 1]), [1, batch, channels, kernel]));
    tail = next.tail;
  }
  return { y: k.concat(outs, 2), states: k.concat(states, 0) };
});

/** Recorded in f32 without a tolerance: four products of numbers near 1, and silu of their sum. */
export const shortConvUpdate: CheckCase = async (machine, c) => {
  const graph = caseGraph(
    c,
    (inputs, cotangents) => convolutionByToken.body(inputs, cotangents, c),
  );
  using session = await machine.start(graph);
  const given = graph.inputs.map(({ name }) => [name, c.tensors.get(name)!.values]);
  const found = await session.run(Object.fromEntries(given));
  const tolerance = machine.name === "webgpu" ? 1e-5 : 1e-6;
  for (const [name, values] of Object.entries(found)) {
    checkClose(
      `${machine.name}: ${c.id}, ${name}`,
      values,
      c.tensors.get(name)!.values,
      tolerance,
      0,
    );
  }
};
