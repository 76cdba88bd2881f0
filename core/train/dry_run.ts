/** What a run will take, from plans alone: no device, no data, no memory. */

import { bytesOf, sizeOf } from "../graph/mod.ts";
import type { Schedule } from "../optim/mod.ts";
import {
  countAll,
  countByPart,
  namedParams,
  type PartCount,
  type RoleCount,
} from "../model/mod.ts";
import type { NamedSpec, Plan, Target } from "../plan/mod.ts";
import type { RunConfig } from "./config.ts";
import { type DiskUse, diskUse } from "./disk.ts";
import { trainingOf } from "./train.ts";
import { plansOf, planTraining, stateOfAll, type TrainPlans, type UpdatePlans } from "./plans.ts";
import { samplingPlans } from "./sampler.ts";
import { perUpdate, type Stage, timelineOf } from "./timeline.ts";

export interface DryRun {
  readonly params: number;
  readonly byPart: readonly PartCount[];
  /** What each optimizer trains, by role. */
  readonly groups: readonly (RoleCount & {
    readonly kind: string;
    readonly weightDecay: Schedule;
  })[];
  /** In their order, at least one. */
  readonly stages: readonly DryStage[];
  /** Of the whole run; Infinity where only time ends it. */
  readonly steps: number;
  readonly tokens: number;
  readonly flops: number;
  /** Bytes on the device while training, by what they hold, in the stage that needs the most. */
  readonly memory: readonly { readonly kind: string; readonly bytes: number }[];
  readonly totalBytes: number;
  readonly disk: DiskUse;
  /** What all this was found in. */
  readonly plans: TrainPlans;
}

/** A stage of a run. */
export interface DryStage extends Stage {
  /** Tokens of an update, padding included. */
  readonly tokensPerUpdate: number;
  readonly flopsPerToken: number;
  /** Kernels of an update. */
  readonly dispatches: number;
  /** Bytes on the device while it lasts. */
  readonly totalBytes: number;
}

export function dryRun(config: RunConfig, target: Target): DryRun {
  const training = trainingOf(config), params = namedParams(training.model.params);
  const plans = planTraining(training, target);
  const others = samplingPlans(config, training.model, target);
  const { stages: times, end, tokensAt } = timelineOf(config);
  const state = stateOfAll(plans, others);
  const memories = times.map((_, i) => memoryOf(state, [...plansOf(plans, i), ...others], target));
  const totals = memories.map((memory) => memory.reduce((sum, { bytes }) => sum + bytes, 0));
  const totalBytes = Math.max(...totals);
  const stages = times.map((stage, i) => dryStage(stage, plans.stages[i], totals[i]));
  const flops = stages.map(({ from, flopsPerToken }, i) => {
    const to = Math.max(from, Math.min(end, times[i + 1]?.from ?? end));
    return flopsPerToken * (tokensAt(to) - tokensAt(from));
  });
  return {
    params: countAll(params),
    byPart: countByPart(params),
    groups: training.optimizer.summary.map(({ kind, role, params, weightDecay }) => ({
      kind,
      role,
      tensors: params.length,
      total: params.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
      weightDecay,
    })),
    stages,
    steps: end,
    tokens: tokensAt(end),
    flops: flops.reduce((sum, some) => sum + some, 0),
    memory: memories[totals.indexOf(totalBytes)],
    totalBytes,
    disk: diskUse(config),
    plans,
  };
}

function dryStage(
  stage: Stage,
  { update, accumulate }: UpdatePlans,
  totalBytes: number,
): DryStage {
  const ofUpdate = (pick: keyof Plan["totals"]) =>
    update.totals[pick] + stage.accumulation * (accumulate.at(-1)?.totals[pick] ?? 0);
  const tokensPerUpdate = perUpdate(stage);
  return {
    ...stage,
    tokensPerUpdate,
    flopsPerToken: ofUpdate("flops") / tokensPerUpdate,
    dispatches: ofUpdate("dispatches"),
    totalBytes,
  };
}

const purposes: Readonly<Record<string, string>> = {
  params: "parameters",
  m: "first moments",
  v: "second moments",
  m1: "fast averages",
  m2: "slow averages",
  momentum: "momentum",
  ema: "average weights",
  swa: "average weights",
  grads: "gradient sums",
  model: "caches of samples",
};

function memoryOf(
  state: readonly NamedSpec[],
  plans: readonly Plan[],
  { alignment, slack }: Target,
): DryRun["memory"] {
  const sizes = new Map<string, number>();
  const count = (kind: string, bytes: number) => sizes.set(kind, (sizes.get(kind) ?? 0) + bytes);
  for (const entry of state) {
    const bytes = Math.ceil((bytesOf(entry) + slack) / alignment) * alignment;
    count(purposes[entry.name.split(".")[0]] ?? "scalars", bytes);
  }
  for (const { totals } of plans) {
    count("intermediate tensors", totals.arenaBytes);
    count("inputs and constants", totals.uploadBytes + totals.constantBytes);
  }
  return [...sizes].map(([kind, bytes]) => ({ kind, bytes }));
}
