/** The plans of a training, made for a target before there is a device. */

import type { Graph } from "../graph/mod.ts";
import type { Model } from "../model/mod.ts";
import type { Optimizer } from "../optim/mod.ts";
import { type NamedSpec, type Plan, planGraph, type Target } from "../plan/mod.ts";
import {
  type RowShape,
  traceAccumulate,
  traceApply,
  traceLosses,
  traceUpdate,
} from "./programs.ts";

/** What training is made from, apart from the data. */
export interface Training {
  readonly model: Model;
  readonly optimizer: Optimizer;
  /** Rows on the device at once. */
  readonly shape: RowShape;
  /** Parts of an update. */
  readonly accumulation: number;
}

/** The plans of a training, by what they do. With one part an update is one plan, `update`. */
export interface TrainPlans<L = unknown> {
  readonly update: Plan<L>;
  readonly accumulate: Plan<L> | undefined;
  readonly losses: Plan<L>;
}

export function planTraining<L>(
  { model, optimizer, shape, accumulation }: Training,
  target: Target<L>,
): TrainPlans<L> {
  const plan = (graph: Graph) => planGraph(graph, target);
  const losses = plan(traceLosses(model, shape));
  if (accumulation === 1) {
    return { update: plan(traceUpdate(model, optimizer, shape)), accumulate: undefined, losses };
  }
  return {
    update: plan(traceApply(model, optimizer)),
    accumulate: plan(traceAccumulate(model, shape)),
    losses,
  };
}

/** All state of the plans, each entry once. */
export function stateOf(plans: readonly Plan[]): NamedSpec[] {
  const entries = plans.flatMap(({ state }) => state);
  return [...new Map(entries.map((entry) => [entry.name, entry])).values()];
}
