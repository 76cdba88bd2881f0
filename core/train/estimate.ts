/** How long a run will take on a device that is here, without running it. */

import { createHash } from "node:crypto";
import type { Device } from "../device/types.ts";
import { timePlans } from "../inspect/mod.ts";
import type { Span } from "../optim/mod.ts";
import type { ResolvedConfig } from "./config.ts";
import { diskUse } from "./disk.ts";
import { planTraining, type Training } from "./plans.ts";
import { trainingOf } from "./pretrain.ts";
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
}

/** Times the kernels of a run. `heldOut`: tokens that each source holds out. Undefined where none can be timed. */
export async function estimateTime(
  config: ResolvedConfig,
  device: Device,
  heldOut: readonly number[] | undefined,
): Promise<TimeEstimate | undefined> {
  const { max_minutes } = config, { end, stages, tokensAt } = timelineOf(config);
  const training = trainingOf(config), times = await timeTraining(training, device);
  if (!times) return undefined;
  const [measure, ...rest] = times.seconds;
  let updates = 0;
  const seconds = stages.map(({ accumulation, from }, i) => {
    const apply = rest.shift()!, part = accumulation > 1 ? rest.shift()! : 0;
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
  };
}

/** Of `losses`, then of each stage's `update` and, if there is one, `accumulate`. */
async function timeTraining(training: Training, device: Device) {
  const plansFor = (training: Training) => {
    const { stages, losses } = planTraining(training, device.target);
    return [
      losses,
      ...stages.flatMap(({ update, accumulate }) => accumulate ? [update, accumulate] : [update]),
    ];
  };
  const times = await timePlans(device, plansFor(training));
  const isLeast = training.stages.every(({ shape }) => shape.rows === 1);
  if (isLeast || (times && times.timedShare > 0.5)) return times;
  // too large to be timed: a row alone has smaller kernels
  const single = (shape: RowShape) => ({ ...shape, rows: 1 });
  const smaller = plansFor({
    ...training,
    stages: training.stages.map((stage) => ({ ...stage, shape: single(stage.shape) })),
    measured: single(training.measured),
  });
  return await timePlans(device, plansFor(training), { smaller });
}

/** Batches of one measurement. */
function heldOutBatches(
  { validation: { max_tokens } }: ResolvedConfig,
  { rows, length }: RowShape,
  heldOut: readonly number[],
): number {
  const most = max_tokens || Infinity, tokens = rows * length;
  return heldOut.reduce((sum, held) => sum + Math.ceil(Math.min(most, held) / tokens), 0);
}

/**
 * How often a run measures, every so often, at the end, and with `keep_best` before each save; and saves. Of a run that only
 * time ends the end alone is known.
 */
export function timesOf(config: ResolvedConfig) {
  const { validation, checkpoint: { every, keep_best } } = config;
  const { end, timesBy } = timelineOf(config);
  if (end === Infinity) return { validations: 1, saves: 1 };
  const times = (span: Span) => timesBy(end - 1, span);
  const isTime = (step: number, span: Span) => timesBy(step, span) > timesBy(step - 1, span);
  let extra = 0;
  for (let step = 1; keep_best > 0 && step < end; step++) {
    if (isTime(step, every) && !isTime(step, validation.every)) extra++;
  }
  return { validations: times(validation.every) + extra + 1, saves: times(every) + 1 };
}

/** Written and read again, both assumed, and hashed in between, which is measured. */
function savedBytesPerSecond(): number {
  const bytes = new Uint8Array(2 ** 22), began = performance.now();
  createHash("sha256").update(bytes).digest();
  const hashed = (performance.now() - began) / 1000 / bytes.length;
  return 1 / (hashed + 1 / writtenPerSecond + 1 / readPerSecond);
}

/** Of an ordinary solid-state disk; what was just written is read from memory. */
const writtenPerSecond = 5e8, readPerSecond = 2e9;
