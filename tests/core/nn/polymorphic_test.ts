import assert from "node:assert/strict";
import { RouterStory } from "../../../cli/train_router.ts";
import * as k from "../../../kernels/mod.ts";
import { mapTree, type Tensor } from "../../../core/graph/mod.ts";
import {
  buildModel,
  completeModel,
  countAll,
  countByRole,
  initialValues,
  modelConfig,
  type ModelTree,
  namedParams,
} from "../../../core/model/mod.ts";
import { repetitionLoss } from "../../../core/model/repetition.ts";
import {
  branchWeights,
  drawForced,
  mlpConfig,
  normalizedEntropy,
  type PolymorphicConfig,
  type TensorTree,
  unevenness,
  withForced,
} from "../../../core/nn/mod.ts";
import { evenClock, valueAt } from "../../../core/optim/mod.ts";
import { type TinyCase, tinyModels, type TinyTensor, tinyValues } from "../../spec_tensors.ts";
import { checkClose, readJson } from "../../vectors.ts";
import { rowsOf, tinyModel, toldModel, Values, weights } from "../model/tiny.ts";
import { applyForced, polymorphicConfig } from "./veronica_network.ts";
import { recipe } from "./veronica_runs.ts";

type Matrix = number[][];

const example = readJson<
  & {
    input: Record<string, number | number[] | Matrix>;
    branch_out: Matrix[];
    mean_entropy_norm: number;
    entropy_norm_of_mean_alpha: number;
    aux_loss: { weight: number; value: number };
    tau_schedule: { step: number; max_steps: number; tau: number }[];
    aux_schedule: { step: number; max_steps: number; weight: number }[];
    log_line_example: string;
    label_smoothing: { logits: number[]; target: number; eps: number; loss: number };
    released_config_check: { router_tau: number; router_aux_weight: number };
    repetition_loss_inferred: {
      probs: Matrix;
      inputs: number[];
      targets: number[];
      value: number;
    };
  }
  & Record<"alpha" | "conv" | "out", Matrix>
  & Record<"entropy_norm_per_token" | "mean_alpha", number[]>
>("spec/veronica.json");

const flat = (x: unknown) => [x].flat(Infinity) as number[];

/** Halves of the rows of a matrix that holds gate and up. */
const halves = (rows: Matrix) => ({
  gate: rows.slice(0, rows.length / 2),
  up: rows.slice(rows.length / 2),
});
const turned = (rows: Matrix) => rows[0].map((_, i) => rows.map((row) => row[i]));

Deno.test("polymorphic: the worked example, in double precision", () => {
  const values = new Values(),
    { input } = example,
    matrix = (name: string) => input[name] as Matrix;
  const tree = {
    router: {
      hidden: input.router_w1,
      hidden_bias: input.router_b1,
      out: input.router_w2,
      out_bias: input.router_b2,
    },
    branches: [
      { ...halves(matrix("swiglu_up")), down: input.swiglu_down },
      { ...halves(matrix("glu_up")), down: input.glu_down },
      { conv: turned(matrix("dw")), up: input.conv_up, down: input.conv_down },
    ],
  };
  const given = (x: unknown): TensorTree => {
    if (!Array.isArray(x)) {
      return Object.fromEntries(Object.entries(x as object).map(([name, x]) => [name, given(x)]));
    }
    if (typeof x[0] === "object" && !Array.isArray(x[0])) return x.map(given);
    const shape = Array.isArray(x[0]) ? [x.length, x[0].length] : [x.length];
    return values.tensor({ shape, dtype: "f32" }, flat(x));
  };
  const x = values.tensor({ shape: [1, 4, 3], dtype: "f32" }, flat(input.x));
  const config = mlpConfig.parse({
    kind: "polymorphic",
    branches: ["swiglu", "glu", "depthwise_conv"].map((kind) => ({ kind, intermediate_size: 2 })),
  }) as PolymorphicConfig;
  const { weight, value } = example.aux_loss;
  const settings = { tau: input.tau as number, auxWeight: weight, forced: undefined };
  const { out, aux, metrics } = applyForced(config, given(tree), x, settings);
  const alpha = metrics!["router.alpha"];
  const branches = [0, 1, 2].map((branch) => {
    const forced = k.fill([1, 1, 1], branch);
    return applyForced(config, given(tree), x, { ...settings, forced }).out;
  });
  const [y, weights, entropy, loss, ofMean, ...each] = values.run([
    out,
    alpha,
    metrics!["router.entropy_norm"],
    k.meanAll(aux!.router_entropy),
    k.meanAll(unevenness(alpha, "mean")),
    ...branches,
  ], "f64");
  each.forEach((y, i) => checkClose(`branch ${i}`, y, flat(example.branch_out[i]), 1e-12, 0));
  checkClose("out", y, flat(example.out), 1e-12, 0);
  checkClose("alpha", weights, flat(example.alpha), 1e-12, 0);
  // their logarithms are of the weights themselves, ours of 1e-9 more, which moves an entropy by 3e-9
  checkClose("entropy", entropy, example.entropy_norm_per_token, 1e-8, 0);
  checkClose("aux", loss, [value], 1e-10, 0);
  checkClose("of the mean", ofMean, [1 - example.entropy_norm_of_mean_alpha], 1e-8, 0);
});

Deno.test("polymorphic: the line of the worked example is said of its numbers", () => {
  const watched = {
    "router.alpha": example.mean_alpha,
    "router.entropy_norm": example.mean_entropy_norm,
  };
  assert.deepEqual(new RouterStory().lines({ step: 1, watched }), [example.log_line_example]);
});

Deno.test("loss.label_smoothing: the worked example", () => {
  const { logits, target, eps, loss } = example.label_smoothing, values = new Values();
  const vocab = logits.length;
  const identity = Array.from({ length: vocab ** 2 }, (_, i) => Number(i % (vocab + 1) === 0));
  const { sum } = k.linearCrossEntropy(
    values.tensor({ shape: [1, vocab], dtype: "f32" }, logits),
    values.tensor({ shape: [vocab, vocab], dtype: "f32" }, identity),
    values.vector([target]),
    undefined,
    { label_smoothing: eps },
  );
  checkClose("loss", values.run([sum], "f64")[0], [loss], 1e-12, 0);
});

Deno.test("polymorphic: the slope of the entropy's loss", () => {
  const { entropy_aux: { logits, tau, ...expected } } = readJson<
    { entropy_aux: Record<"logits" | "dlogits", number[]> & Record<string, number> }
  >("spec/gradients.json");
  const values = new Values(), z = values.tensor({ shape: [1, 1, 3], dtype: "f32" }, logits);
  const loss = k.sumAll(unevenness(k.softmaxLast(k.div(z, tau)), "token"));
  const [found, slopes] = values.run([loss, k.gradients(loss, [z])[0]], "f64");
  checkClose("loss", found, [expected.one_minus_norm_entropy], 1e-8, 0);
  checkClose("slopes", slopes, expected.dlogits, 1e-8, 0);
});

Deno.test("polymorphic: the published schedules end in the numbers that were released", async () => {
  const { mlp } = await recipe();
  for (const { step, max_steps, tau } of example.tau_schedule) {
    checkClose(`tau ${step}`, [valueAt(mlp.tau, step, evenClock(max_steps))], [tau], 1e-15, 1e-15);
  }
  for (const { step, max_steps, weight } of example.aux_schedule) {
    const found = valueAt(mlp.aux_weight, step, evenClock(max_steps));
    checkClose(`aux ${step}`, [found], [weight], 1e-17, 1e-15);
  }
  const { router_tau, router_aux_weight } = example.released_config_check,
    clock = evenClock(33_773);
  checkClose(
    "released",
    [
      valueAt(mlp.tau, 33_772, clock),
      valueAt(mlp.aux_weight, 33_772, clock),
    ],
    [router_tau, router_aux_weight],
    0,
    1e-15,
  );
});

Deno.test("loss.repetition: the worked example and its slope", () => {
  const { probs, inputs, targets, value } = example.repetition_loss_inferred;
  const values = new Values(), vocab = probs[0].length;
  const identity = Array.from({ length: vocab ** 2 }, (_, i) => Number(i % (vocab + 1) === 0));
  const head = values.tensor({ shape: [vocab, vocab], dtype: "f32" }, identity);
  const given = { ids: values.vector(inputs), targets: values.vector(targets), softcap: 0 };
  const logits = flat(probs).map(Math.log);
  const lossAt = (z: number[]) => {
    const x = values.tensor({ shape: [probs.length, vocab], dtype: "f32" }, z);
    return { x, loss: repetitionLoss(x, head, given) };
  };
  const { x, loss } = lossAt(logits), step = 1e-5;
  const moved = logits.flatMap((_, i) =>
    [step, -step].map((by) => lossAt(logits.map((z, j) => i === j ? z + by : z)).loss)
  );
  const [found, slopes, ...around] = values.run([loss, k.gradients(loss, [x])[0], ...moved], "f64");
  checkClose("value", [found[0] / probs.length], [value], 1e-12, 0);
  const expected = logits.map((_, i) => (around[2 * i][0] - around[2 * i + 1][0]) / (2 * step));
  assert.ok(expected.some((slope) => Math.abs(slope) > 0.1));
  checkClose("slopes", slopes, expected, 1e-8, 0);
});

Deno.test("loss.repetition: it is trained, and what is measured stays plain", () => {
  const values = new Values(), model = tinyModel(small()), params = weights(model, values);
  const told = toldModel(model, values), rows = rowsOf(values, [[3, 1, 1, 5]], [[1, 1, 5, -100]]);
  const plain = told.loss(params, rows), more = told.loss(params, rows, { repetition: 0.5 });
  const [a, b, sum, other] = values.run([plain.objective, more.objective, plain.sum, more.sum]);
  assert.ok(b[0] > a[0] + 1e-3);
  assert.deepEqual(sum, other);
});

const tinyNames: Readonly<Record<string, string>> = {
  "residual.mixer_norm.gain": "ln1.w",
  "residual.mixer_norm.bias": "ln1.b",
  "residual.mlp_norm.gain": "ln2.w",
  "residual.mlp_norm.bias": "ln2.b",
  "mixer.q": "Wq",
  "mixer.k": "Wk",
  "mixer.v": "Wv",
  "mixer.o": "Wo",
  "mlp.router.hidden": "R1",
  "mlp.router.hidden_bias": "R1.b",
  "mlp.router.out": "R2",
  "mlp.router.out_bias": "R2.b",
  "mlp.branches.0.gate": "swi.up",
  "mlp.branches.0.up": "swi.up",
  "mlp.branches.0.down": "swi.down",
  "mlp.branches.1.gate": "glu.up",
  "mlp.branches.1.up": "glu.up",
  "mlp.branches.1.down": "glu.down",
  "mlp.branches.2.conv": "conv.w",
  "mlp.branches.2.up": "conv.up",
  "mlp.branches.2.down": "conv.down",
};

function tinyName(path: string): string {
  const others: Record<string, string> = {
    "input.embedding": "E",
    "norm.gain": "lnf.w",
    "norm.bias": "lnf.b",
  };
  const [, layer, rest] = path.match(/^layers\.(\d+)\.(.+)$/) ?? [];
  return others[path] ?? `b${layer}.${tinyNames[rest]}`;
}

Deno.test("polymorphic: a whole tiny network, its losses and their slopes", () => {
  const { veronica: { config: c, tensors, param_count, ...expected }, ...given } = tinyModels<{
    veronica:
      & TinyCase
      & {
        config: Record<string, number>;
        tensors: TinyTensor[];
        param_count: number;
        grad_checks_of_total: [string, number, number][];
      }
      & Record<"hidden_after_block" | "alpha", Matrix[]>
      & Record<"ce" | "ce_label_smoothing_0.01" | "total_with_aux_weight_0.008", number>
      & { entropy_norm_per_layer: number[] };
  }>();
  const described = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const values = new Values();
  const model = buildModel(completeModel(
    modelConfig.parse({
      hidden_size: c.d,
      blocks: [{
        repeat: c.L,
        mixer: { kind: "attention", num_attention_heads: c.H },
        mlp: {
          ...polymorphicConfig(c.branch_width, c.router_dim, {
            tau: c.tau,
            aux_weight: 0.008,
          }),
          branches: ["swiglu", "glu", "depthwise_conv"].map((kind) => ({
            kind,
            intermediate_size: c.branch_width,
          })),
        },
        residual: { kind: "pre_norm", norm: { kind: "layer_norm" } },
      }],
      norm: { kind: "layer_norm" },
    }),
    { vocab_size: given.vocab, max_position_embeddings: 8 },
  ));
  assert.equal(countAll(namedParams(model.params)), param_count);
  const leaves = new Map<string, Tensor>();
  const params = values.tree<ModelTree<TensorTree>>(model.params, ({ shape }, path) => {
    const all = Array.from(tinyValues(described.get(tinyName(path))!));
    if (path.endsWith(".conv")) {
      return all.map((_, i) => all[(i % shape[1]) * shape[0] + Math.floor(i / shape[1])]);
    }
    if (/\.[01]\.gate$/.test(path)) return all.slice(0, all.length / 2);
    return /\.[01]\.up$/.test(path) ? all.slice(all.length / 2) : all;
  });
  mapTree(params, (leaf: Tensor, path) => leaves.set(path, leaf));
  const told = toldModel(model, values),
    rows = rowsOf(values, [[...given.tokens]], [[...given.targets]]);
  const plain = told.loss(params, rows),
    smooth = told.loss(params, rows, { label_smoothing: 0.01 });
  const { objective } = smooth;
  const { hidden, metrics } = told.apply(params, rows), paths = [...leaves.keys()];
  const [z, ce, smoothed, alpha, entropy, total, ...grads] = values.run([
    told.logits(params, hidden),
    k.div(plain.sum, given.tokens.length),
    k.div(smooth.sum, given.tokens.length),
    metrics["router.alpha"],
    k.meanAll(metrics["router.entropy_norm"]),
    k.div(objective, given.tokens.length),
    ...k.gradients(
      k.div(objective, given.tokens.length),
      paths.map((path) => leaves.get(path)!),
    ),
  ], "f64");
  // Angles come from f32 tables.
  checkClose("logits", z, flat(expected.logits), 1e-6, 0);
  checkClose("ce", ce, [expected.ce], 1e-6, 0);
  checkClose("smoothed", smoothed, [expected["ce_label_smoothing_0.01"]], 1e-6, 0);
  const meanAlpha = flat(expected.alpha[0]).map((x, i) => (x + flat(expected.alpha[1])[i]) / 2);
  checkClose("alpha", alpha, meanAlpha, 1e-6, 0);
  const [first, second] = expected.entropy_norm_per_layer;
  checkClose("entropy", entropy, [(first + second) / 2], 1e-6, 0);
  const aux = expected["total_with_aux_weight_0.008"] - expected["ce_label_smoothing_0.01"];
  checkClose("total", [total[0] - smoothed[0]], [aux], 1e-6, 0);
  /** The slope of one of their numbers, among the gradients of ours. */
  const slopeAt = (name: string, at: number) => {
    const [first, second] = paths.filter((path) => tinyName(path) === name);
    const of = (path: string) => grads[paths.indexOf(path)], half = of(first).length;
    if (name.endsWith("conv.w")) return of(first)[(at % 3) * c.d + Math.floor(at / 3)];
    return second && at >= half ? of(second)[at - half] : of(first)[at];
  };
  assert.ok(expected.grad_checks_of_total.length > 100);
  for (const [name, at, slope] of expected.grad_checks_of_total) {
    checkClose(`${name}[${at}]`, [slopeAt(name, at)], [slope], 1e-6, 0);
  }
});

const small = (mlp: Record<string, unknown> = {}) => ({
  hidden_size: 8,
  blocks: [{
    repeat: 2,
    mixer: { kind: "attention", num_attention_heads: 2 },
    mlp: polymorphicConfig(6, 4, mlp),
  }],
});

Deno.test("polymorphic: a branch is forced as often as asked, on tokens, rows or all rows", () => {
  const values = new Values(), [rows, time, branches] = [300, 20, 3];
  const keys = values.tensor(
    { shape: [rows, 3], dtype: "u32" },
    Array.from({ length: 3 * rows }, (_, i) => [9, 4, Math.floor(i / 3)][i % 3]),
  );
  const drawn = (each: "token" | "sequence" | "batch", probability: number) =>
    drawForced(keys, { each, probability }, { probability, branches, time });
  const [tokens, sequences, all, none, always] = values.run([
    drawn("token", 0.1),
    drawn("sequence", 0.4),
    drawn("batch", 1),
    drawn("token", 0),
    drawn("token", 1),
  ]);
  assert.deepEqual([tokens, sequences, all].map(({ length }) => length), [rows * time, rows, 1]);
  const rate = (x: ArrayLike<number>, of: number) =>
    Array.from(x).filter((branch) => branch === of).length / x.length;
  // four standard deviations
  assert.ok(Math.abs(1 - rate(tokens, -1) - 0.1) < 4 * Math.sqrt(0.09 / tokens.length));
  assert.ok(Math.abs(1 - rate(sequences, -1) - 0.4) < 4 * Math.sqrt(0.24 / rows));
  for (const branch of [0, 1, 2]) {
    assert.ok(Math.abs(rate(always, branch) - 1 / 3) < 4 * Math.sqrt(2 / 9 / always.length));
  }
  assert.equal(rate(none, -1), 1);
  assert.ok([0, 1, 2].includes(all[0]));
});

Deno.test("polymorphic: what is forced on a row does not depend on the rows beside it", () => {
  const values = new Values();
  const drawn = (rows: number[], each: "token" | "sequence") => {
    const keys = values.tensor(
      { shape: [rows.length, 3], dtype: "u32" },
      rows.flatMap((row) => [9, 4, row]),
    );
    return drawForced(keys, { each, probability: 1 }, { probability: 1, branches: 3, time: 5 });
  };
  for (const each of ["token", "sequence"] as const) {
    const [all, first, last] = values.run(
      [[0, 1, 2, 3], [0, 1], [2, 3]].map((rows) => drawn(rows, each)),
    );
    assert.deepEqual([...all], [...first, ...last]);
    assert.ok(new Set(all).size > 1);
  }
});

Deno.test("polymorphic: what is forced is one branch alone", () => {
  const values = new Values();
  const weights = values.tensor({ shape: [1, 2, 3], dtype: "f32" }, [0.2, 0.3, 0.5, 0.6, 0.3, 0.1]);
  const forced = values.tensor({ shape: [1, 2, 1], dtype: "f32" }, [-1, 1]);
  const [found] = values.run([withForced(weights, forced)], "f64");
  assert.deepEqual([...found], [0.2, 0.3, 0.5, 0, 1, 0]);
});

Deno.test("polymorphic: branches are forced in training alone", () => {
  const model = tinyModel(small({ forcing: { probability: 1, each: "sequence" } }));
  assert.equal(model.noise, "training");
  assert.deepEqual(model.scalars.map(({ name }) => name), ["tau", "aux_weight", "force_prob"]);
  assert.equal(tinyModel(small()).noise, "never");
});

Deno.test("polymorphic: routers begin undecided; convolutions begin as the identity, almost", () => {
  const params = namedParams(tinyModel(small()).params), values = new Values();
  const first = (path: string) =>
    initialValues(params.find((param) => param.path === `layers.0.mlp.${path}`)!, 1);
  const router = Object.fromEntries(
    ["hidden", "hidden_bias", "out", "out_bias"].map((name) => {
      const { shape } = params.find(({ path }) => path === `layers.0.mlp.router.${name}`)!;
      return [name, values.tensor({ shape, dtype: "f32" }, first(`router.${name}`))];
    }),
  );
  const x = values.tensor(
    { shape: [1, 5, 8], dtype: "f32" },
    Array.from({ length: 40 }, (_, i) => Math.sin(i * i)),
  );
  const entropy = normalizedEntropy(branchWeights(router as never, x, 1));
  const [found] = values.run([entropy]);
  assert.ok(found.every((x) => x > 1 - 1e-5), `${found}`);
  const conv = first("branches.2.conv"); // [3 taps, 8 channels]
  assert.ok(conv.every((x, i) => Math.abs(x - (i < 16 ? 0 : 1)) < 0.1));
  assert.notDeepEqual(conv.slice(0, 8), conv.slice(8, 16));
});

Deno.test("polymorphic: layers' losses are averaged or added", () => {
  const values = new Values(), ids = [[3, 1, 4, 1]];
  const auxOf = (mlp: Record<string, unknown>) => {
    const model = tinyModel(small({ aux_weight: 1, ...mlp }));
    const told = toldModel(model, values), rows = rowsOf(values, ids);
    const { objective, sum } = told.loss(weights(model, values), rows);
    return k.sub(objective, sum);
  };
  const [mean, sum, ofMean] = values.run([
    auxOf({}),
    auxOf({ aux_over_layers: "sum" }),
    auxOf({ entropy_of: "mean" }),
  ], "f64");
  assert.ok(mean[0] > 0.01 && Math.abs(sum[0] / mean[0] - 2) < 1e-6);
  assert.ok(ofMean[0] > 0 && ofMean[0] < mean[0]); // the mean of weights is more even than they are
});

Deno.test("polymorphic: sizes are the published ones", async () => {
  const published = readJson<{ veronica: Record<string, number | boolean>[] }>(
    "spec/param_counts.json",
  ).veronica.filter(({ linear_biases }) => !linear_biases);
  const { config: { model } } = await recipe();
  if (!("blocks" in model)) throw new Error("the recipe has the flat form");
  assert.equal(published.length, 4);
  for (const { vocab, tied, conv_branch_hidden, total, router_per_layer } of published) {
    const text = JSON.stringify(model, (key, value) => {
      if (key === "tie_word_embeddings") return tied;
      if (key === "vocab_size") return vocab;
      if (value?.kind === "depthwise_conv") {
        return { ...value, intermediate_size: conv_branch_hidden };
      }
      return value;
    });
    const found = buildModel(completeModel(JSON.parse(text), {
      vocab_size: 1,
      max_position_embeddings: 1,
    }));
    const params = namedParams(found.params);
    assert.equal(countAll(params), total);
    const router = countByRole(params).find(({ role }) => role === "router")!;
    assert.equal(router.total, 24 * Number(router_per_layer));
  }
});
