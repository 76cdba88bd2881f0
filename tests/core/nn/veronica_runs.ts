/** Cases of the Veronica vectors that are more than one graph: updates, schedules, a branch more. */

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
import { grownValues, namedParams } from "../../../core/model/mod.ts";
import { branchConfig, mlpConfig, type PolymorphicConfig } from "../../../core/nn/mod.ts";
import {
  bindOptimizer,
  evenClock,
  optimizerConfig,
  scalarsOf,
  type Schedule,
  valueAt,
} from "../../../core/optim/mod.ts";
import { pretrainConfig } from "../../../core/train/mod.ts";
import { root } from "../../support.ts";
import type { CheckCase } from "../../vector_tests.ts";
import { checkClose, type Tensors, type VectorCase } from "../../vectors.ts";
import {
  applyForced,
  modelOf,
  partParams,
  polymorphicConfig,
  valuesOf,
  withForcedLayers,
} from "./veronica_network.ts";

/** The published recipe. */
export async function recipe() {
  const config = await loadConfig(pretrainConfig, `${root}configs/veronica-24l.yaml`);
  const block = "blocks" in config.model && config.model.blocks[0];
  if (!block || block.mlp.kind !== "polymorphic") throw new Error("the recipe has no router");
  return { config, mlp: block.mlp };
}

/** A schedule whose numbers of steps are others. */
function stretched<S>(schedule: S, steps: Readonly<Record<number, number>>): S {
  return JSON.parse(
    JSON.stringify(schedule),
    (_, value) => typeof value === "number" ? steps[value] ?? value : value,
  );
}

export const scheduleCase: CheckCase = async (machine, { config: c, tensors }) => {
  if (machine.name !== "loops, f64") return; // nothing runs on a device
  const { config, mlp } = await recipe(), clock = evenClock(c.max_steps as number);
  const recorded = (name: string) => Array.from(tensors.get(`sched/${name}`)!.values);
  const rates = scalarsOf(config.optimizer, clock);
  const found: Readonly<Record<string, (step: number) => number>> = {
    lr: (step) => rates(step).learningRate,
    tau: (step) => valueAt(mlp.tau, step, clock),
    aux_weight: (step) => valueAt(mlp.aux_weight, step, clock),
    force_prob: (step) => valueAt(mlp.forcing!.probability, step, clock),
  };
  for (const [name, at] of Object.entries(found)) {
    checkClose(name, recorded("step").map(at), recorded(name), 1e-15, 1e-12);
  }
  checkClose("depth", [Math.sqrt(24 / 12)], recorded("depth_scale_12_to_24"), 0, 1e-15);
};

/** State: parameters by path, moments; uploads: a step's ids and choices, scheduled values, the optimizer's scalars. */
function updateGraph(c: VectorCase, optimizer: ReturnType<typeof bindOptimizer>) {
  const plain = modelOf(c), params = namedParams(plain.params);
  const [batch, length] = c.tensors.get("step0/in/ids")!.shape, row = [batch, length - 1];
  const layers = c.config.n_layer as number, label_smoothing = c.config.label_smoothing as number;
  return trace((state, uploaded) => {
    const given = uploaded as unknown as Tensors;
    const { params: p, ...buffers } = state as unknown as Record<string, Tensors>;
    const forced = Array.from(
      { length: layers },
      (_, i) => k.reshape(k.slice(given.force, 0, i, 1), row),
    );
    const model = withForcedLayers(plain, { tau: given.tau, auxWeight: given.aux_weight, forced });
    const { extra: sum, grads } = k.valueAndGrad((tree: Tensors) => {
      const nested = mapTree(plain.params, (_: Spec, path) => tree[path]);
      const rows = { ids: given.inputs, positions: given.inputs };
      const { hidden, aux } = model.apply(nested as never, rows);
      const { sum } = k.linearCrossEntropy(
        k.reshape(hidden, [-1, plain.dims.hidden_size]),
        tree["head.weight"],
        k.reshape(given.targets, [-1]),
        undefined,
        { label_smoothing },
      );
      const total = k.add(sum, k.sumAll(aux.router_entropy));
      return [total, total];
    })(p);
    const all = leavesOf<Tensor>(grads).map(({ leaf }) => leaf), count = batch * (length - 1);
    const { norm, gate } = k.globalNorm(all, k.fill([], count), k.fill([], 1));
    const next = optimizer.update({ params: p, grads, buffers, hyper: given.hyper, gate });
    return {
      state: { params: next.params, ...next.buffers },
      outputs: { total: k.div(sum, count), grad_norm: norm },
    };
  }, {
    state: {
      params: Object.fromEntries(params.map(({ path, shape }) => [path, spec(shape)])),
      ...optimizer.buffers,
    },
    batch: {
      inputs: spec(row, "i32"),
      targets: spec(row, "i32"),
      force: spec([layers, ...row], "i32"),
      tau: spec([]),
      aux_weight: spec([]),
      hyper: optimizer.hyper,
    },
  } as never) as Graph;
}

export const optimizerCase: CheckCase = async (machine, c) => {
  const { lr, warm, total, freeze, start } = c.config.opt as Record<string, number>;
  const { config: published, mlp } = await recipe(), clock = evenClock(total);
  const tau = stretched(mlp.tau, { 6000: freeze }), steps = [0, 1, 2];
  const groups = "groups" in published.optimizer ? published.optimizer.groups : [];
  const rate = stretched(groups[0].learning_rate as object, { 1.2e-4: lr });
  const at = (schedule: Schedule, step: number) => valueAt(schedule, start + step, clock);
  const rates = steps.map((step) => at({ ...rate, warmup: warm } as Schedule, step));
  // The moments begin where the case does, but the schedules have begun before.
  const config = optimizerConfig.parse({
    ...published.optimizer,
    groups: groups.map((group) => ({
      ...group,
      learning_rate: {
        kind: "points",
        points: rates.map((rate, step) => [step, rate]),
        interpolate: "hold",
      },
    })),
  });
  const model = modelOf(c),
    params = namedParams(model.params),
    optimizer = bindOptimizer(config, params);
  for (const { params, weightDecay } of optimizer.summary) {
    for (const { path, shape } of params) {
      assert.equal(weightDecay, shape.length > 1 ? c.config.weight_decay : 0, path);
    }
  }
  const read = (prefix: string) => (name: string) => c.tensors.get(`${prefix}param/${name}`)!;
  const first = Object.fromEntries(
    valuesOf(model, read("")).map(({ path, values }) => [`params.${path}`, values]),
  );
  const empty = Object.fromEntries(
    Object.keys(optimizer.buffers).flatMap((name) =>
      params.map(({ path }) => [
        `${name}.${path}`,
        new Float32Array(first[`params.${path}`].length),
      ])
    ),
  );
  using session = await machine.start(updateGraph(c, optimizer), { ...first, ...empty });
  const hypers = scalarsOf(config, evenClock(steps.length));
  for (const step of steps) {
    const values = (name: string) => c.tensors.get(`step${step}/${name}`)!.values;
    const ids = Array.from(values("in/ids")), length = 17;
    checkClose(`rate ${step}`, [rates[step]], values("lr"), 1e-15, 1e-12);
    checkClose(`tau ${step}`, [at(tau, step)], values("tau"), 1e-12, 0);
    const aux = at(mlp.aux_weight, step);
    checkClose(`aux ${step}`, [aux], values("aux_weight"), 1e-15, 1e-12);
    const found = await session.run({
      inputs: ids.filter((_, i) => i % length < length - 1),
      targets: ids.filter((_, i) => i % length > 0),
      force: values("in/force"),
      tau: [at(tau, step)],
      aux_weight: [aux],
      hyper: hypers(step).hyper,
    });
    const wider = machine.name === "webgpu" ? 10 : 1;
    const check = (name: string, found: ArrayLike<number>, expected: ArrayLike<number>) => {
      const { suggested_atol = 0 } = c.tolerance(`step${step}/${name}`);
      const what = `${machine.name}: step ${step}, ${name}`;
      checkClose(what, found, expected, wider * suggested_atol, wider * 1e-5);
    };
    for (const name of ["total", "grad_norm"]) {
      check(`out/${name}`, found[name], values(`out/${name}`));
    }
    if (!c.tensors.has(`step${step}/param/wte.weight`)) continue;
    for (const { path, theirs, values: expected } of valuesOf(model, read(`step${step}/`))) {
      check(`param/${theirs}`, await session.read(`params.${path}`), expected);
    }
  }
};

export const expansionCase: CheckCase = async (machine, c) => {
  const { new_router_bias, tau } = c.config as Record<string, number>;
  const before = mlpConfig.parse(polymorphicConfig(48, 16)) as PolymorphicConfig;
  const after: PolymorphicConfig = {
    ...before,
    branches: [...before.branches, branchConfig.parse({ kind: "swiglu", intermediate_size: 48 })],
  };
  const given = [...c.tensors].filter(([name]) => /^(in|param_after)\//.test(name));
  const specs = given.map(([name, { shape }]) => [name.replace(/^.*\//, ""), spec(shape)] as const);
  const graph = trace((_: Tensors, inputs: Tensors) => {
    const rowsBefore = (name: string) => k.slice(inputs[name], 0, 0, 3);
    const old = {
      ...inputs,
      ...Object.fromEntries(
        ["router.2.weight", "router.2.bias"].map((name) => [name, rowsBefore(name)]),
      ),
    };
    const settings = { tau, auxWeight: 0, forced: undefined };
    const run = (config: PolymorphicConfig, inputs: Tensors) =>
      applyForced(
        config,
        partParams(config, inputs),
        inputs.x,
        settings,
      );
    const grown = run(after, inputs);
    return {
      outputs: {
        y_before: run(before, old).out,
        y_after: grown.out,
        alpha_after: grown.metrics!["router.alpha"],
      },
    };
  }, { state: {}, batch: Object.fromEntries(specs) }) as Graph;
  using session = await machine.start(graph);
  const found = await session.run(
    Object.fromEntries(given.map(([name, { values }]) => [name.replace(/^.*\//, ""), values])),
  );
  // Recorded without tolerances: those of the same mlp with three branches.
  const wider = machine.name === "webgpu" ? 10 : 1;
  for (const [name, atol] of [["y_before", 4.1e-5], ["y_after", 4.1e-5], ["alpha_after", 1.6e-6]]) {
    const { values } = c.tensors.get(`out/${name}`)!;
    checkClose(`${machine.name}: ${name}`, found[name], values, wider * Number(atol), wider * 1e-5);
  }
  // What growing makes of the three branches' router is what the four have.
  for (const what of ["weight", "bias"]) {
    const { shape, values } = c.tensors.get(`param_after/router.2.${what}`)!;
    const path = `layers.0.mlp.router.out${what === "bias" ? "_bias" : ""}`;
    const old = Float32Array.from(values).slice(0, 3 * values.length / 4);
    const param = { path, shape, dtype: "f32", role: "router" } as const;
    const init = { kind: "constant", value: NaN } as const; // no first value is asked for
    const growth = { seed: 0, routerBias: new_router_bias };
    assert.deepEqual([...grownValues({ ...param, init }, old, growth)], Array.from(values));
  }
};
