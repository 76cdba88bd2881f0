/**
 * Whole training steps of tiny models, as graphs with values, for comparing the machines that run
 * them.
 */

import { cast, globalNorm, valueAndGrad } from "../../../kernels/mod.ts";
import {
  type Dtype,
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../../../core/graph/mod.ts";
import {
  initialValues,
  type LabelledRows,
  type Model,
  type ModelTree,
  namedParams,
  runValues,
  scalarValues,
} from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import {
  bindOptimizer,
  evenClock,
  type OptimizerConfig,
  scalarsOf,
} from "../../../core/optim/mod.ts";
import { toldRows } from "../../../core/train/rows.ts";
import type { Named } from "../../machines.ts";
import { wave } from "./tiny.ts";

export interface StepOptions {
  readonly rows: number;
  readonly length: number;
  /** What parameters are cast to before the model reads them; their masters stay f32. */
  readonly compute?: Dtype;
}

type Params = ModelTree<TensorTree>;

/**
 * One update that hands out all it knows: `loss`, `losses`, `norm`, and the gradient of each
 * parameter as `grad.<path>`.
 */
export function stepGraph(model: Model, config: OptimizerConfig, options: StepOptions): Graph {
  const { compute = "f32" } = options;
  const params = mapTree(model.params, ({ shape }: Spec) => spec(shape));
  const optimizer = bindOptimizer(config, namedParams(model.params));
  return trace((state: Record<string, unknown>, batch: Record<string, unknown>) => {
    const rows = batch.rows as LabelledRows;
    const loss = (masters: Params) => {
      const { sum, losses } = model.loss(
        mapTree(masters, (x: Tensor) => cast(x, compute as "f32" | "bf16")) as Params,
        rows,
      );
      return [sum, losses] as const;
    };
    const { value, extra, grads } = valueAndGrad(loss)(state.params as Params);
    const leaves = leavesOf<Tensor>(grads);
    const { norm, gate } = globalNorm(
      leaves.map(({ leaf }) => leaf),
      batch.count as Tensor,
      batch.max_norm as Tensor,
    );
    const byPath = (tree: unknown) =>
      Object.fromEntries(leavesOf<Tensor>(tree).map(({ path, leaf }) => [path, leaf]));
    const next = optimizer.update({
      params: byPath(state.params),
      grads: byPath(grads),
      buffers: state as never,
      hyper: batch.hyper as Tensor,
      gate,
    });
    return {
      state: {
        params: mapTree(model.params, (_: Spec, path) => next.params[path]),
        ...next.buffers,
      },
      outputs: {
        loss: value,
        losses: extra,
        norm,
        ...Object.fromEntries(leaves.map(({ path, leaf }) => [`grad.${path}`, leaf])),
      },
    };
  }, {
    state: { params, ...optimizer.buffers } as never,
    batch: {
      rows: toldRows(model, { ...options, segments: true }, "training"),
      count: spec([]),
      max_norm: spec([]),
      hyper: optimizer.hyper,
    } as never,
  });
}

/**
 * The loss and its gradients where nothing but the parameters is kept, stored as `dtype`: outputs
 * named as of `stepGraph`.
 */
export function gradientGraph(model: Model, options: StepOptions, dtype: Dtype): Graph {
  return trace((state: Record<string, unknown>, batch: Record<string, unknown>) => {
    const { value, extra, grads } = valueAndGrad((params: Params) => {
      const { sum, losses } = model.loss(params, batch.rows as LabelledRows);
      return [sum, losses] as const;
    })(state.params as Params);
    const found = leavesOf<Tensor>(grads).map(({ path, leaf }) => [`grad.${path}`, leaf]);
    return { outputs: { loss: value, losses: extra, ...Object.fromEntries(found) } };
  }, {
    state: { params: mapTree(model.params, ({ shape }: Spec) => spec(shape, dtype)) } as never,
    batch: { rows: toldRows(model, { ...options, segments: true }, "training") } as never,
  });
}

/** The logits of whole rows, and nothing more: output `logits` [rows, length, vocab]. */
export function logitsGraph(model: Model, options: StepOptions): Graph {
  return trace((state: Record<string, unknown>, batch: Record<string, unknown>) => {
    const params = state.params as Params;
    const { hidden } = model.apply(params, batch.rows as LabelledRows);
    return { outputs: { logits: model.logits(params, hidden) } };
  }, {
    state: { params: mapTree(model.params, ({ shape }: Spec) => spec(shape)) } as never,
    batch: { rows: toldRows(model, { ...options, segments: true }, "training") } as never,
  });
}

/** First state: weights that are large enough to matter everywhere, moments of 0. */
export function firstState(model: Model): Record<string, Float32Array> {
  const named = namedParams(model.params);
  return Object.fromEntries(named.flatMap((param, i) => {
    const first = initialValues(param, 7), none = new Float32Array(first.length);
    // Gains and biases start alike; here none equals another.
    const values = first.every((x) => x === first[0])
      ? wave(first.length, i).map((x) => first[0] + x / 3)
      : first.map((x) => 10 * x);
    return [
      [`params.${param.path}`, values],
      [`m.${param.path}`, none],
      [`v.${param.path}`, none],
    ];
  }));
}

/**
 * Rows of packed documents: segments of 3, 4, 5, … tokens, positions anew in each, some targets
 * ignored.
 */
export function packedRows({ rows, length }: StepOptions, vocab: number): Record<string, number[]> {
  const ids = Array.from({ length: rows * length }, (_, i) => (7 * i * i + 3 * i + 1) % vocab);
  const segments: number[] = [], positions: number[] = [];
  for (let row = 0, document = 1; row < rows; row++, document++) {
    for (let t = 0, left = 2 + document, at = 0; t < length; t++, left--, at++) {
      if (left === 0) [document, left, at] = [document + 1, 3 + document, 0];
      segments.push(document);
      positions.push(at);
    }
  }
  const targets = ids.map((_, i) =>
    segments[i] === segments[i + 1] && i % length < length - 1 ? ids[i + 1] : -100
  );
  return {
    "rows.ids": ids,
    "rows.targets": targets,
    "rows.positions": positions,
    "rows.segment_ids": segments,
  };
}

/** What rows bring in the first update besides their tokens: scheduled values, keys of random numbers. */
export function firstTold(model: Model, { rows }: Pick<StepOptions, "rows">): Named {
  const point = { scalars: scalarValues(model, evenClock(1), 0), seed: 7, step: 0 };
  return Object.fromEntries(
    Object.entries(runValues(model, point, "training", { rows }))
      .map(([name, values]) => [`rows.${name}`, values]),
  );
}

/** Scalars of the first update. */
export function firstScalars(config: OptimizerConfig, targets: readonly number[]): Named {
  const { hyper, maxNorm } = scalarsOf(config, evenClock(1))(0);
  return {
    count: [targets.filter((target) => target >= 0).length],
    max_norm: [maxNorm],
    hyper,
  };
}
