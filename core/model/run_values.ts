/** What changes over a run, as a model's rows bring it: scheduled values and keys of random numbers. */

import { type Spec, spec } from "../graph/mod.ts";
import { type Clock, valueAt } from "../optim/mod.ts";
import type { Model } from "./model.ts";

/** What rows are run for: parts may draw random numbers in training alone. */
export type RunUse = "training" | "measuring";

type Told = Pick<Model, "scalars" | "noise">;

function draws({ noise }: Told, use: RunUse): boolean {
  return noise === "always" || (noise === "training" && use === "training");
}

/** What so many rows bring besides their tokens; of most models nothing. */
export function runSpecs(model: Told, rows: number, use: RunUse): Record<string, Spec> {
  return {
    ...(model.scalars.length > 0 && { scalars: spec([model.scalars.length]) }),
    ...(draws(model, use) && { noise: spec([rows, 3], "u32") }),
  };
}

/** Where a run stands. */
export interface RunPoint {
  /** The model's scheduled values, in its order: see `scalarValues`. */
  readonly scalars: Float32Array;
  /** Random numbers depend on it, on the step and on the row, and on nothing else. */
  readonly seed: number;
  /** Updates done. */
  readonly step: number;
}

/** The values of `runSpecs`; `firstRow` of the rows is counted over the update that they belong to. */
export function runValues(
  model: Told,
  { scalars, seed, step }: RunPoint,
  use: RunUse,
  { rows, firstRow = 0 }: { rows: number; firstRow?: number },
): Record<string, Float32Array | Uint32Array> {
  const keys = () =>
    Uint32Array.from(
      { length: 3 * rows },
      (_, i) => [seed, step, firstRow + Math.floor(i / 3)][i % 3],
    );
  return {
    ...(model.scalars.length > 0 && { scalars }),
    ...(draws(model, use) && { noise: keys() }),
  };
}

/** The model's scheduled values for update `step`, counted from 0. */
export function scalarValues({ scalars }: Told, clock: Clock, step: number): Float32Array {
  return Float32Array.from(scalars, ({ schedule }) => valueAt(schedule, step, clock));
}
