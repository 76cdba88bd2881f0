/** Worked examples of recycled-core in double precision: its parts, and a whole tiny model with its replays and without. */

import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import type { Tensor } from "../../core/graph/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { bindParts } from "../../core/model/bind.ts";
import {
  buildModel,
  completeModel,
  countAll,
  initialValues,
  type ModelTree,
  namedParams,
} from "../../core/model/mod.ts";
import { modulated } from "../../core/model/passes.ts";
import {
  layerNormScaling,
  mixedValues,
  ropeBase,
  smeared,
  type TensorTree,
  withoutOwnValue,
  x0Mix,
} from "../../core/nn/mod.ts";
import { pretrainConfig } from "../../core/train/mod.ts";
import { Values } from "../core/model/tiny.ts";
import { tinyModels, type TinyTensor, tinyValues } from "../spec_tensors.ts";
import { root } from "../support.ts";
import { checkClose, readJson } from "../vectors.ts";
import {
  eps,
  mixerParams,
  type Named,
  orderOf,
  recycledCore,
  residualParams,
  type Sizes,
  trailOf,
} from "./recycled.ts";

type Nested = number | readonly Nested[];
const flat = (x: Nested): number[] => typeof x === "number" ? [x] : x.flatMap(flat);
const shapeOf = (x: Nested): number[] => typeof x === "number" ? [] : [x.length, ...shapeOf(x[0])];

/** Numbers as a tensor of this shape. */
function given(values: Values, x: Nested, shape = shapeOf(x)): Tensor {
  return values.tensor({ shape, dtype: "f32" }, flat(x));
}

const examples = readJson<Record<string, Record<string, Nested>>>("spec/recycled_core.json");

/** What a body makes of an example's numbers, in double precision, is as they say. */
function check(
  name: string,
  expected: Nested,
  body: (of: (x: Nested, shape?: number[]) => Tensor) => Tensor,
) {
  const values = new Values();
  const [found] = values.run([body((x, shape) => given(values, x, shape))], "f64");
  checkClose(name, found, flat(expected), 1e-12, 1e-12);
}

Deno.test("recycled-core, worked examples: parts", () => {
  const { xsa, smear_gate, leaky_relu2, value_residual, attention_gate, block_input } = examples;
  check("xsa", xsa.out, (of) => {
    const y = of(xsa.y), v = of(xsa.v);
    return withoutOwnValue(k.reshape(y, [1, ...y.shape]), k.reshape(v, [1, ...v.shape]));
  });
  check(
    "smear gate",
    smear_gate.out,
    (of) => smeared(of(smear_gate.gate), of(smear_gate.x, [1, 3, 3]), undefined),
  );
  check("leaky relu²", leaky_relu2.y, (of) => {
    const x = of(leaky_relu2.x);
    return k.square(k.maximum(x, k.mul(x, 0.5)));
  });
  check("slopes of leaky relu²", leaky_relu2.dy_dx, (of) => {
    const x = of(leaky_relu2.x), y = k.square(k.maximum(x, k.mul(x, 0.5)));
    return k.gradients(k.sumAll(y), [x])[0];
  });
  check(
    "value residual",
    value_residual.mixed,
    (of) =>
      mixedValues({ value_mix: of(value_residual.lambda) }, of(value_residual.v, [1, 1, 1, 2]), {
        isReplay: false,
        streams: { first_values: of(value_residual.v0, [1, 1, 1, 2]) },
      }).v,
  );
  check(
    "attention gate",
    attention_gate.out,
    (of) => k.mul(of(attention_gate.y), k.sigmoid(of(attention_gate.logit))),
  );
  const rows = examples.softcap30 as unknown as { x: number; y: number }[];
  check(
    "softcap",
    rows.map(({ y }) => y),
    (of) => k.mul(30, k.tanh(k.div(of(rows.map(({ x }) => x)), 30))),
  );
  check(
    "LN factors",
    examples.ln_scale_factors as unknown as number[],
    (of) =>
      k.concat(Array.from({ length: 12 }, (_, layer) => layerNormScaling(of([1]), { layer })), 0),
  );
  const { recycle_modulation: m } = examples;
  check("modulation", m.out, (of) => modulated(of(m.x), { scale: of(m.scale), shift: of(m.bias) }));
  const layer = Number(block_input.layer_index),
    dims = {
      hidden_size: 3,
      vocab_size: 1,
      max_position_embeddings: 1,
      depth: 1,
      initializer_range: 1,
      output_initializer_range: 1,
      layer,
    };
  assert.equal(block_input.rms_eps, eps);
  check("block input", block_input.attn_input, (of) => {
    const norm = { kind: "rms_norm", weight: false, eps, layernorm_scaling: true };
    const config = x0Mix.config.parse({ kind: "x0_mix", norm });
    const [mix0, mix1] = block_input.resid_mix as readonly Nested[];
    const params = {
      mix: { x: of(mix0), x0: of(mix1) },
      mixer_norm: {},
      mixer_scale: of([1, 1, 1]),
      mlp_norm: {},
      mlp_scale: of([1, 1, 1]),
    };
    let read: Tensor | undefined;
    x0Mix.bind(config, dims).run(params, { x: of(block_input.x), x0: of(block_input.x0) }, {
      mixer: (x) => read = x,
      mlp: (x) => x,
    });
    return read!;
  });
});

Deno.test("recycled-core, worked examples: buckets of pairs, of whole rows and of new tokens", () => {
  const { tokens, ids, overflow_case } = examples.bigram_hash;
  const other = overflow_case as unknown as { tokens: number[]; id_at_1: number };
  for (
    const [row, expected] of [
      [flat(tokens), flat(ids)],
      [other.tokens, [2047, other.id_at_1]],
    ] as const
  ) {
    const values = new Values(), whole = k.bigramBuckets(values.integers([row]), 2048, undefined);
    let last = values.vector([0]);
    const one = row.map((id, t) => {
      const at = { start: values.vector([t]), lengths: undefined };
      const stepped = k.bigramStep(values.integers([[id]]), last, at, 2048);
      last = stepped.last;
      return stepped.buckets;
    });
    const [all, ...each] = values.run([whole, ...one]);
    assert.deepEqual([...all], expected);
    assert.deepEqual(each.map(([bucket]) => bucket), expected);
  }
});

interface Order {
  readonly layers: number;
  readonly replay: readonly number[];
  readonly order: readonly number[];
  readonly recycled: readonly { virtual_index: number; modulation: number; physical: number }[];
  readonly skips: readonly Record<"virtual_index" | "skip_from_virtual" | "weight_row", number>[];
}

Deno.test("recycled-core, worked examples: the configs pass layers in the script's order", async () => {
  for (
    const [name, file] of [
      ["virtual_12_replay_3_4", "recycled-core"],
      ["virtual_11_replay_3_4_5_script_rule", "recycled-core-b"],
    ]
  ) {
    const expected = examples[name] as unknown as Order;
    const { model } = await loadConfig(pretrainConfig, `${root}configs/${file}.yaml`);
    const { passes } = bindParts(
      completeModel(model, { vocab_size: 1, max_position_embeddings: 2048 }),
    );
    assert.deepEqual(passes.map(({ layer }) => layer), expected.order);
    const modulations = passes.flatMap(({ layer, modulation }, virtual_index) =>
      modulation === undefined ? [] : [{ virtual_index, physical: layer, modulation }]
    );
    assert.deepEqual(
      modulations,
      expected.recycled.map(({ virtual_index, physical, modulation }) => ({
        virtual_index,
        physical,
        modulation,
      })),
    );
    const skips = passes.flatMap(({ skips }, virtual_index) =>
      skips.map(({ from, weights }) => [virtual_index, from, weights])
    );
    assert.deepEqual(
      skips,
      expected.skips.map((skip) => [skip.virtual_index, skip.skip_from_virtual, skip.weight_row]),
    );
    const rule = orderOf(expected.layers, expected.replay);
    assert.deepEqual("blocks" in model && [model.order, model.skips], [
      rule.order.map((pass) => typeof pass === "number" ? pass : { ...pass }),
      rule.skips,
    ]);
  }
});

Deno.test("recycled-core, worked examples: parameters, first weights, and the base of the angles", async () => {
  const { recycled_core: counts } = readJson<{
    recycled_core: { name: string; total: number }[];
  }>("spec/param_counts.json");
  const total = (name: string) => counts.find((count) => count.name.startsWith(name))!.total;
  for (
    const [file, name] of [["recycled-core", "PR 1573"], ["recycled-core-b", "preset B"]] as const
  ) {
    const { model: config } = await loadConfig(pretrainConfig, `${root}configs/${file}.yaml`);
    const sizes = { vocab_size: 1, max_position_embeddings: 2048 };
    const model = buildModel(completeModel(config, sizes)), params = namedParams(model.params);
    assert.equal(countAll(params), total(name));
    const first = (path: string) => initialValues(params.find((param) => param.path === path)!, 1);
    for (const path of ["layers.0.mixer.o", "layers.3.mlp.down", "input.bigram.embedding"]) {
      assert.ok(first(path).every((x) => x === 0), path);
    }
    assert.deepEqual([...first("layers.2.mixer.gate_bias")], Array(8).fill(4));
    // tall and wide: columns or rows stand upright on each other
    const spread = (path: string) => {
      const x = first(path);
      return Math.sqrt(x.reduce((sum, value) => sum + value ** 2, 0) / x.length);
    };
    assert.ok(Math.abs(spread("input.bigram.projection") - 0.0442) < 1e-4);
    assert.ok(Math.abs(spread("input.value_embedding.projection") - 0.0625) < 1e-4);
    assert.ok(Math.abs(spread("input.embedding") - 0.005) < 1e-4);
    const k0 = first("layers.0.mixer.k"),
      dot = (a: number, b: number) => {
        let sum = 0;
        for (let i = 0; i < 512; i++) sum += k0[a * 512 + i] * k0[b * 512 + i];
        return sum;
      };
    assert.ok(Math.abs(dot(255, 255) - 1) < 1e-6 && Math.abs(dot(0, 255)) < 1e-6);
  }
  const base = ropeBase({ rope_theta: 10000, rope_original_positions: 1024 }, 2048, 16);
  assert.ok(Math.abs(base - 22081.8) < 0.05);
});

/** All parameters, from tensors by the names of the worked examples; layers' names begin with `b<layer>.`. */
function workedParams(
  of: Named,
  { layers, recycled, embedded }: Sizes,
): ModelTree<TensorTree> {
  const rowOf = (x: Tensor, at: number, shape = x.shape.slice(1)) =>
    k.reshape(k.slice(x, 0, at, 1), shape);
  const table = (name: string) => ({
    embedding: of(`${name}.table`),
    projection: of(`${name}.proj`),
    scale: of(`${name}.scale`),
  });
  return {
    input: {
      embedding: of("E"),
      bigram: table("bigram"),
      norm: {},
      smear: of("smear.gate"),
      value_embedding: table("ve"),
    },
    layers: Array.from({ length: layers }, (_, i) => {
      const own: Named = (name) => of(`b${i}.${name}`), scale = embedded.indexOf(i);
      return {
        residual: residualParams(own),
        mixer: {
          ...mixerParams(own),
          ...(scale < 0 ? {} : { value_embedding_scale: rowOf(of("ve.layer_scale"), scale, [1]) }),
        },
        mlp: { up: own("Wup"), down: own("Wdown") },
      };
    }),
    modulations: recycled.map((_, i) => ({
      scale: of(`recycle${i}.scale`),
      shift: of(`recycle${i}.bias`),
    })),
    skips: Array.from({ length: Math.floor(layers / 2) }, (_, i) => ({
      weight: rowOf(of("skip"), i),
    })),
    norm: {},
    head: {},
  };
}

interface TinyCase {
  readonly logits: readonly (readonly number[])[];
  readonly loss: number;
  readonly hidden_first_channels_after_step?: Nested;
  readonly grad_checks?: readonly (readonly [string, number, number])[];
}

Deno.test("recycled-core, worked examples: a whole tiny model, with replays and without", () => {
  const { tokens, targets, vocab, recycled_core: tiny } = tinyModels<{
    recycled_core: {
      config: Record<string, number> & Record<string, number[]>;
      tensors: TinyTensor[];
      param_count: number;
      replay: TinyCase;
      no_replay: TinyCase;
    };
  }>();
  const c = tiny.config;
  const sizes: Sizes = {
    hidden_size: c.d,
    vocab_size: vocab,
    positions: tokens.length,
    layers: c.L,
    heads: c.H,
    kv_heads: c.Hk,
    rotary: c.rope_dims,
    nominal: c.nominal_len,
    intermediate_size: c.mlp_hidden,
    bigram: [c.bigram_rows, c.bigram_dim],
    value_embedding: c.ve_dim,
    embedded: c.ve_layers,
    exclusive: c.xsa_layers,
    recycled: c.recycle_layers,
  };
  for (const name of ["replay", "no_replay"] as const) {
    const expected = tiny[name], values = new Values();
    const own = { ...sizes, recycled: name === "replay" ? sizes.recycled : [] };
    const model = recycledCore(own);
    if (name === "replay") assert.equal(countAll(namedParams(model.params)), tiny.param_count);
    const tensors = new Map(tiny.tensors.map((tensor) =>
      [
        tensor.name,
        values.tensor({ shape: tensor.shape, dtype: "f32" }, tinyValues(tensor)),
      ] as const
    ));
    const params = workedParams((name) => tensors.get(name)!, own);
    const ids = values.integers([tokens as number[]]);
    const rows = {
      ids,
      targets: values.integers([targets as number[]]),
      positions: values.integers([tokens.map((_, t) => t)]),
    };
    const trail = trailOf(model, params, rows);
    const logits = model.logits(params, model.apply(params, rows).hidden);
    const loss = k.div(model.loss(params, rows).sum, tokens.length);
    const checks = expected.grad_checks ?? [];
    const names = [...new Set(checks.map(([name]) => name))];
    const grads = k.gradients(loss, names.map((name) => tensors.get(name)!));
    const found = values.run([logits, loss, ...trail.out, ...grads], "f64");
    // angles come as f32 tables even to the loops in double precision
    const close = (what: string, a: ArrayLike<number>, b: ArrayLike<number>) =>
      checkClose(`${name}: ${what}`, a, b, 2e-7, 2e-7);
    close("logits", found[0], flat(expected.logits));
    close("loss", found[1], [expected.loss]);
    (expected.hidden_first_channels_after_step as Nested[] | undefined)?.forEach((rows, step) => {
      const all = found[2 + step], width = (rows as Nested[][])[0].length;
      const first = tokens.flatMap((_, t) => [...all.slice(t * c.d, t * c.d + width)]);
      close(`hidden ${step}`, first, flat(rows));
    });
    for (const [tensor, at, slope] of checks) {
      const grad = found[2 + trail.out.length + names.indexOf(tensor)];
      close(`gradient of ${tensor}[${at}]`, [grad[at]], [slope]);
    }
  }
});
