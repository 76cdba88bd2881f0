/** Worked examples of NeoLLM in double precision: its parts, and two whole tiny models. */

import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import { type Graph, type Spec, spec, type Tensor, trace } from "../../core/graph/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import {
  buildModel,
  completeModel,
  countAll,
  modelConfig,
  namedParams,
} from "../../core/model/mod.ts";
import { pretrainConfig } from "../../core/train/mod.ts";
import {
  fan,
  fanSizes,
  gatedRmsNorm,
  layerNormScaling,
  ofLength,
  polyNorm,
  preservingScale,
} from "../../core/nn/mod.ts";
import { gatedDelta } from "../../core/nn/delta_rule.ts";
import { cpuMachine, type Machine, plainLoops, webgpuMachine } from "../machines.ts";
import { tinyModels, type TinyTensor, tinyValues } from "../spec_tensors.ts";
import { root, webgpuTest } from "../support.ts";
import { checkClose, readJson, type Tensors } from "../vectors.ts";
import { modelParams, neollm, type Sizes } from "./neollm.ts";
import { positions, runLayer } from "./neollm_cases.ts";

type Numbers = number | readonly Numbers[];
const flat = (x: Numbers): number[] => typeof x === "number" ? [x] : x.flatMap(flat);
const shapeOf = (x: Numbers): number[] => typeof x === "number" ? [] : [x.length, ...shapeOf(x[0])];

// Sums of some ten products each; tables of angles come as f32 even to the loops in double precision.
const tolerances: Record<Machine["name"], number> = {
  "loops, f64": 2e-7,
  "loops, f32": 1e-5,
  "cpu, no wasm": 1e-5,
  "cpu": 1e-5,
  "webgpu": 2e-4, // WGSL promises 2⁻¹¹ of sin and cos; much more is seen
};

/** Computes from inputs by name and compares every result with what is expected of it. */
async function check(
  machine: Machine,
  inputs: Readonly<Record<string, Numbers>>,
  body: (inputs: Tensors) => Record<string, Tensor>,
  expected: Readonly<Record<string, Numbers>>,
  tolerance = tolerances[machine.name],
) {
  const batch: Record<string, Spec> = Object.fromEntries(
    Object.entries(inputs).map(([name, x]) => [name, spec(shapeOf(x))]),
  );
  const graph = trace((_: Tensors, given: Tensors) => ({ outputs: body(given) }), {
    state: {},
    batch,
  }) as Graph;
  using session = await machine.start(graph);
  const found = await session.run(
    Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, flat(x)])),
  );
  assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted());
  for (const [name, values] of Object.entries(expected)) {
    checkClose(`${machine.name}: ${name}`, found[name], flat(values), tolerance, tolerance);
  }
}

/** The gradients of Σ y · upstream. */
const pulled = (y: Tensor, upstream: Tensor, leaves: Tensor[]) =>
  k.gradients(k.sumAll(k.mul(y, upstream)), leaves);

async function delta(machine: Machine): Promise<void> {
  const v = readJson<{
    input: Record<"q" | "k" | "v" | "g" | "beta", number[][] | number[]>;
    trace: { state: number[][]; out: number[] }[];
    out: number[][];
    final_state: number[][];
    decay: Record<"A_log" | "dt_bias" | "a" | "g" | "b" | "beta", number[]>;
    gated_rmsnorm: Record<"x" | "z" | "weight" | "out", number[]> & { eps: number };
    causal_conv4_silu: Record<"x" | "w" | "out", number[]>;
    zero_centred_rmsnorm: Record<"x" | "stored_weight" | "out", number[]> & { eps: number };
  }>("spec/gated_delta.json");
  const row = (x: Tensor) => k.reshape(x, [1, 3, 1, -1]),
    gate = (x: Tensor) => k.reshape(x, [1, 3, 1]);
  for (const chunk of [2, 4]) {
    await check(machine, v.input, ({ q, k: key, v: value, g, beta }) => {
      const { out, state } = gatedDelta(
        {
          q: ofLength(1 / Math.sqrt(2), row(q)),
          k: ofLength(1, row(key)),
          v: row(value),
          g: gate(g),
          beta: gate(beta),
        },
        k.fill([1, 1, 2, 2], 0),
        chunk,
      );
      return { out, state };
    }, { out: v.out, state: v.final_state });
  }
  const { g, beta, ...gates } = v.decay;
  await check(machine, gates, ({ A_log, dt_bias, a, b }) => ({
    g: k.mul(k.neg(k.exp(A_log)), k.softplus(k.add(a, dt_bias))),
    beta: k.sigmoid(b),
  }), { g, beta });
  const { x, z, weight, eps, out } = v.gated_rmsnorm;
  await check(machine, { x, z, weight }, (n) => ({ out: gatedRmsNorm(n.x, n.weight, n.z, eps) }), {
    out,
  });
  const conv = v.causal_conv4_silu;
  await check(machine, { x: conv.x, w: conv.w }, (n) => {
    const y = k.causalConv(k.reshape(n.x, [1, -1, 1]), k.reshape(n.w, [4, 1]));
    return { out: k.silu(y) };
  }, { out: conv.out });
  const norm = v.zero_centred_rmsnorm;
  await check(machine, { x: [norm.x], w: norm.stored_weight }, (n) => ({
    out: k.rmsNorm(n.x, k.add(n.w, 1), { eps: norm.eps }),
  }), { out: norm.out });
}

async function polynorm(machine: Machine): Promise<void> {
  const v = readJson<Record<string, number[]> & Record<"b_case" | "db_case", number>>(
    "spec/polynorm.json",
  );
  const given = { x: [v.x], upstream: [v.upstream_grad] };
  await check(machine, { ...given, w: [1 / 3, 1 / 3, 1 / 3], b: [0] }, ({ x, w, b }) => ({
    out: polyNorm(x, w, b),
  }), { out: v.out_init });
  await check(machine, { ...given, w: v.w_case, b: [v.b_case] }, ({ x, w, b, upstream }) => {
    const out = polyNorm(x, w, b), [dx, dw, db] = pulled(out, upstream, [x, w, b]);
    return { out, dx, dw, db };
  }, { out: v.out_case, dx: v.dx_case_numeric, dw: v.dw_case, db: v.db_case });
}

async function fanLnsGpas(machine: Machine): Promise<void> {
  const v = readJson<{
    fan_same_width: { x: number[]; W: number[][]; b: number[]; out: number[] };
    fan_dims: {
      input: number;
      output: number;
      ratio: number;
      p: number;
      g: number;
      rows: number;
    }[];
    lns: { layer_1based: number; scale: number }[];
    gpas: Record<"x" | "y" | "upstream" | "dx", number[]> & Record<"a" | "da" | "init_a", number>;
  }>("spec/fan_lns_gpas.json");
  const { x, W, b, out } = v.fan_same_width;
  await check(machine, { x: [x], W, b }, (n) => ({
    out: fan({ weight: n.W, bias: n.b }, n.x, 1),
  }), { out });
  for (const { input, output, ratio, p } of v.fan_dims) {
    const width = input === output ? "same" : "expanded";
    const sizes = fanSizes(
      { ratio, width, bias: true, activation: "none" },
      { hidden_size: input } as Parameters<typeof fanSizes>[1],
    );
    assert.deepEqual(sizes, { out: output, periodic: p });
  }
  await check(
    machine,
    { x: [1] },
    (n) =>
      Object.fromEntries(v.lns.map(({ layer_1based }) => [
        `layer ${layer_1based}`,
        layerNormScaling(n.x, { layer: layer_1based - 1 }),
      ])),
    Object.fromEntries(v.lns.map(({ layer_1based, scale }) => [`layer ${layer_1based}`, scale])),
  );
  const { a, y, upstream, dx, da } = v.gpas;
  await check(machine, { x: v.gpas.x, a, upstream }, (n) => {
    const y = preservingScale(n.x, n.a), [dx, da] = pulled(y, n.upstream, [n.x, n.a]);
    return { y, dx, da };
  }, { y, dx, da });
}

/** The examples' own names of what the originals call otherwise. */
const workedNames: Readonly<Record<string, string>> = {
  "embed_tokens.weight": "E",
  "norm.weight": "final_norm",
  "input_layernorm.weight": "in_norm",
  "post_attention_layernorm.weight": "post_norm",
  "fan_layer.input_linear.weight": "fan.W",
  "fan_layer.input_linear.bias": "fan.b",
  "linear_attn.in_proj_qkvz.weight": "Win",
  "linear_attn.in_proj_ba.weight": "Wba",
  "linear_attn.conv1d.weight": "conv",
  "linear_attn.A_log": "A_log",
  "linear_attn.dt_bias": "dt_bias",
  "linear_attn.norm.weight": "gnorm",
  "linear_attn.out_proj.weight": "Wo",
  "self_attn.q_proj.weight": "Wq",
  "self_attn.k_proj.weight": "Wk",
  "self_attn.v_proj.weight": "Wv",
  "self_attn.q_norm.weight": "qn",
  "self_attn.k_norm.weight": "kn",
  "self_attn.o_proj.weight": "Wo",
  "mlp.gate_proj.weight": "Wgate",
  "mlp.up_proj.weight": "Wup",
  "mlp.down_proj.weight": "Wdown",
  "mlp.act_fn.weight": "poly.w",
  "mlp.act_fn.bias": "poly.b",
  "gpas_attn.gate": "gpasA",
  "gpas_mlp.gate": "gpasB",
};

function workedName(original: string): string {
  const [, layer, own] = original.match(/^layers\.(\d+)\.(.+)$/) ?? [];
  return own ? `b${layer}.${workedNames[own]}` : workedNames[original];
}

interface NeollmCase {
  readonly output_gate: boolean;
  readonly tensors: readonly TinyTensor[];
  readonly param_count: number;
  readonly hidden_after_block: Numbers;
  readonly logits: Numbers;
  readonly loss: number;
  readonly grad_checks?: readonly (readonly [string, number, number])[];
}

async function wholeModels(machine: Machine): Promise<void> {
  const { tokens, targets, vocab, neollm: v } = tinyModels<
    { neollm: { config: Record<string, number>; cases: readonly NeollmCase[] } }
  >();
  const c = v.config;
  for (const { output_gate, tensors, ...expected } of v.cases) {
    const sizes: Sizes = {
      hidden_size: c.d,
      vocab_size: vocab,
      positions: tokens.length,
      layers: ["linear", "full"],
      num_attention_heads: c.H,
      num_key_value_heads: c.Hk,
      head_dim: c.D,
      partial_rotary_factor: c.rope_dims / c.D,
      output_gate,
      num_key_heads: c.key_heads,
      num_value_heads: c.value_heads,
      key_head_dim: c.key_dim,
      value_head_dim: c.value_dim,
      fan_ratio: c.fan_p / c.d,
      intermediate_size: c.mlp,
    };
    const model = neollm(sizes);
    assert.equal(countAll(namedParams(model.params)), expected.param_count);
    const graph = trace((_: Tensors, named: Tensors) => {
      const params = modelParams(model, (name) => named[workedName(name)]);
      const { ids, targets } = named, rows = { ids, targets, positions: positions(ids.shape) };
      const loss = k.div(model.loss(params, rows).objective, tokens.length);
      const outs: Tensor[] = [];
      sizes.layers.forEach((_, i) =>
        outs.push(
          runLayer(sizes, i, params.layers[i], outs.at(-1) ?? k.embedding(named.E, ids))
            .out,
        )
      );
      const names = tensors.map(({ name }) => name);
      const grads = k.gradients(loss, names.map((name) => named[name]));
      return {
        outputs: {
          loss,
          logits: model.logits(params, model.apply(params, rows).hidden),
          hidden: k.concat(outs, 0),
          ...Object.fromEntries(names.map((name, i) => [`grad ${name}`, grads[i]])),
        },
      };
    }, {
      state: {},
      batch: {
        ids: spec([1, tokens.length], "i32"),
        targets: spec([1, tokens.length], "i32"),
        ...Object.fromEntries(tensors.map(({ name, shape }) => [name, spec(shape)])),
      },
    }) as Graph;
    using session = await machine.start(graph);
    const weights = tensors.map((tensor) => [tensor.name, tinyValues(tensor)]);
    const found = await session.run({ ids: tokens, targets, ...Object.fromEntries(weights) });
    const close = (what: string, values: ArrayLike<number>, wanted: Numbers) => {
      const allowed = tolerances[machine.name], gate = output_gate ? "gated" : "plain";
      checkClose(`${machine.name}: ${gate}, ${what}`, values, flat(wanted), allowed, allowed);
    };
    close("loss", found.loss, expected.loss);
    close("logits", found.logits, expected.logits);
    close("hidden", found.hidden, expected.hidden_after_block);
    for (const [name, i, slope] of expected.grad_checks ?? []) {
      close(`grad ${name}[${i}]`, [found[`grad ${name}`][i]], slope);
    }
  }
}

const examples = { delta, polynorm, fanLnsGpas, wholeModels };

async function checkAll(t: Deno.TestContext, opened: Machine): Promise<void> {
  await using machine = opened;
  for (const [name, check] of Object.entries(examples)) await t.step(name, () => check(machine));
}

Deno.test("neollm, worked: plain loops in double precision", (t) => checkAll(t, plainLoops("f64")));
Deno.test("neollm, worked: cpu", async (t) => await checkAll(t, await cpuMachine()));
webgpuTest("neollm, worked: webgpu", async (t) => await checkAll(t, await webgpuMachine()));

Deno.test("configs: neollm-110m.yaml has the published parameters, and its wider relatives theirs", async () => {
  const { model } = await loadConfig(pretrainConfig, `${root}configs/neollm-110m.yaml`);
  assert.ok("blocks" in model);
  const { neollm: rows } = readJson<{ neollm: Record<string, number | boolean>[] }>(
    "spec/param_counts.json",
  );
  for (const row of rows) {
    const blocks = model.blocks.map(({ mixer, ...block }) => {
      const fan = { width: row.fan_output === model.hidden_size ? "same" : "expanded" };
      const output_gate = row.output_gate ? "channel" : "none";
      return {
        ...block,
        mixer: { ...mixer, fan, ...(mixer.kind === "attention" ? { output_gate } : {}) },
      };
    });
    const params = namedParams(
      buildModel(completeModel(modelConfig.parse({ ...model, blocks }), {
        vocab_size: model.vocab_size!,
        max_position_embeddings: 512,
      })).params,
    );
    const totalOf = (part: RegExp) => countAll(params.filter(({ path }) => part.test(path)));
    assert.equal(countAll(params), row.total);
    assert.equal(totalOf(/^input/), row.embedding_tied);
    assert.equal(totalOf(/^(?!input)/), row.non_embedding);
    assert.equal(totalOf(/^layers\.0\.mixer\.fan/), row.fan_params);
    assert.equal(totalOf(/^layers\.0\.mixer/), row.linear_layer_mixer);
    assert.equal(totalOf(/^layers\.3\.mixer/), row.full_layer_mixer);
    assert.equal(totalOf(/^layers\.3\.mlp/), row.mlp);
  }
});
