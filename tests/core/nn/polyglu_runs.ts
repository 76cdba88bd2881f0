/** Cases of the PolyGLU vectors that are more than one graph: a leak, updates, schedules. */

import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../../../core/graph/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import { type Model, namedParams } from "../../../core/model/mod.ts";
import {
  bindOptimizer,
  evenClock,
  type OptimizerConfig,
  scalarsOf,
  type Schedule,
  valueAt,
} from "../../../core/optim/mod.ts";
import { type PretrainConfig, pretrainConfig } from "../../../core/train/mod.ts";
import { root } from "../../support.ts";
import type { CheckCase } from "../../vector_tests.ts";
import { checkClose, type Tensors, type VectorCase } from "../../vectors.ts";
import { modelOf, originalNames, paramsOf, scalar, withNoise } from "./polyglu_network.ts";

const given = ({ tensors }: VectorCase, pattern: RegExp) =>
  [...tensors].filter(([name]) => pattern.test(name));

const specsOf = (found: ReturnType<typeof given>) =>
  Object.fromEntries(
    found.map(([name, { shape, values }]): [string, Spec] => [
      name.replace(/^param\//, ""),
      spec(shape, values instanceof Int32Array ? "i32" : "f32"),
    ]),
  );

const valuesOf = (found: ReturnType<typeof given>) =>
  Object.fromEntries(found.map(([name, { values }]) => [name.replace(/^param\//, ""), values]));

export const leakCase: CheckCase = async (machine, c) => {
  const inputs = given(c, /^param\/|^in\/ids_/), tau = c.config.tau as number;
  const graph = trace((_: Tensors, batch: Tensors) => {
    const logits = (pooling: "causal" | "sequence", ids: Tensor) => {
      const model = modelOf(c, { pooling, tau }), params = paramsOf(model, batch);
      const rows = { ids, positions: ids, scalars: scalar(tau) }; // positions are the row's anyway
      return model.logits(params, model.apply(params, rows).hidden);
    };
    const outputs = (["causal", "sequence"] as const).flatMap((pooling) => {
      const a = logits(pooling, batch["in/ids_a"]), b = logits(pooling, batch["in/ids_b"]);
      const change = k.maxLast(k.abs(k.sub(a, b)));
      const first = (x: Tensor) => k.slice(x, 1, 0, 1);
      return [[`${pooling} change`, change], [`${pooling} a`, first(a)], [
        `${pooling} b`,
        first(b),
      ]] as const;
    });
    return { outputs: Object.fromEntries(outputs) };
  }, { state: {}, batch: specsOf(inputs) }) as Graph;
  using session = await machine.start(graph);
  const found = await session.run(valuesOf(inputs));
  // Recorded without a tolerance: that of the same model's logits, twice for their differences.
  const atol = 2 * 2.9e-5 * (machine.name === "webgpu" ? 10 : 1);
  const expected = (name: string) => c.tensors.get(`out/${name}`)!.values;
  const check = (name: string, recorded: string) =>
    checkClose(`${machine.name}: ${name}`, found[name], expected(recorded), atol, 0);
  check("sequence change", "max_abs_logit_change");
  check("sequence a", "logits_a_pos0");
  check("sequence b", "logits_b_pos0");
  Array.from(found["causal change"]).forEach((change, at) => {
    if (at % 16 === 15) assert.ok(change > 0.1, `${machine.name}: the last token's own logits`);
    else assert.equal(change, 0, `${machine.name}: causal, token ${at}`);
  });
};

/** The published recipe, for another number of steps. */
async function recipe(warmup: number, total: number) {
  const config = await loadConfig(pretrainConfig, `${root}configs/polyglu-0.6b.yaml`);
  const stretched = JSON.parse(
    JSON.stringify(config),
    (_, value) =>
      value === 2000
        ? warmup
        : value === 19532
        ? total + 1
        : value === 19531
        ? total
        : value === 15624
        ? Math.floor(0.8 * total)
        : value,
  ) as PretrainConfig;
  const block = "blocks" in stretched.model && stretched.model.blocks[0];
  if (!block || block.mlp.kind !== "polyglu") throw new Error("the recipe has no polyglu");
  return { config: stretched, tau: block.mlp.tau, clock: evenClock(total) };
}

export const scheduleCase: CheckCase = async (machine, { config: c, tensors }) => {
  if (machine.name !== "loops, f64") return; // nothing runs on a device
  const { config, tau, clock } = await recipe(c.warmup_steps as number, c.total_steps as number);
  const rate = config.optimizer as OptimizerConfig, at = scalarsOf(rate, clock);
  const peak = 1e-4, weights = config.data.sources!.map(({ weight }) => weight);
  const recorded = (name: string) => tensors.get(`sched/${name}`)!.values;
  const close = (what: string, found: number, expected: number) =>
    assert.ok(Math.abs(found - expected) < 1e-12, `${what}: ${found} is not ${expected}`);
  Array.from(recorded("step")).forEach((step, i) => {
    close(`rate of step ${step}`, at(step).learningRate / peak, recorded("lr_mult")[i]);
    // what is set after a step is used by the next
    close(`tau after step ${step}`, valueAt(tau as Schedule, step + 1, clock), recorded("tau")[i]);
    weights.forEach((weight, source) =>
      close(
        `weight ${source} of step ${step}`,
        valueAt(weight, step, clock),
        recorded("mix")[3 * i + source],
      )
    );
  });
  assert.equal(valueAt(tau as Schedule, 0, clock), 1);
};

/** State: parameters by path, moments; uploads: a step's ids and noise, tau, and the optimizer's scalars. */
function updateGraph(c: VectorCase, config: OptimizerConfig) {
  const plain = modelOf(c), params = namedParams(plain.params);
  const optimizer = bindOptimizer(config, params);
  const paramSpecs = Object.fromEntries(params.map(({ path, shape }) => [path, spec(shape)]));
  const noise = Object.fromEntries(
    [0, 1, 2].map((i) => [`noise.${i}`, spec(c.tensors.get(`step0/in/noise.${i}`)!.shape)]),
  );
  const [batch, length] = c.tensors.get("step0/in/ids")!.shape;
  const graph = trace((state, uploaded) => {
    const given = uploaded as unknown as Tensors;
    const { params: p, ...buffers } = state as unknown as Record<string, Tensors>;
    const model: Model = withNoise(
      plain,
      given.tau,
      [0, 1, 2].map((i) => given[`noise.${i}`]),
    );
    const { extra: sum, grads } = k.valueAndGrad((tree: Tensors) => {
      const nested = mapTree(plain.params, (_: Spec, path) => tree[path]);
      const { hidden } = model.apply(nested as never, {
        ids: given.inputs,
        positions: given.inputs,
      });
      const flat = k.reshape(hidden, [-1, plain.dims.hidden_size]);
      const targets = k.reshape(given.targets, [-1]);
      const { sum } = k.linearCrossEntropy(flat, tree["input.embedding"], targets);
      return [sum, sum];
    })(p);
    const all = leavesOf<Tensor>(grads).map(({ leaf }) => leaf);
    const count = batch * (length - 1);
    const { norm, gate } = k.globalNorm(all, k.fill([], count), k.fill([], 1));
    const next = optimizer.update({
      params: p,
      grads,
      buffers,
      hyper: given.hyper,
      gate,
    });
    return {
      state: { params: next.params, ...next.buffers },
      outputs: { loss: k.div(sum, count), grad_norm: norm },
    };
  }, {
    state: { params: paramSpecs, ...optimizer.buffers },
    batch: {
      inputs: spec([batch, length - 1], "i32"),
      targets: spec([batch, length - 1], "i32"),
      tau: spec([]),
      hyper: optimizer.hyper,
      ...noise,
    },
  } as never) as Graph;
  return { graph, optimizer, params };
}

export const optimizerCase: CheckCase = async (machine, c) => {
  const steps = [0, 1, 2, 3], total = c.config.total_steps as number;
  const { config: { optimizer: published }, tau, clock } = await recipe(
    c.config.warmup_steps as number,
    total,
  );
  const text = JSON.stringify(published).replaceAll("0.0001", String(c.config.peak_lr));
  const config = JSON.parse(text) as OptimizerConfig, at = scalarsOf(config, clock);
  const { graph, optimizer, params } = updateGraph(c, config);
  // Which parameters the original decays, and ours.
  const groups = c.config.groups as Record<string, string>, names = originalNames(modelOf(c));
  const originalName = (path: string) => names.get(path)!;
  for (const { params, weightDecay } of optimizer.summary) {
    for (const { path } of params) {
      const expected = groups[originalName(path)] === "decay" ? 0.1 : 0;
      assert.equal(weightDecay, expected, path);
    }
  }
  const first = Object.fromEntries(
    params.map(({ path }) => [
      `params.${path}`,
      c.tensors.get(`param/${originalName(path)}`)!.values,
    ]),
  );
  const empty = Object.fromEntries(
    Object.keys(optimizer.buffers).flatMap((name) =>
      params.map(({ path }) => [
        `${name}.${path}`,
        new Float32Array(first[`params.${path}`].length),
      ])
    ),
  );
  using session = await machine.start(graph, { ...first, ...empty });
  for (const step of steps) {
    const values = (name: string) => c.tensors.get(`step${step}/${name}`)!.values;
    const ids = Array.from(values("in/ids")), length = 17;
    const now = at(step), warmth = valueAt(tau as Schedule, step, clock);
    checkClose(`rate ${step}`, [now.learningRate], values("lr"), 1e-15, 1e-12);
    checkClose(`tau ${step}`, [warmth], values("tau"), 1e-12, 0);
    const found = await session.run({
      inputs: ids.filter((_, i) => i % length < length - 1),
      targets: ids.filter((_, i) => i % length > 0),
      tau: [warmth],
      hyper: now.hyper,
      ...Object.fromEntries([0, 1, 2].map((i) => [`noise.${i}`, values(`in/noise.${i}`)])),
    });
    const wider = machine.name === "webgpu" ? 10 : 1;
    const check = (name: string, found: ArrayLike<number>) => {
      const recorded = c.tensors.get(`step${step}/${name}`);
      if (!recorded) return;
      const { suggested_atol = 0 } = c.tolerance(`step${step}/${name}`);
      const what = `${machine.name}: step ${step}, ${name}`;
      checkClose(what, found, recorded.values, wider * suggested_atol, wider * 1e-5);
    };
    check("out/loss", found.loss);
    check("out/grad_norm", found.grad_norm);
    for (const { path } of params) {
      check(`param/${originalName(path)}`, await session.read(`params.${path}`));
    }
  }
};
