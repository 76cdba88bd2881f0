/** What an optimizer is: one record of config, what it keeps, and its update. */

import type { z } from "zod";
import type { Tensor } from "../graph/mod.ts";
import type { ParamDescription } from "../nn/mod.ts";
import type { Schedule } from "./schedule.ts";
import type { Clock } from "./span.ts";

/** A parameter as optimizers know it. */
export type OptimizerParam =
  & Pick<ParamDescription, "shape" | "role">
  & { readonly path: string };

/** The scalars of one update, as the kernels read them; the first is the learning rate. */
export type Words = Float64Array<ArrayBuffer>;

/** A schedule and its place in the optimizer's config. */
export interface PlacedSchedule {
  readonly path: readonly (string | number)[];
  readonly schedule: Schedule;
}

/** What an update reads of one parameter. */
export interface ParamUpdate {
  readonly param: Tensor;
  /** Of the sum of losses: the gate's first word makes it the clipped mean. */
  readonly grad: Tensor;
  /** By name, each of the parameter's shape. */
  readonly buffers: Readonly<Record<string, Tensor>>;
  /** The group's words. */
  readonly hyper: Tensor;
  /** (scale, finite) [2], as from `globalNorm`. Where the second is 0 nothing may change. */
  readonly gate: Tensor;
}

export interface OptimizerRecord<C extends z.ZodObject = z.ZodObject> {
  readonly config: C;
  /** What is kept of each parameter besides itself, in f32. */
  readonly buffers: readonly string[];
  /** Why it cannot train a parameter; undefined if it can. */
  refuses?(param: OptimizerParam): string | undefined;
  schedules(config: z.output<C>): readonly PlacedSchedule[];
  /** How many words an update has. */
  readonly words: number;
  /** The words of update `step`, counted from 0. */
  wordsAt(config: z.output<C>, clock: Clock): (step: number) => Words;
  /** The weight decay of a parameter's role, for people. */
  decayOf(config: z.output<C>, role: OptimizerParam["role"]): Schedule;
  update(
    config: z.output<C>,
    param: OptimizerParam,
    given: ParamUpdate,
  ): { readonly param: Tensor; readonly buffers: Readonly<Record<string, Tensor>> };
}

export function defineOptimizer<C extends z.ZodObject>(
  record: OptimizerRecord<C>,
): OptimizerRecord<C> {
  return record;
}
