/** The graphs of training: one update whole, or in parts; and measuring. Nothing here runs anything. */

import { add, element, globalNorm, mul, valueAndGrad } from "../../kernels/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../graph/mod.ts";
import {
  type LabelledRows,
  type LossOptions,
  type Model,
  type ModelTree,
  namedParams,
} from "../model/mod.ts";
import type { TensorTree } from "../nn/mod.ts";
import {
  type AverageKind,
  type AveragesConfig,
  averageSpecs,
  type ByPath,
  moveAverages,
  type Optimizer,
} from "../optim/mod.ts";
import { type RowShape, toldRows } from "./rows.ts";

/** What an update may do besides. */
export interface UpdateOptions {
  /** Of the loss that is trained; what is measured is plain. */
  readonly loss?: LossOptions;
  /** Averages of the weights that are kept. */
  readonly averages?: AveragesConfig;
}

/** Parameters as they are stored: f32 masters. */
function paramSpecs(model: Model): unknown {
  return mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype }));
}

type Params = ModelTree<TensorTree>;

/**
 * What an update reads and replaces, besides the optimizer's buffers, which stand beside them by name. `healthy` turns
 * 0 at the first gradient that is not finite, and then nothing changes any more.
 */
interface TrainState {
  readonly params: Params;
  readonly healthy: Tensor;
}

function trainStateSpecs(model: Model, optimizer: Optimizer, { averages = {} }: UpdateOptions) {
  return {
    params: paramSpecs(model),
    ...optimizer.buffers,
    ...averageSpecs(averages, namedParams(model.params)),
    healthy: spec([]),
  };
}

/** Scalars of an update; `count` is the number of targets that the gradients were summed over. */
interface UpdateScalars {
  readonly hyper: Tensor;
  readonly count: Tensor;
  readonly max_norm: Tensor;
  /** As `AverageWeights`, where averages are kept. */
  readonly averages?: Tensor;
}

const updateScalars = ({ hyper }: Optimizer, { averages = {} }: UpdateOptions) => ({
  hyper,
  count: spec([]),
  max_norm: spec([]),
  ...(Object.keys(averages).length > 0 && { averages: spec([2]) }),
});

/** Sums of losses and of what parts watch, and gradients of what is trained. */
function lossAndGrads(model: Model, params: Params, rows: LabelledRows, options?: LossOptions) {
  const { extra, grads } = valueAndGrad((p: Params) => {
    const { objective, sum, metrics } = model.loss(p, rows, options);
    return [objective, { sum, metrics }];
  })(params);
  return { ...extra, grads };
}

function update(
  model: Model,
  optimizer: Optimizer,
  { params, healthy, ...buffers }: TrainState & Record<string, unknown>,
  grads: ByPath<Tensor>,
  { hyper, count, max_norm, averages: weights }: UpdateScalars,
  { averages = {} }: UpdateOptions,
) {
  const trained = optimizer.trained(grads, hyper);
  const { norm, gate } = globalNorm(Object.values(trained), count, max_norm);
  const open = mul(gate, healthy);
  const next = optimizer.update({
    params: byPath(params),
    grads,
    buffers: Object.fromEntries(
      Object.keys(optimizer.buffers).map((name) => [name, buffers[name] as ByPath<Tensor>]),
    ),
    hyper,
    gate: open,
  });
  const after = element(open, 1);
  const before = Object.fromEntries(
    Object.keys(averageSpecs(averages, [])).map((kind) => [kind, buffers[kind] as ByPath<Tensor>]),
  );
  return {
    state: {
      params: mapTree(model.params, (_: Spec, path) => next.params[path]),
      ...next.buffers,
      ...(weights && moveAverages(before, next.params, mul(weights, after))),
      healthy: after,
    },
    norm,
    healthy: after,
  };
}

function byPath(tree: unknown): ByPath<Tensor> {
  return Object.fromEntries(leavesOf<Tensor>(tree).map(({ path, leaf }) => [path, leaf]));
}

/**
 * A whole update in one plan: outputs `loss_sum`, `norm` of the mean gradient before clipping, `healthy`, and the sums
 * `metrics.…` of what parts watch.
 */
export function traceUpdate(
  model: Model,
  optimizer: Optimizer,
  shape: RowShape,
  options: UpdateOptions = {},
): Graph {
  return trace((state, batch) => {
    const { params, rows } = typed(state, batch);
    const { sum, metrics, grads } = lossAndGrads(model, params, rows, options.loss);
    const scalars = batch as unknown as UpdateScalars;
    const next = update(model, optimizer, typedState(state), byPath(grads), scalars, options);
    return {
      state: next.state,
      outputs: {
        loss_sum: sum,
        norm: next.norm,
        healthy: next.healthy,
        ...prefixed(metrics),
      },
    };
  }, {
    state: trainStateSpecs(model, optimizer, options) as Record<string, Spec>,
    batch: {
      rows: toldRows(model, shape, "training"),
      ...updateScalars(optimizer, options) as Record<string, Spec>,
    },
  });
}

const metricsPrefix = "metrics.";

function prefixed(metrics: ByPath<Tensor>): ByPath<Tensor> {
  return Object.fromEntries(
    Object.entries(metrics).map(([name, sum]) => [metricsPrefix + name, sum]),
  );
}

/** The sums of what parts watch among an update's outputs, by name. */
export function metricsIn<T>(outputs: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(
    Object.entries(outputs).filter(([name]) => name.startsWith(metricsPrefix))
      .map(([name, sum]) => [name.slice(metricsPrefix.length), sum]),
  );
}

/** One part of an update: adds its loss and gradients to those of the parts before; `keep` 0 starts anew. */
export function traceAccumulate(
  model: Model,
  optimizer: Optimizer,
  shape: RowShape,
  { loss }: UpdateOptions = {},
): Graph {
  const watched = metricSpecs(model, shape);
  return trace((state, batch) => {
    const { params, rows } = typed(state, batch), keep = batch.keep;
    const { grads: sums, loss_sum, metrics: watchedSums } = state as unknown as Sums;
    const { sum, metrics, grads } = lossAndGrads(model, params, rows, loss);
    const fresh = byPath(grads);
    const total = (old: Tensor, more: Tensor) => add(mul(old, keep), more);
    return {
      state: {
        grads: Object.fromEntries(
          Object.entries(sums).map(([path, old]) => [path, total(old, fresh[path])]),
        ),
        loss_sum: total(loss_sum, sum),
        metrics: Object.fromEntries(
          Object.entries(watchedSums).map(([name, old]) => [name, total(old, metrics[name])]),
        ),
      },
    };
  }, {
    state: {
      params: paramSpecs(model),
      ...sumSpecs(optimizer, watched),
    } as unknown as Record<string, Spec>,
    batch: { rows: toldRows(model, shape, "training"), keep: spec([]) },
  });
}

/** What the parts of an update add up to. */
interface Sums {
  readonly grads: ByPath<Tensor>;
  readonly loss_sum: Tensor;
  readonly metrics: ByPath<Tensor>;
}

function sumSpecs({ params }: Optimizer, metrics: ByPath<Spec>) {
  return {
    grads: Object.fromEntries(params.map(({ path, shape }) => [path, spec(shape)])),
    loss_sum: spec([]),
    metrics,
  };
}

/** What parts watch, from a look at a forward pass. */
function metricSpecs(model: Model, shape: RowShape): ByPath<Spec> {
  const { outputs } = trace((state, batch) => {
    const { params, rows } = typed(state, batch);
    return { outputs: model.loss(params, rows).metrics };
  }, {
    state: { params: paramSpecs(model) } as unknown as Record<string, Spec>,
    batch: { rows: toldRows(model, shape, "training") },
  });
  return Object.fromEntries(outputs.map(({ name, value }) => [name, spec(value.shape)]));
}

/** The update that the parts, of rows of this shape, add up to: outputs as of `traceUpdate`. */
export function traceApply(
  model: Model,
  optimizer: Optimizer,
  shape: RowShape,
  options: UpdateOptions = {},
): Graph {
  return trace((state, batch) => {
    const { grads, loss_sum, metrics } = state as unknown as Sums;
    const scalars = batch as unknown as UpdateScalars;
    const next = update(model, optimizer, typedState(state), grads, scalars, options);
    return {
      state: next.state,
      outputs: { loss_sum, norm: next.norm, healthy: next.healthy, ...prefixed(metrics) },
    };
  }, {
    state: {
      ...trainStateSpecs(model, optimizer, options),
      ...sumSpecs(optimizer, metricSpecs(model, shape)),
    } as unknown as Record<string, Spec>,
    batch: updateScalars(optimizer, options) as Record<string, Spec>,
  });
}

/**
 * Each token's loss, summed by the caller: no sum depends on how rows were grouped. Output `losses` [rows · length]. The
 * weights are the trained ones, or an average of them.
 */
export function traceLosses(
  model: Model,
  shape: RowShape,
  weights: "params" | AverageKind = "params",
): Graph {
  return trace((state, batch) => {
    const params = (state as unknown as Record<string, Params>)[weights];
    const { rows } = batch as unknown as { rows: LabelledRows };
    return { outputs: { losses: model.loss(params, rows).losses } };
  }, {
    state: { [weights]: paramSpecs(model) } as unknown as Record<string, Spec>,
    batch: { rows: toldRows(model, shape, "measuring") },
  });
}

// Trees of parameters are as deep as the model; their types are the model's own, bound here once.
function typed(state: unknown, batch: unknown): { params: Params; rows: LabelledRows } {
  const { params } = state as { params: Params }, { rows } = batch as { rows: LabelledRows };
  return { params, rows };
}

function typedState(state: unknown): TrainState & Record<string, unknown> {
  return state as TrainState & Record<string, unknown>;
}
