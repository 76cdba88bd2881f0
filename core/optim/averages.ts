/** Averages of the weights over a run, kept beside those that are trained. */

import { z } from "zod";
import { add, element, mul, sub } from "../../kernels/mod.ts";
import type { Spec, Tensor } from "../graph/mod.ts";
import { learningRates, type OptimizerConfig } from "./optimizer.ts";
import type { OptimizerParam } from "./record.ts";
import { curveOf, type Schedule } from "./schedule.ts";
import type { Clock } from "./span.ts";

/** Averages that a run may keep. */
export const averageKinds = ["ema", "swa"] as const;
export type AverageKind = typeof averageKinds[number];

export const averagesConfig = z.strictObject({
  /** Exponential: so much of the average stays at each update, from the first weights on. */
  ema: z.strictObject({ decay: z.number().min(0).lt(1) }).optional(),
  /** The mean of snapshots, as the learning rate ends (Izmailov et al. 2018). */
  swa: z.strictObject({
    /** Updates between snapshots. */
    every: z.int().positive(),
    /** Snapshots are taken where the learning rate is less than this part of its peak. */
    below: z.number().positive().max(1).default(0.2),
  }).optional(),
});
export type AveragesConfig = z.output<typeof averagesConfig>;

/** How far an update moves each average towards the weights, in the order of `averageKinds`. */
export type AverageWeights = readonly [ema: number, swa: number];

/** What is known of a run's averages before it begins. */
export interface AveragePlan {
  /** Of update `step`, counted from 0. */
  weightsAt(step: number): AverageWeights;
  /** Snapshots in the mean after so many updates. */
  snapshots(updates: number): number;
}

export function planAverages(
  { ema, swa }: AveragesConfig,
  optimizer: OptimizerConfig,
  clock: Clock,
): AveragePlan {
  const { schedule } = learningRates(optimizer)[0];
  const rate = curveOf(schedule, clock), peak = peakOf(schedule);
  const isSnapshot = (step: number) =>
    swa !== undefined && (step + 1) % swa.every === 0 && rate(step) < swa.below * peak;
  const snapshots = (updates: number) => {
    if (!swa) return 0;
    let count = 0;
    for (let step = swa.every - 1; step < updates; step += swa.every) count += +isSnapshot(step);
    return count;
  };
  return {
    weightsAt: (step) => [
      ema ? 1 - ema.decay : 0,
      isSnapshot(step) ? 1 / snapshots(step + 1) : 0,
    ],
    snapshots,
  };
}

function peakOf(schedule: Schedule): number {
  if (typeof schedule === "number") return schedule;
  return schedule.kind === "points"
    ? Math.max(...schedule.points.map(([, value]) => value))
    : schedule.peak;
}

type ByPath<T> = Readonly<Record<string, T>>;

/** The averages as a part of the state: by kind, then by the parameter's path. */
export function averageSpecs(
  config: AveragesConfig,
  params: readonly OptimizerParam[],
): Readonly<Record<string, ByPath<Spec>>> {
  const specs = Object.fromEntries(
    params.map(({ path, shape }): [string, Spec] => [path, { shape, dtype: "f32" }]),
  );
  return Object.fromEntries(
    averageKinds.filter((kind) => config[kind]).map((kind) => [kind, specs]),
  );
}

/** average + w · (weights − average) for each kind that is kept; `weights` f32 [2] as `AverageWeights`. */
export function moveAverages(
  averages: Readonly<Record<string, ByPath<Tensor>>>,
  params: ByPath<Tensor>,
  weights: Tensor,
): Readonly<Record<string, ByPath<Tensor>>> {
  return Object.fromEntries(
    Object.entries(averages).map(([kind, of]) => {
      const weight = element(weights, averageKinds.indexOf(kind as AverageKind));
      const moved = Object.entries(of).map(([path, average]) =>
        [path, add(average, mul(weight, sub(params[path], average)))] as const
      );
      return [kind, Object.fromEntries(moved)];
    }),
  );
}

/** Each average that says something of a run at its end, the one that stands for it last. */
export function averagesToMeasure(config: AveragesConfig, snapshots: number): AverageKind[] {
  const kinds = averageKinds.filter((kind) => config[kind] && (kind !== "swa" || snapshots > 0));
  const last = averageToUse(config, snapshots);
  return [...kinds.filter((kind) => kind !== last), ...last ? [last] : []];
}

/** The average that stands for a run at its end: the mean of two snapshots or more, else the exponential one. */
export function averageToUse(config: AveragesConfig, snapshots: number): AverageKind | undefined {
  if (config.swa && snapshots >= 2) return "swa";
  return config.ema ? "ema" : config.swa && snapshots > 0 ? "swa" : undefined;
}
