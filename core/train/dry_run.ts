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
import type { Plan, Target } from "../plan/mod.ts";
import type { ResolvedConfig } from "./config.ts";
import { type DiskUse, diskUse } from "./disk.ts";
import { trainingOf } from "./pretrain.ts";
import { samplingPlans } from "./sampler.ts";
import { planTraining, stateOf } from "./plans.ts";

export interface DryRun {
  readonly params: number;
  readonly byPart: readonly PartCount[];
  /** What each optimizer trains, by role. */
  readonly groups: readonly (RoleCount & {
    readonly kind: string;
    readonly weightDecay: Schedule;
  })[];
  /** Tokens of an update, padding included. */
  readonly tokensPerUpdate: number;
  readonly flopsPerToken: number;
  /** Kernels of an update. */
  readonly dispatches: number;
  /** Bytes on the device while training, by what they hold. */
  readonly memory: readonly { readonly kind: string; readonly bytes: number }[];
  readonly totalBytes: number;
  readonly disk: DiskUse;
}

export function dryRun(config: ResolvedConfig, target: Target): DryRun {
  const training = trainingOf(config), params = namedParams(training.model.params);
  const plans = planTraining(training, target);
  const all = [
    plans.update,
    plans.losses,
    ...(plans.accumulate ? [plans.accumulate] : []),
    ...samplingPlans(config, training.model, target),
  ];
  const { accumulation, batch_size, sequence_length } = config;
  const ofUpdate = (pick: keyof Plan["totals"]) =>
    plans.update.totals[pick] + accumulation * (plans.accumulate?.totals[pick] ?? 0);
  const tokensPerUpdate = batch_size * sequence_length;
  const memory = memoryOf(all, target);
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
    tokensPerUpdate,
    flopsPerToken: ofUpdate("flops") / tokensPerUpdate,
    dispatches: ofUpdate("dispatches"),
    memory,
    totalBytes: memory.reduce((sum, { bytes }) => sum + bytes, 0),
    disk: diskUse(config),
  };
}

const purposes: Readonly<Record<string, string>> = {
  params: "parameters",
  m: "first moments",
  v: "second moments",
  m1: "fast averages",
  m2: "slow averages",
  momentum: "momentum",
  grads: "gradient sums",
  model: "caches of samples",
};

function memoryOf(plans: readonly Plan[], { alignment, slack }: Target): DryRun["memory"] {
  const sizes = new Map<string, number>();
  const count = (kind: string, bytes: number) => sizes.set(kind, (sizes.get(kind) ?? 0) + bytes);
  for (const entry of stateOf(plans)) {
    const bytes = Math.ceil((bytesOf(entry) + slack) / alignment) * alignment;
    count(purposes[entry.name.split(".")[0]] ?? "scalars", bytes);
  }
  for (const { totals } of plans) {
    count("intermediate tensors", totals.arenaBytes);
    count("inputs and constants", totals.uploadBytes + totals.constantBytes);
  }
  return [...sizes].map(([kind, bytes]) => ({ kind, bytes }));
}
