/** The graphs of training: one update whole, or in parts; and measuring. Nothing here runs anything. */

import { add, globalNorm, mul, reshape, slice, valueAndGrad } from "../../kernels/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../graph/mod.ts";
import type { LabelledRows, Model, ModelTree } from "../model/mod.ts";
import type { TensorTree } from "../nn/mod.ts";
import type { ByPath, Optimizer } from "../optim/mod.ts";

/** What rows look like on the device. */
export interface RowShape {
  readonly rows: number;
  readonly length: number;
  /** Rows hold several documents. */
  readonly segments: boolean;
}

export function rowSpecs({ rows, length, segments }: RowShape): Record<string, Spec> {
  const tokens = spec([rows, length], "i32");
  return {
    ids: tokens,
    targets: tokens,
    positions: tokens,
    ...(segments ? { segment_ids: tokens } : {}),
  };
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

function trainStateSpecs(model: Model, optimizer: Optimizer) {
  return { params: paramSpecs(model), ...optimizer.buffers, healthy: spec([]) };
}

/** Scalars of an update; `count` is the number of targets that the gradients were summed over. */
interface UpdateScalars {
  readonly hyper: Tensor;
  readonly count: Tensor;
  readonly max_norm: Tensor;
}

const updateScalars = ({ hyper }: Optimizer) => ({ hyper, count: spec([]), max_norm: spec([]) });

/** Sums of losses, and gradients of that sum. */
function lossAndGrads(model: Model, params: Params, rows: LabelledRows) {
  const { extra, grads } = valueAndGrad((p: Params) => {
    const { objective, sum } = model.loss(p, rows);
    return [objective, sum];
  })(params);
  return { sum: extra, grads };
}

function update(
  model: Model,
  optimizer: Optimizer,
  { params, healthy, ...buffers }: TrainState & Record<string, unknown>,
  grads: unknown,
  { hyper, count, max_norm }: UpdateScalars,
) {
  const { norm, gate } = globalNorm(
    leavesOf<Tensor>(grads).map(({ leaf }) => leaf),
    count,
    max_norm,
  );
  const open = mul(gate, healthy);
  const next = optimizer.update({
    params: byPath(params),
    grads: byPath(grads),
    buffers: Object.fromEntries(
      Object.keys(optimizer.buffers).map((name) => [name, buffers[name] as ByPath<Tensor>]),
    ),
    hyper,
    gate: open,
  });
  const after = reshape(slice(open, 0, 1, 1), []);
  return {
    state: {
      params: mapTree(model.params, (_: Spec, path) => next.params[path]),
      ...next.buffers,
      healthy: after,
    },
    norm,
    healthy: after,
  };
}

function byPath(tree: unknown): ByPath<Tensor> {
  return Object.fromEntries(leavesOf<Tensor>(tree).map(({ path, leaf }) => [path, leaf]));
}

/** A whole update in one plan: outputs `loss_sum`, `norm` of the mean gradient before clipping, `healthy`. */
export function traceUpdate(model: Model, optimizer: Optimizer, shape: RowShape): Graph {
  return trace((state, batch) => {
    const { params, rows } = typed(state, batch);
    const { sum, grads } = lossAndGrads(model, params, rows);
    const next = update(model, optimizer, typedState(state), grads, batch as UpdateScalars);
    return {
      state: next.state,
      outputs: { loss_sum: sum, norm: next.norm, healthy: next.healthy },
    };
  }, {
    state: trainStateSpecs(model, optimizer) as Record<string, Spec>,
    batch: { rows: rowSpecs(shape), ...updateScalars(optimizer) },
  });
}

/** One part of an update: adds its loss and gradients to those of the parts before; `keep` 0 starts anew. */
export function traceAccumulate(model: Model, shape: RowShape): Graph {
  return trace((state, batch) => {
    const { params, rows } = typed(state, batch), keep = batch.keep;
    const { grads: sums, loss_sum } = state as unknown as { grads: unknown; loss_sum: Tensor };
    const { sum, grads } = lossAndGrads(model, params, rows);
    const fresh = leavesOf<Tensor>(grads);
    let next = 0;
    const total = (old: Tensor, more: Tensor) => add(mul(old, keep), more);
    return {
      state: {
        grads: mapTree(sums, (old: Tensor) => total(old, fresh[next++].leaf)),
        loss_sum: total(loss_sum, sum),
      },
    };
  }, {
    state: { params: paramSpecs(model), ...sumSpecs(model) } as Record<string, Spec>,
    batch: { rows: rowSpecs(shape), keep: spec([]) },
  });
}

function sumSpecs(model: Model) {
  return {
    grads: mapTree(model.params, ({ shape }: Spec) => spec(shape)),
    loss_sum: spec([]),
  };
}

/** The update that the parts add up to: outputs as of `traceUpdate`. */
export function traceApply(model: Model, optimizer: Optimizer): Graph {
  return trace((state, batch) => {
    const { grads, loss_sum } = state as unknown as { grads: unknown; loss_sum: Tensor };
    const next = update(model, optimizer, typedState(state), grads, batch);
    return {
      state: next.state,
      outputs: { loss_sum, norm: next.norm, healthy: next.healthy },
    };
  }, {
    state: { ...trainStateSpecs(model, optimizer), ...sumSpecs(model) } as Record<string, Spec>,
    batch: updateScalars(optimizer),
  });
}

/** Each token's loss, summed by the caller: no sum depends on how rows were grouped. Output `losses` [rows · length]. */
export function traceLosses(model: Model, shape: RowShape): Graph {
  return trace((state, batch) => {
    const { params, rows } = typed(state, batch);
    return { outputs: { losses: model.loss(params, rows).losses } };
  }, {
    state: { params: paramSpecs(model) } as unknown as Record<string, Spec>,
    batch: { rows: rowSpecs(shape) },
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
