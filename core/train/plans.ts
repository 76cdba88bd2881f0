/** The plans of a training, made for a target before there is a device. */

import { OutOfMemoryError } from "../device/types.ts";
import type { Graph } from "../graph/mod.ts";
import type { Model } from "../model/mod.ts";
import type { Optimizer } from "../optim/mod.ts";
import { type NamedSpec, type Plan, PlanError, planGraph, type Target } from "../plan/mod.ts";
import {
  traceAccumulate,
  traceApply,
  traceLosses,
  traceUpdate,
  type UpdateOptions,
} from "./programs.ts";
import type { RowShape } from "./rows.ts";

/** What training is made from, apart from the data. */
export interface Training {
  readonly model: Model;
  readonly optimizer: Optimizer;
  readonly options: UpdateOptions;
  /** At least one, in their order. */
  readonly stages: readonly StageShape[];
  /** Rows that are measured at once, the same in all stages; of each length, as in `StageShape`. */
  readonly measured: readonly RowShape[];
}

/** What an update is made of while a stage lasts. */
export interface StageShape {
  /** Rows on the device at once: at least one shape, and where rows have several lengths one for each. */
  readonly shapes: readonly RowShape[];
  /** Parts of an update. */
  readonly accumulation: number;
  /** For messages; undefined where there is one stage only. */
  readonly name: string | undefined;
}

/** The plans of a training, by what they do: those of each stage, and `losses` for each shape that is measured. */
export interface TrainPlans<L = unknown> {
  readonly stages: readonly UpdatePlans<L>[];
  readonly losses: readonly Plan<L>[];
}

/**
 * With one part of one shape an update is one plan, `update`; else parts are done by the plan of their shape in `accumulate`, and
 * `update` ends it. Stages alike have the same plans.
 */
export interface UpdatePlans<L = unknown> {
  readonly update: Plan<L>;
  readonly accumulate: readonly Plan<L>[];
}

/** Throws a `PlanError` that names the stage, where one is larger than the target can hold. */
export function planTraining<L>(training: Training, target: Target<L>): TrainPlans<L> {
  const { model, measured } = training, made = new Map<string, UpdatePlans<L>>();
  const stages = training.stages.map((stage) => {
    const key = JSON.stringify([stage.shapes, stage.accumulation]);
    const plans = made.get(key) ?? naming(stage, () => planUpdate(training, stage, target));
    made.set(key, plans);
    return plans;
  });
  return { stages, losses: measured.map((shape) => planGraph(traceLosses(model, shape), target)) };
}

function planUpdate<L>(
  { model, optimizer, options }: Training,
  { shapes, accumulation }: StageShape,
  target: Target<L>,
): UpdatePlans<L> {
  const plan = (graph: Graph) => planGraph(graph, target), [shape] = shapes;
  if (accumulation === 1 && shapes.length === 1) {
    return { update: plan(traceUpdate(model, optimizer, shape, options)), accumulate: [] };
  }
  return {
    update: plan(traceApply(model, optimizer, shape, options)),
    accumulate: shapes.map((shape) => plan(traceAccumulate(model, optimizer, shape, options))),
  };
}

/** What `make` makes; that a stage is too large is said with its name. */
function naming<T>({ name }: StageShape, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw named(error, name);
  }
}

/** An error of too little memory that says in which stage; others as they are. */
export function named(error: unknown, stage: string | undefined): unknown {
  if (stage === undefined) return error;
  if (error instanceof PlanError) {
    return new PlanError(`${stage}: ${error.message}`, { cause: error });
  }
  if (error instanceof OutOfMemoryError) {
    return new OutOfMemoryError(`${stage}: ${error.message}`, { cause: error });
  }
  return error;
}

/** The plans of a stage and of measuring: what is on the device while the stage lasts. */
export function plansOf<L>({ stages, losses }: TrainPlans<L>, stage: number): Plan<L>[] {
  const { update, accumulate } = stages[stage];
  return [update, ...losses, ...accumulate];
}

/** The state that all stages of a training go through, and that of other plans, each entry once. */
export function stateOfAll(plans: TrainPlans, others: readonly Plan[] = []): NamedSpec[] {
  return stateOf([...plans.stages.flatMap((_, stage) => plansOf(plans, stage)), ...others]);
}

/** All state of the plans, each entry once. */
function stateOf(plans: readonly Plan[]): NamedSpec[] {
  const entries = plans.flatMap(({ state }) => state);
  return [...new Map(entries.map((entry) => [entry.name, entry])).values()];
}
