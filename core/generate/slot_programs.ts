/**
 * The graphs of slots: a prompt is read in a row of its own, the staged one, and moves into the row of
 * the batch that is free. So reading it disturbs no other row, and costs what it has tokens.
 */

import { cacheWrite, reshape } from "../../kernels/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../graph/mod.ts";
import { type Model, type ModelState, type NewTokens, runSpecs } from "../model/mod.ts";
import type { TensorTree } from "../nn/mod.ts";
import type { Layout } from "./programs.ts";
import { storedParams, storedSpecs } from "./weights.ts";

type States = Readonly<Record<"model" | "staged", ModelState<TensorTree>>>;

function stagedSpec(model: Model, { capacity }: Layout) {
  return model.state({ batch: 1, capacity });
}

/** `length` tokens into the staged row, of which the first `lengths` are its own. */
export function traceStage(model: Model, layout: Layout, length: number): Graph {
  return trace((state, tokens) => {
    const { params, staged } = state as unknown as States & { params: unknown };
    const stored = storedParams(model, params, layout.weights);
    return { state: { staged: model.step(stored, tokens as NewTokens, staged).state } };
  }, {
    state: {
      params: storedSpecs(model, layout.weights),
      staged: stagedSpec(model, layout),
    } as unknown as Record<string, Spec>,
    batch: {
      ids: spec([1, length], "i32"),
      start: spec([1], "i32"),
      lengths: spec([1], "i32"),
      ...runSpecs(model, 1, "measuring"),
    },
  });
}

/** The staged row becomes row `slot` of the batch; no other is touched. */
export function traceAdopt(model: Model, layout: Layout): Graph {
  return trace((state, { slot }) => {
    const { model: rows, staged } = state as unknown as States;
    const from = new Map(leavesOf<Tensor>(staged).map(({ path, leaf }) => [path, leaf]));
    const adopted = mapTree(rows, (leaf: Tensor, path) => {
      const [batch] = leaf.shape, all = reshape(leaf, [1, batch, -1]);
      return reshape(cacheWrite(all, reshape(from.get(path)!, [1, 1, -1]), slot), leaf.shape);
    });
    return { state: { model: adopted } };
  }, {
    state: {
      model: model.state(layout),
      staged: stagedSpec(model, layout),
    } as unknown as Record<string, Spec>,
    batch: { slot: spec([1], "i32") },
  });
}
