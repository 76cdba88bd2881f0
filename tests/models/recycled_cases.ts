/** How each golden case of recycled-core is computed with our parts. */

import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import { type Graph, mapTree, type Spec, spec, type Tensor, trace } from "../../core/graph/mod.ts";
import { bindParts } from "../../core/model/bind.ts";
import { modulated } from "../../core/model/passes.ts";
import type { ModelTree } from "../../core/model/mod.ts";
import {
  attention,
  bigram,
  type Dims,
  leakyReluSquared,
  linearHead,
  ropeBase,
  type RowContext,
  smeared,
  type TensorTree,
  tokenInput,
  turned,
  valueEmbedding,
  withoutOwnValue,
  x0Mix,
} from "../../core/nn/mod.ts";
import {
  averagesConfig,
  curveOf,
  evenClock,
  moveAverages,
  newtonSchulz,
  optimizerConfig,
  planAverages,
  scheduleConfig,
} from "../../core/optim/mod.ts";
import type { Machine } from "../machines.ts";
import type { CaseOps, CheckCase } from "../vector_tests.ts";
import { type CaseResult, checkClose, type Tensors, type VectorCase } from "../vectors.ts";
import {
  type Features,
  mixerOf,
  mixerParams,
  modelParams,
  norm,
  orderOf,
  recycledCore,
  residualParams,
  type Sizes,
  trailOf,
} from "./recycled.ts";

const layersIn = (list: unknown) => String(list).split(",").filter(Boolean).map(Number);

export function sizesOf({ config }: VectorCase): Sizes {
  const c = config as Record<string, number>, layers = c.num_layers;
  return {
    hidden_size: c.model_dim,
    vocab_size: c.vocab_size,
    positions: c.T,
    layers,
    heads: c.num_heads,
    kv_heads: c.num_kv_heads,
    rotary: c.rope_dims,
    nominal: 1024,
    intermediate_size: c.mlp_mult * c.model_dim,
    bigram: [c.bigram_vocab_size, c.bigram_dim],
    value_embedding: c.ve_dim,
    embedded: layersIn(c.ve_layers),
    exclusive: Array.from({ length: c.xsa_last_n }, (_, i) => layers - c.xsa_last_n + i),
    recycled: layersIn(c.recycle_layers),
  };
}

export const positionsOf = ([batch, time]: readonly number[]) =>
  k.constant(
    `positions ${batch} ${time}`,
    [batch, time],
    Int32Array.from({ length: batch * time }, (_, i) => i % time),
  );

const rowContext = (x: Tensor, streams: Readonly<Record<string, Tensor>> = {}): RowContext => ({
  ids: positionsOf(x.shape),
  positions: positionsOf(x.shape),
  segment_ids: undefined,
  scalars: {},
  noise: undefined,
  streams,
  isReplay: false,
});

const dimsOf = (hidden_size: number, layer = 0): Dims => ({
  hidden_size,
  vocab_size: 128,
  max_position_embeddings: 16,
  depth: 1,
  initializer_range: 1,
  output_initializer_range: 1,
  layer,
});

const smooth = { transcendental: true } as const, withTable = { ...smooth, table: true } as const;
const of = (
  body: (x: Tensors, c: VectorCase) => Tensors,
  rest: Partial<CaseOps> = smooth,
): CaseOps => ({ body: (inputs, _, c) => ({ out: body(inputs, c) }), ...rest });

const tableOf = (x: Tensors) => ({
  embedding: x["embed.weight"],
  projection: x["proj.weight"],
  scale: x.scale,
});

/** The worked examples' names of what a part's case has. */
const partNames: Readonly<Record<string, string>> = {
  Wq: "q_w",
  Wk: "k_w",
  Wv: "v_w",
  Wo: "out_w",
  q_gain: "q_gain",
  lam: "vr_lambda",
  "gate.w": "attn_gate.weight",
  "gate.b": "attn_gate.bias",
  attn_scale: "attn_scale",
  mlp_scale: "mlp_scale",
};
const small = { hidden_size: 32, heads: 4, kv_heads: 2 };

function mixer(features: Features, x: Tensors, streams: Readonly<Record<string, Tensor>>) {
  const part = attention.bind(attention.config.parse(mixerOf(small, features)), dimsOf(32));
  const named = mixerParams((name) => x[partNames[name]] ?? x[`attn.${partNames[name]}`]);
  const scale = features.value_embedding ? { value_embedding_scale: k.fill([1], 1) } : {};
  const params = { ...named, ...scale } as TensorTree;
  return (input: Tensor) => part.apply(params, input, rowContext(input, streams));
}

const attentionCase = of((x, { config }): Tensors => {
  const c = config as Record<string, number | boolean>, value_residual = Boolean(c.value_residual);
  const features = {
    rotary: Number(c.rope_dims || c.head_dim),
    exclusive: Boolean(c.xsa),
    gated: Boolean(c.gated),
    value_residual,
    value_embedding: value_residual,
  };
  const embedded: Tensors = value_residual ? { value_embedding: x.v_embed } : {};
  const first: Tensors = value_residual ? { first_values: x.v0 } : {};
  const y = mixer(features, x, { ...embedded, ...first })(x.x).out;
  if (!value_residual) return { y };
  // a layer publishes its values where no layer did before
  return { y, raw_v: mixer(features, x, embedded)(x.x).streams!.first_values };
}, withTable);

const mlp = (x: Tensors) => {
  const config = leakyReluSquared.config.parse({
    kind: "leaky_relu_squared",
    intermediate_size: 96,
  });
  const part = leakyReluSquared.bind(config, dimsOf(32));
  return (input: Tensor) => part.at({ up: x.up_w, down: x.down_w }, input);
};

const block = of((x, { config }) => {
  const bound = x0Mix.bind(
    x0Mix.config.parse({ kind: "x0_mix", norm: { ...norm, layernorm_scaling: true } }),
    dimsOf(32, Number(config.layer_idx)),
  );
  const mix = (at: number) => k.reshape(k.slice(x.resid_mix, 0, at, 1), [32]);
  const params = residualParams((name) =>
    name.startsWith("mix") ? mix(Number(name[3])) : x[partNames[name]]
  );
  const mixed = mixer({ rotary: 4, exclusive: true }, x, { first_values: x.v0 });
  const streams = { x: x.x, x0: x.x0 };
  const { x: y } = bound.run(params as TensorTree, streams, {
    mixer: (input) => mixed(input).out,
    mlp: mlp(x),
  });
  return { y };
}, withTable);

function wholeModel(x: Tensors, _: Tensors, c: VectorCase): CaseResult {
  const sizes = sizesOf(c), model = recycledCore(sizes);
  const params = modelParams(model, x);
  const rows = { ids: x.ids, targets: x.targets, positions: positionsOf(x.ids.shape) };
  const counted = x.ids.shape.reduce((a, b) => a * b);
  const trail = trailOf(model, params, rows),
    { smear: _smear, ...unsmeared } = params.input as {
      smear: Tensor;
    };
  const { smear: __, ...input } = "blocks" in model.config ? model.config.input : {} as never;
  const plain = tokenInput.bind(tokenInput.config.parse(input), model.dims);
  const numbered = (name: string, all: readonly Tensor[]) =>
    Object.fromEntries(all.map((x, i) => [`${name}.${i}`, x]));
  const loss = k.div(model.loss(params, rows).sum, counted);
  const out = {
    embed_normed: plain.apply(unsmeared, x.ids, { ...rowContext(x.ids), ids: x.ids }).out,
    x0: trail.x0,
    ...numbered("virtual_in", trail.into),
    ...numbered("virtual", trail.out),
    v0: trail.values,
    final_norm: trail.last,
    logits: model.logits(params, model.apply(params, rows).hidden),
    loss,
  };
  return { out, loss };
}

const rescaled = of((_, { config }) => {
  const { rope_dims, train_seq_len, seq_len } = config as Record<string, number>;
  const base = ropeBase(
    { rope_theta: 10000, rope_original_positions: train_seq_len },
    seq_len,
    rope_dims,
  );
  const [cos, sin] = k.ropeTables(seq_len, rope_dims, base);
  return { cos: k.add(cos, 0), sin: k.add(sin, 0) };
}, { table: true });

export const caseOps: Readonly<Record<string, CaseOps>> = {
  model_train: { body: wholeModel, ...withTable },
  block,
  mlp_leaky_relu2: of((x) => ({ y: mlp(x)(x.x) }), {}),
  recycle_modulation: of(({ x, scale, bias }) => ({ y: modulated(x, { scale, shift: bias }) }), {}),
  smear_gate: of(({ x, gate }) => ({ y: smeared(gate, x, undefined) })),
  bigram_hash_ids: of((x, { config }) =>
    Object.fromEntries(
      Object.entries(x).map(([name, ids]) => {
        const [set] = name.split("."), { buckets } = config[set] as { buckets: number };
        return [`${set}.buckets`, k.addInteger(k.bigramBuckets(ids, buckets, undefined), 0)];
      }),
    ), {}),
  bigram_embedding: of(
    ({ ids, ...x }) => ({ y: bigram(tableOf(x), { ids, segment_ids: undefined }) }),
    {},
  ),
  value_embedding: of(({ ids, ...x }) => ({ y: valueEmbedding(tableOf(x), ids) }), {}),
  attention_plain_full_rope: attentionCase,
  attention_partial_rope: attentionCase,
  attention_xsa: attentionCase,
  attention_gated: attentionCase,
  attention_value_residual: attentionCase,
  attention_all: attentionCase,
  xsa_core: of(({ y, v }) => ({ out: withoutOwnValue(y, v) }), {}),
  logit_softcap: of(({ z }, { config }) => {
    const width = z.shape.at(-1)!, values = new Float32Array(width * width);
    for (let i = 0; i < width; i++) values[i * width + i] = 1;
    const identity = k.constant(`identity:${width}`, [width, width], values);
    const head = linearHead.config.parse({ kind: "linear", softcap: config.cap });
    return { y: linearHead.bind(head, dimsOf(width)).logits(identity, z) };
  }),
  partial_rope: of(({ q }, { config }) => {
    const rotary = attention.config.parse({ ...mixerOf(small, { rotary: 4 }) });
    const all = { max_position_embeddings: q.shape[1] };
    return { y: turned(q, positionsOf(q.shape), Number(config.rope_dims), rotary, all) };
  }, { table: true }),
  ntk_rope_len64: rescaled,
  ntk_rope_len100: rescaled,
  newton_schulz: of(({ wide, tall }, { config }) => {
    const steps = Number(config.steps), [w, t] = [wide, tall].map((x) => newtonSchulz(x, steps));
    return { "wide.f32": w, "wide.bf16": w, "tall.f32": t, "tall.bf16": t };
  }, {}),
};

/** What changes over a run, and what a config says, is the host's: no machine takes part in it. */
const hostOnly = (check: (c: VectorCase) => void): CheckCase => (machine, c) => {
  if (machine.name === "loops, f64") check(c);
  return Promise.resolve();
};

/** In time the original's rate follows a clock, `sched_time/…`; ours counts updates. */
const schedules = hostOnly(({ config, tensors }) => {
  const { iterations, warmdown_iters: decay, muon_momentum } = config as {
    iterations: number;
    warmdown_iters: number;
    muon_momentum: [number, number, number];
  };
  const [from, to, over] = muon_momentum, clock = evenClock(iterations);
  const rate = scheduleConfig.parse({ kind: "warmup_stable_decay", peak: 1, decay });
  const momentum = scheduleConfig.parse({ kind: "points", points: [[0, from], [over, to]] });
  const curves = { lr_mult: curveOf(rate, clock), muon_momentum: curveOf(momentum, clock) };
  const steps = Array.from(tensors.get("sched/step")!.values);
  assert.ok(steps.some((step) => step > iterations - decay && step < iterations));
  for (const [name, curve] of Object.entries(curves)) {
    const expected = tensors.get(`sched/${name}`)!.values;
    steps.forEach((step, i) => {
      // after the last update, where the original begins again, there is none
      if (step < iterations) {
        checkClose(`${name} at ${step}`, [curve(step)], [expected[i]], 1e-12, 0);
      }
    });
  }
});

const orders = hostOnly((c) => {
  const { rows } = c.extra as { rows: readonly Record<string, unknown>[] };
  rows.forEach((row, i) => {
    const layers = Number(row.num_layers), recycled = layersIn(row.recycle_layers);
    const { order, skips } = orderOf(layers, recycled, Number(row.recycle_repeats));
    const sizes = { ...sizesOf(c), ...tiny, layers, recycled: [] };
    const { config } = recycledCore(sizes);
    const { passes } = bindParts({ ...config, order, skips } as typeof config);
    const expected = [...c.tensors.get(`out/order.${i}`)!.values];
    assert.deepEqual(passes.map(({ layer }) => layer), expected);
    const half = passes.length - Math.ceil(layers / 2);
    const sources = passes.slice(half).map(({ skips: [skip] }) => skip ? skip.from : null);
    assert.deepEqual(sources, row.skip_sources);
    const again = passes.filter(({ isReplay }) => isReplay).length;
    assert.equal(passes.filter(({ modulation }) => modulation !== undefined).length >= again, true);
  });
});
const tiny = {
  hidden_size: 8,
  heads: 2,
  kv_heads: 2,
  rotary: 2,
  vocab_size: 5,
  positions: 4,
  intermediate_size: 8,
  bigram: [3, 2] as const,
  value_embedding: 2,
  embedded: [],
  exclusive: [],
};

/** The averages of weights that come one after another, after each update. */
async function averaged(
  machine: Machine,
  config: unknown,
  rate: readonly number[],
  weights: readonly ArrayLike<number>[],
) {
  const parsed = averagesConfig.parse(config),
    kinds = Object.keys(parsed),
    size = weights[0].length;
  const points = rate.map((value, step) => [step, value]);
  const optimizer = optimizerConfig.parse({
    kind: "adamw",
    learning_rate: { kind: "points", points, interpolate: "hold" },
  });
  const plan = planAverages(parsed, optimizer, evenClock(rate.length));
  const graph = trace((state: unknown, batch: unknown) => {
    const { w, weights } = batch as Tensors,
      before = state as Record<string, Record<string, Tensor>>;
    return { state: moveAverages(before, { w }, weights) };
  }, {
    state: Object.fromEntries(kinds.map((kind) => [kind, { w: spec([size]) }])),
    batch: { w: spec([size]), weights: spec([2]) },
  } as never) as Graph;
  const first = Object.fromEntries(kinds.map((kind) => [`${kind}.w`, weights[0]]));
  using session = await machine.start(graph, first);
  const found: Record<string, ArrayLike<number>>[] = [];
  for (const step of rate.keys()) {
    await session.run({ w: weights[step + 1], weights: [...plan.weightsAt(step)] });
    const now = kinds.map(async (kind) =>
      [kind, Float64Array.from(await session.read(`${kind}.w`))] as const
    );
    found.push(Object.fromEntries(await Promise.all(now)));
  }
  return found;
}

const emaAndSwa: CheckCase = async (machine, c) => {
  const { ema_decay: decay, swa_every: every, swa_scale_below: below } = c.config as Record<
    string,
    number
  >;
  const { values, shape } = c.tensors.get("in/weights")!, size = shape[1] * shape[2];
  const weights = Array.from(
    { length: shape[0] },
    (_, i) => values.subarray(i * size, (i + 1) * size),
  );
  const rate = [...c.tensors.get("in/lr_mult")!.values];
  const found = await averaged(machine, { ema: { decay }, swa: { every, below } }, rate, weights);
  const atol = (name: string) => c.tolerance(name).suggested_atol ?? 0;
  found.forEach(({ ema }, step) => {
    const expected = c.tensors.get("out/ema")!.values.subarray(step * size, (step + 1) * size);
    checkClose(`${machine.name}: ema ${step}`, ema, expected, atol("out/ema"), 1e-5);
  });
  const expected = c.tensors.get("out/swa")!.values;
  checkClose(`${machine.name}: swa`, found.at(-1)!.swa, expected, atol("out/swa"), 1e-5);
};

/** The exponential average along recorded weights, of the case of updates. */
export const recordedAverages = (start: VectorCase): CheckCase => async (machine, c) => {
  const names = [...c.tensors.keys()].filter((name) => name.startsWith("out/ema/"));
  const along = (prefix: string, of: VectorCase) =>
    names.flatMap((name) => [...of.tensors.get(name.replace("out/ema/", prefix))!.values]);
  const weights = [along("param/", start)];
  for (let step = 0; c.tensors.has(`step${step}/in/ids`); step++) {
    weights.push(along(`step${step}/param/`, c));
  }
  const rate = weights.slice(1).map(() => 1);
  const found = (await averaged(machine, { ema: { decay: 0.997 } }, rate, weights)).at(-1)!.ema;
  let at = 0;
  for (const name of names) {
    const { values } = c.tensors.get(name)!, { suggested_atol = 0 } = c.tolerance(name);
    const part = Array.from(found).slice(at, at += values.length);
    checkClose(`${machine.name}: ${name}`, part, values, suggested_atol, 1e-5);
  }
};

/**
 * Two chunks with a cache equal the whole. The original's forgets at the border which token came before,
 * `out/logits_chunk2`, but ours does not.
 */
export const cachedForward = (start: VectorCase): CheckCase => async (machine, c) => {
  const sizes = sizesOf(c), model = recycledCore(sizes), split = Number(c.config.split);
  const { shape: [batch, time], values: ids } = c.tensors.get("in/ids")!;
  const given = [...start.tensors].filter(([name]) => name.startsWith("param/"))
    .map(([name, tensor]) => [name.slice(6), tensor] as const);
  const chunks = [[0, split], [split, time - split]];
  const graph = trace((_state: unknown, uploads: unknown) => {
    const x = uploads as Tensors;
    const params: ModelTree<TensorTree> = modelParams(model, x);
    let state = mapTree(
      model.state({ batch, capacity: time }),
      ({ shape, dtype }: Spec) =>
        dtype === "i32"
          ? k.constant(`none ${shape}`, shape, new Int32Array(shape[0]).fill(3))
          : k.fill(shape, 7),
    ) as Parameters<typeof model.step>[2];
    const outputs: Record<string, Tensor> = {};
    chunks.forEach(([from], i) => {
      const start = k.constant(`start ${from}`, [batch], new Int32Array(batch).fill(from));
      const stepped = model.step(params, { ids: x[`chunk${i}`], start }, state);
      state = stepped.state;
      outputs[`chunk${i}`] = model.logits(params, stepped.hidden);
    });
    return { outputs };
  }, {
    state: {},
    batch: Object.fromEntries([
      ...given.map(([name, { shape }]) => [name, spec(shape)]),
      ...chunks.map(([, length], i) => [`chunk${i}`, spec([batch, length], "i32")]),
    ]),
  } as never) as Graph;
  const cut = (x: ArrayLike<number>, width: number, [from, length]: readonly number[]) =>
    Array.from({ length: batch * length * width }, (_, i) => {
      const row = Math.floor(i / (length * width));
      return x[row * time * width + from * width + i % (length * width)];
    });
  using session = await machine.start(graph);
  const found = await session.run(Object.fromEntries([
    ...given.map(([name, { values }]) => [name, values] as const),
    ...chunks.map((chunk, i) => [`chunk${i}`, cut(ids, 1, chunk)] as const),
  ]));
  const { suggested_atol = 0 } = c.tolerance("out/logits_full");
  const wider = machine.name === "webgpu" ? 10 : 1;
  const check = (name: string, values: ArrayLike<number>, expected: ArrayLike<number>) =>
    checkClose(`${machine.name}: ${name}`, values, expected, wider * suggested_atol, wider * 1e-5);
  const full = c.tensors.get("out/logits_full")!.values, { vocab_size } = sizes;
  chunks.forEach((chunk, i) =>
    check(`chunk${i}`, found[`chunk${i}`], cut(full, vocab_size, chunk))
  );
  check("chunk1 of the original", found.chunk0, c.tensors.get("out/logits_chunk1")!.values);
  const forgetful = c.tensors.get("out/logits_chunk2")!.values;
  assert.ok(forgetful.some((x, i) => Math.abs(x - found.chunk1[i]) > 0.01));
};

export const otherCases = { schedule: schedules, recurrence_order: orders, ema_swa: emaAndSwa };
