import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import { mapTree, type Tensor } from "../../../core/graph/mod.ts";
import {
  buildModel,
  completeModel,
  countAll,
  countByRole,
  modelConfig,
  type ModelTree,
  namedParams,
} from "../../../core/model/mod.ts";
import {
  applyPolyglu,
  gumbel,
  mixActivations,
  mlpConfig,
  type PolygluConfig,
  type PolygluParams,
  routingEntropy,
  routingPull,
  routingWeights,
  type TensorTree,
} from "../../../core/nn/mod.ts";
import { checkClose, readJson } from "../../vectors.ts";
import {
  hashed,
  type TinyCase,
  tinyModels,
  type TinyTensor,
  tinyValues,
} from "../../spec_tensors.ts";
import { tinyModel, Values, vocab, wave, weights } from "../model/tiny.ts";
import { withNoise } from "./polyglu_network.ts";

type Matrix = readonly (readonly number[])[];

const example = readJson<{
  input: Readonly<Record<string, number[] | number[][]>>;
  cases: { name: string; tau: number; noise: boolean; expected: Record<string, Matrix> }[];
  causal_prefix_mean_variant: { out: Matrix };
  static_entropy_per_neuron: number[];
  dynamic_entropy_per_neuron: number[];
}>("spec/polyglu.json");

const flat = (x: readonly unknown[]) => x.flat(Infinity) as number[];

/** The worked example's tensors. */
function opened() {
  const values = new Values();
  const given = Object.fromEntries(
    Object.entries(example.input).map(([name, x]) => {
      const shape = Array.isArray(x[0]) ? [x.length, x[0].length] : [x.length];
      return [name, values.tensor({ shape, dtype: "f32" }, flat(x))];
    }),
  );
  const p: PolygluParams = {
    gate: given.W_gate,
    up: given.W_up,
    down: given.W_down,
    router: {
      alpha: given.alpha,
      beta: given.beta,
      hidden: given.gate_w1,
      hidden_bias: given.gate_b1,
      out: given.gate_w2,
      out_bias: given.gate_b2,
    },
  };
  const x = k.reshape(given.x, [1, 3, 2]), noise = k.reshape(given.gumbel, [1, 3, 4]);
  return { values, given, p, x, noise };
}

const config = (rest: Partial<PolygluConfig> = {}) =>
  mlpConfig.parse({ kind: "polyglu", intermediate_size: 3, ...rest }) as PolygluConfig;
const sequence = config({ pooling: "sequence" });
const where = { segment_ids: undefined, layer: 0 };

Deno.test("polyglu: the worked example, in double precision", () => {
  const { values, p, x, noise } = opened();
  for (const { name, tau, noise: isNoisy, expected } of example.cases) {
    const routing = { tau, noise: isNoisy ? noise : undefined };
    const pull = routingPull(p, x, { config: sequence, segment_ids: undefined });
    const weights = routingWeights({ alpha: p.router.alpha, pull, ...routing });
    const { out } = applyPolyglu(p, x, { config: sequence, ...where, ...routing });
    const [y, ...found] = values.run([out, ...weights], "f64");
    checkClose(`${name}: out`, y, flat(expected.out), 1e-12, 0);
    found.forEach((w, kind) =>
      checkClose(`${name}: weights ${kind}`, w, expected.weights.map((row) => row[kind]), 1e-12, 0)
    );
  }
  const { out } = applyPolyglu(p, x, { config: config(), ...where, tau: 0.5, noise: undefined });
  const [causal] = values.run([out], "f64");
  checkClose("prefix means", causal, flat(example.causal_prefix_mean_variant.out), 1e-12, 0);
});

Deno.test("polyglu: entropies of the worked example, in double precision", () => {
  const { values, p, x } = opened();
  const pull = routingPull(p, x, { config: sequence, segment_ids: undefined });
  const [fixed, moving] = values.run([
    routingEntropy(p.router.alpha),
    routingEntropy(p.router.alpha, pull),
  ], "f64");
  checkClose("static", fixed, example.static_entropy_per_neuron, 1e-12, 0);
  checkClose("dynamic", moving, example.dynamic_entropy_per_neuron, 1e-12, 0);
});

Deno.test("polyglu: gradients of the worked example", () => {
  const recorded = readJson<Record<string, Record<string, Matrix>>>("spec/gradients.json");
  const { upstream, ...expected } = recorded["polyglu_tau0.5_with_noise"];
  const { values, given, p, x, noise } = opened();
  const { out } = applyPolyglu(p, x, { config: sequence, ...where, tau: 0.5, noise });
  const cotangent = values.tensor({ shape: [1, 3, 2], dtype: "f32" }, flat(upstream));
  const names = Object.keys(expected);
  const found = values.run(
    k.gradients(k.sumAll(k.mul(out, cotangent)), names.map((name) => given[name])),
    "f64",
  );
  // by differences, which the file says are right to about 1e-9
  names.forEach((name, i) => checkClose(name, found[i], flat(expected[name]), 2e-9, 0));
});

const tinyNames: Readonly<Record<string, string>> = {
  "residual.mixer_norm.gain": "rms1",
  "residual.mlp_norm.gain": "rms2",
  "mixer.q": "Wq",
  "mixer.k": "Wk",
  "mixer.v": "Wv",
  "mixer.o": "Wo",
  "mixer.q_norm": "qn",
  "mixer.k_norm": "kn",
  "mlp.gate": "Wg",
  "mlp.up": "Wu",
  "mlp.down": "Wd",
  "mlp.router.alpha": "alpha",
  "mlp.router.beta": "beta",
  "mlp.router.hidden": "G1",
  "mlp.router.hidden_bias": "b1",
  "mlp.router.out": "G2",
  "mlp.router.out_bias": "b2",
};

function tinyName(path: string): string {
  if (path === "input.embedding") return "E";
  if (path === "norm.gain") return "rmsF";
  const [, layer, rest] = path.match(/^layers\.(\d+)\.(.+)$/)!;
  return `b${layer}.${tinyNames[rest]}`;
}

Deno.test("polyglu: a whole tiny network, its loss and its slopes", () => {
  const { polyglu: { config: c, tensors, cases, param_count }, ...given } = tinyModels<{
    polyglu: {
      config: Record<string, number>;
      tensors: TinyTensor[];
      param_count: number;
      cases: TinyCase[];
    };
  }>();
  const { tokens, targets, hash_check } = given;
  assert.deepEqual([hashed(0, 0), hashed(0, 1), hashed(3, 7)], Object.values(hash_check));
  const described = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  for (const { name, loss, logits, grad_checks = [] } of cases) {
    const values = new Values();
    const plain = buildModel(completeModel(
      modelConfig.parse({
        hidden_size: c.d,
        blocks: [{
          repeat: c.L,
          mixer: {
            kind: "attention",
            num_attention_heads: c.Hq,
            num_key_value_heads: c.Hk,
            head_dim: c.D,
            qk_norm: true,
            positions: "row",
          },
          mlp: {
            kind: "polyglu",
            intermediate_size: c.f,
            router_size: c.r,
            pooling: name.startsWith("sequence") ? "sequence" : "causal",
            routing_noise: "never",
            tau: c.tau,
          },
        }],
      }),
      { vocab_size: given.vocab, max_position_embeddings: 8 },
    ));
    assert.equal(countAll(namedParams(plain.params)), param_count);
    const noise = name.endsWith(", noise")
      ? [0, 1].map((layer) =>
        gumbel(values.tensor(
          { shape: [1, c.f, c.K], dtype: "f32" },
          Float64Array.from({ length: c.f * c.K }, (_, i) => hashed(1000 + layer, i)),
        ))
      )
      : [];
    const model = withNoise(plain, c.tau, noise), leaves = new Map<string, Tensor>();
    const params = values.tree<ModelTree<TensorTree>>(
      model.params,
      (_, path) => tinyValues(described.get(tinyName(path))!),
    );
    mapTree(params, (leaf: Tensor, path) => leaves.set(tinyName(path), leaf));
    const segments = tokens.map((_, t) =>
      tokens.slice(0, t).filter((id) => id === c.eos_id).length
    );
    const rows = {
      ids: values.integers([tokens]),
      positions: values.integers([tokens.map((_, t) => t)]),
      segment_ids: name.includes("doc mask") ? values.integers([segments]) : undefined,
    };
    const { hidden } = model.apply(params, rows), z = model.logits(params, hidden);
    const { sum } = k.linearCrossEntropy(
      k.reshape(hidden, [-1, c.d]),
      leaves.get("E")!,
      k.reshape(values.integers([targets]), [-1]),
    );
    const mean = k.div(sum, tokens.length), asked = [...leaves.keys()];
    const slopes = grad_checks.length > 0
      ? k.gradients(mean, asked.map((name) => leaves.get(name)!))
      : [];
    const [found, [total], ...grads] = values.run([z, mean, ...slopes], "f64");
    // Angles come from f32 tables, which two layers amplify; by tables in double precision all is within 2e-9.
    checkClose(`${name}: logits`, found, flat(logits), 1e-6, 0);
    checkClose(`${name}: loss`, [total], [loss], 1e-6, 0);
    for (const [of, at, slope] of grad_checks) {
      checkClose(`${name}: ${of}[${at}]`, [grads[asked.indexOf(of)][at]], [slope], 1e-6, 0);
    }
  }
});

/** A mix of gates [1, 4, 3] under fixed logits. */
function mixed(values: Values, gates: Tensor, logits: number[], tau: number): Tensor {
  const alpha = values.tensor({ shape: [3, 4], dtype: "f32" }, [...logits, ...logits, ...logits]);
  const names = ["relu", "tanh", "silu", "gelu"] as const;
  return mixActivations(gates, names, { alpha, pull: k.fill([1, 1, 4], 0), tau });
}

Deno.test("polyglu: without preferences it is the mean of four glus, with a strong one it is swiglu", () => {
  const values = new Values();
  const gates = values.tensor({ shape: [1, 4, 3], dtype: "f32" }, wave(12, 1).map((x) => 3 * x));
  const each = [k.relu(gates), k.tanh(gates), k.silu(gates), k.gelu(gates)];
  const [none, mean, strong, silu, extreme] = values.run([
    mixed(values, gates, [0, 0, 0, 0], 1),
    k.mul(each.reduce(k.add), 0.25),
    mixed(values, gates, [0, 0, 9, 0], 0.1),
    k.silu(gates),
    // what overflows without the largest logit taken off
    mixed(values, gates, [-3000, -3000, 3000, -3000], 0.01),
  ], "f64");
  checkClose("mean", none, mean, 1e-15, 1e-14);
  checkClose("swiglu", strong, silu, 1e-15, 1e-14);
  checkClose("extreme", extreme, silu, 1e-15, 1e-14);
});

Deno.test("polyglu: noise has the mean and the variance of Gumbel's distribution", () => {
  const values = new Values();
  const keys = values.tensor({ shape: [2, 3], dtype: "u32" }, [5, 0, 1, 5, 0, 2]);
  const [drawn] = values.run([gumbel(k.uniform(keys, "test", [2, 20_000]))]);
  const draws = Array.from(drawn);
  const mean = draws.reduce((a, b) => a + b, 0) / draws.length;
  const variance = draws.reduce((sum, x) => sum + (x - mean) ** 2, 0) / draws.length;
  // four standard deviations of each estimate
  assert.ok(Math.abs(mean - 0.57722) < 4 * Math.sqrt(variance / draws.length), `${mean}`);
  assert.ok(Math.abs(variance - Math.PI ** 2 / 6) < 0.08, `${variance}`);
  assert.ok(draws.every(Number.isFinite));
});

const small = (mlp: Record<string, unknown>, mixer: Record<string, unknown> = {}) => ({
  hidden_size: 8,
  blocks: [{
    mixer: { kind: "attention", num_attention_heads: 2, positions: "row", ...mixer },
    mlp: { kind: "polyglu", intermediate_size: 6, router_size: 3, routing_noise: "never", ...mlp },
  }],
});

Deno.test("polyglu: a document's change reaches the next by the mean of whole rows alone", () => {
  const segment_ids = [[1, 1, 1, 2, 2, 2]];
  const changes = (pooling: string, withSegments: boolean) => {
    const values = new Values(), model = tinyModel(small({ pooling }));
    const params = weights(model, values),
      scalars = values.tensor({ shape: [1], dtype: "f32" }, [
        0.5,
      ]);
    const logits = [[3, 1, 4, 5, 9, 2], [8, 1, 4, 5, 9, 2]].map((row) => {
      const ids = values.integers([row]);
      const segments = withSegments ? values.integers(segment_ids) : undefined;
      const rows = { ids, positions: ids, segment_ids: segments, scalars };
      return model.logits(params, model.apply(params, rows).hidden);
    });
    const [a, b] = values.run(logits);
    return [0, 1, 2, 3, 4, 5].map((t) =>
      a.subarray(t * vocab, (t + 1) * vocab).some((x, j) => x !== b[t * vocab + j])
    );
  };
  const all = Array(6).fill(true);
  assert.deepEqual(changes("sequence", true), all);
  assert.deepEqual(changes("causal", false), all);
  assert.deepEqual(changes("causal", true), [true, true, true, false, false, false]);
});

Deno.test("polyglu: new tokens see the mean of what is known, by either pooling", () => {
  const values = new Values(), model = tinyModel(small({ pooling: "sequence" }));
  const params = weights(model, values);
  const scalars = values.tensor({ shape: [1], dtype: "f32" }, [0.5]);
  const text = [3, 1, 4, 1, 5];
  const state = values.tree(
    model.state({ batch: 1, capacity: 8 }),
    ({ shape }) => new Float32Array(shape.reduce((a, b) => a * b)).fill(NaN),
  ) as ReturnType<typeof model.step>["state"];
  const whole = (ids: number[]) => {
    const row = values.integers([ids]);
    const { hidden } = model.apply(params, { ids: row, positions: row, scalars });
    return model.logits(params, hidden);
  };
  const first = model.step(params, {
    ids: values.integers([text]),
    start: values.vector([0]),
    scalars,
  }, state);
  const second = model.step(params, {
    ids: values.integers([[9]]),
    start: values.vector([5]),
    scalars,
  }, first.state);
  const [prompt, expected, next, longer] = values.run([
    model.logits(params, first.hidden),
    whole(text),
    model.logits(params, second.hidden),
    whole([...text, 9]),
  ]);
  // a prompt is a whole row; a token behind it is as in the longer row, of which one layer's tokens know all
  checkClose("prompt", prompt, expected, 1e-5, 0);
  checkClose("next", next, longer.slice(5 * vocab), 1e-5, 0);
  assert.ok(prompt.some((x, i) => Math.abs(x - longer[i]) > 1e-3));
});

Deno.test("replay: PolyGLU 29: routing is a role of its own, of as many numbers as were published", () => {
  const published = readJson<{ polyglu: Record<string, number> }>("spec/param_counts.json").polyglu;
  const model = buildModel(completeModel(
    modelConfig.parse({
      hidden_size: 1024,
      blocks: [{
        repeat: 28,
        mixer: {
          kind: "attention",
          num_attention_heads: 16,
          num_key_value_heads: 8,
          head_dim: 64,
          qk_norm: true,
        },
        mlp: { kind: "polyglu", intermediate_size: 4096 },
      }],
    }),
    { vocab_size: 151_669, max_position_embeddings: 4096 },
  ));
  const params = namedParams(model.params);
  assert.equal(countAll(params), published.total);
  assert.equal(
    countByRole(params).find(({ role }) => role === "router")!.total,
    published.routing_total,
  );
  const spread = (path: string) =>
    params.find((param) => param.path === `layers.0.mlp.${path}`)!.init;
  assert.deepEqual(spread("router.alpha"), { kind: "constant", value: 0 });
  assert.deepEqual(spread("router.beta"), { kind: "constant", value: 1 });
  assert.deepEqual(spread("router.hidden"), { kind: "normal", std: 0.02 });
  assert.deepEqual(spread("down"), { kind: "normal", std: 0.02 / Math.sqrt(56) });
});
