/** Finding the first tensor that is not finite: a forward and backward pass with a check behind every value. */

import { abs, gradients, mul, sumAll } from "../../kernels/mod.ts";
import {
  type Graph,
  isFloat,
  leavesOf,
  mapTree,
  nodesOf,
  type Spec,
  type Tensor,
  trace,
} from "../graph/mod.ts";
import type { LabelledRows, Model, ModelTree } from "../model/mod.ts";
import type { TensorTree } from "../nn/mod.ts";
import type { UpdateOptions } from "./programs.ts";
import { type RowShape, toldRows } from "./rows.ts";

/** A graph whose outputs are not finite where the tensors of the same place in `names` are not. */
export interface Probe {
  readonly graph: Graph;
  readonly names: readonly string[];
}

// Scaled down first: the sum of finite numbers then stays finite.
const check = (x: Tensor) => sumAll(mul(abs(x), 1e-30));

/** Parameters first, then values in the order of the forward pass, then gradients. */
export function traceProbe(
  model: Model,
  shape: RowShape,
  { loss }: UpdateOptions = {},
): Probe {
  const names: string[] = [], checks: Record<string, Tensor> = {};
  const watch = (name: string, x: Tensor) => {
    if (!isFloat(x.dtype)) return;
    checks[`check_${names.length}`] = check(x);
    names.push(name);
  };
  const graph = trace((state, batch) => {
    const { params } = state as unknown as { params: ModelTree<TensorTree> };
    const { rows } = batch as unknown as { rows: LabelledRows };
    const leaves = leavesOf<Tensor>(params);
    for (const { path, leaf } of leaves) watch(`parameter ${path}`, leaf);
    const { objective: sum } = model.loss(params, rows, loss);
    for (const { op, path, outputs } of nodesOf([sum])) {
      if (op.placeholder || op.constant) continue;
      for (const out of outputs) watch(`${op.name}${path ? ` at ${path}` : ""}`, out);
    }
    gradients(sum, leaves.map(({ leaf }) => leaf)).forEach((gradient, i) =>
      watch(`gradient of ${leaves[i].path}`, gradient)
    );
    return { outputs: checks };
  }, {
    state: {
      params: mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype })),
    } as unknown as Record<string, Spec>,
    batch: { rows: toldRows(model, shape, "training") },
  });
  return { graph, names };
}
