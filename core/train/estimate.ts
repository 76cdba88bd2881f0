/** How long a run will take on a device that is here, without running it. */

import { createHash } from "node:crypto";
import type { Device } from "../device/types.ts";
import { type PlanTimes, timePlans } from "../inspect/mod.ts";
import { significant } from "../io/words.ts";
import { averagesToMeasure, planAverages, type Span } from "../optim/mod.ts";
import type { RunConfig } from "./config.ts";
import { diskUse } from "./disk.ts";
import { planTraining, type Training, type TrainPlans } from "./plans.ts";
import { trainingOf } from "./train.ts";
import type { RowShape } from "./rows.ts";
import { perUpdate, timelineOf } from "./timeline.ts";

/** Seconds, and what they come to. */
export interface TimeEstimate {
  /** On average over the stages. */
  readonly update: number;
  readonly tokensPerSecond: number;
  /** All updates. */
  readonly updates: number;
  /** All measurements; undefined where the held-out tokens are not known. */
  readonly validation: number | undefined;
  /** All checkpoints. */
  readonly saving: number;
  /** The whole run, no longer than `max_minutes`. */
  readonly run: number;
  /** The part of the update's time whose kernels were timed. */
  readonly timedShare: number;
  /** Why little may be made of all this; undefined where the machine could be timed well. */
  readonly doubt: string | undefined;
}

/** What is known of a run. */
export interface EstimateOptions {
  /** Tokens that each source holds out. */
  readonly heldOut?: readonly number[] | undefined;
  /** As from `dryRun`: planning takes a while. */
  readonly plans?: TrainPlans;
}

/** Times the kernels of a run. Undefined where they cannot be timed: the machine is too busy. */
export async function estimateTime(
  config: RunConfig,
  device: Device,
  { heldOut, plans }: EstimateOptions = {},
): Promise<TimeEstimate | undefined> {
  const { max_minutes } = config, { end, stages, tokensAt } = timelineOf(config);
  const training = trainingOf(config);
  const all = plans ?? planTraining(training, device.target);
  const times = await timeTraining(training, device, all);
  if (!times) return undefined;
  const rest = [...times.seconds], measure = rest.splice(0, all.losses.length).at(-1)!;
  let updates = 0;
  const seconds = stages.map(({ accumulation, from }, i) => {
    const apply = rest.shift()!;
    // of several lengths the longest: what an update takes at most
    const part = rest.splice(0, all.stages[i].accumulate.length).at(-1) ?? 0;
    const steps = Math.max(0, Math.min(end, stages[i + 1]?.from ?? end) - from);
    updates += steps * (apply + accumulation * part);
    return apply + accumulation * part;
  });
  const batches = heldOut && heldOutBatches(config, training.measured, heldOut);
  const { validations, saves } = timesOf(config);
  const validation = batches === undefined ? undefined : validations * batches * measure;
  const saving = saves * diskUse(config).checkpointBytes / savedBytesPerSecond();
  const limit = max_minutes > 0 ? 60 * max_minutes : Infinity;
  // where only time ends the run its updates take all of that
  const spent = end === Infinity ? limit : updates, whole = spent + (validation ?? 0) + saving;
  const isEven = stages.length === 1 || end === Infinity; // else an average
  return {
    update: isEven ? seconds[0] : updates / end,
    tokensPerSecond: isEven ? perUpdate(stages[0]) / seconds[0] : tokensAt(end) / updates,
    updates: spent,
    validation,
    saving,
    run: Math.min(whole, limit),
    timedShare: times.timedShare,
    doubt: doubtOf(times),
  };
}

function doubtOf({ timedShare, spread }: PlanTimes): string | undefined {
  if (timedShare < 0.75) {
    return `${Math.round(100 * timedShare)} % of it could be timed, the rest follows from that`;
  }
  return spread > 1.5
    ? `the machine is busy, a kernel's timings are ${significant(spread)} times apart`
    : undefined;
}

/** Of `losses`, then of each stage's `update` and `accumulate`. */
async function timeTraining(training: Training, device: Device, plans: TrainPlans) {
  const inOrder = ({ losses, stages }: TrainPlans) => [
    ...losses,
    ...stages.flatMap(({ update, accumulate }) => [update, ...accumulate]),
  ];
  const isLeast = training.stages.every(({ shapes }) => shapes.every(({ rows }) => rows === 1));
  // too large to be timed: a row alone has smaller kernels
  const single = (shapes: readonly RowShape[]) => shapes.map((shape) => ({ ...shape, rows: 1 }));
  const smaller = () =>
    inOrder(planTraining({
      ...training,
      stages: training.stages.map((stage) => ({ ...stage, shapes: single(stage.shapes) })),
      measured: single(training.measured),
    }, device.target));
  return await timePlans(device, inOrder(plans), isLeast ? {} : { smaller });
}

/** Batches of one measurement. */
function heldOutBatches(
  { validation: { max_tokens } }: RunConfig,
  shapes: readonly RowShape[],
  heldOut: readonly number[],
): number {
  const { rows, length } = shapes.at(-1)!;
  const most = max_tokens || Infinity, tokens = rows * length;
  return heldOut.reduce((sum, held) => sum + Math.ceil(Math.min(most, held) / tokens), 0);
}

/**
 * How often a run measures, every so often, at the end with each average, and with `keep_best` before each save; and saves: after
 * its first `from` updates. Of a run that only time ends the end alone is known.
 */
export function timesOf(config: RunConfig, from = 0) {
  const { validation, checkpoint: { every, keep_best }, averages, optimizer } = config;
  const timeline = timelineOf(config), { end, timesBy } = timeline;
  if (end === Infinity) return { validations: averages.ema ? 2 : 1, saves: 1 };
  const { snapshots } = planAverages(averages, optimizer, timeline);
  const last = 1 + averagesToMeasure(averages, snapshots(end)).length;
  const times = (span: Span) => Math.max(0, timesBy(end - 1, span) - timesBy(from, span));
  const isTime = (step: number, span: Span) => timesBy(step, span) > timesBy(step - 1, span);
  let extra = 0;
  for (let step = from + 1; keep_best > 0 && step < end; step++) {
    if (isTime(step, every) && !isTime(step, validation.every)) extra++;
  }
  return { validations: times(validation.every) + extra + last, saves: times(every) + 1 };
}

/** Written and read again, both assumed, and hashed in between, which is measured. */
function savedBytesPerSecond(): number {
  const bytes = new Uint8Array(2 ** 22);
  const times = [1, 2, 3].map(() => {
    const began = performance.now();
    createHash("sha256").update(bytes).digest();
    return performance.now() - began;
  });
  const hashed = Math.min(...times) / 1000 / bytes.length;
  return 1 / (hashed + 1 / writtenPerSecond + 1 / readPerSecond);
}

/** Of an ordinary solid-state disk; what was just written is read from memory. */
const writtenPerSecond = 5e8, readPerSecond = 2e9;
