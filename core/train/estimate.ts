/** How long a run will take on a device that is here, without running it. */

import { createHash } from "node:crypto";
import type { Device } from "../device/types.ts";
import { timePlans } from "../inspect/mod.ts";
import { type BatchSizes, microRows, type ResolvedConfig } from "./config.ts";
import { diskUse } from "./disk.ts";
import { planTraining } from "./plans.ts";
import { trainingOf } from "./pretrain.ts";

/** Seconds, and what they come to. */
export interface TimeEstimate {
  readonly update: number;
  /** Padding included. */
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
  const { accumulation, batch_size, sequence_length, steps, max_minutes } = config;
  const times = await timeTraining(config, device);
  if (!times) return undefined;
  const [apply, measure, part = 0] = times.seconds, seconds = apply + accumulation * part;
  const updates = steps * seconds;
  const batches = heldOut && heldOutBatches(config, heldOut);
  const { validations, saves } = timesOf(config);
  const validation = batches === undefined ? undefined : validations * batches * measure;
  const saving = saves * diskUse(config).checkpointBytes / savedBytesPerSecond();
  const whole = updates + (validation ?? 0) + saving;
  return {
    update: seconds,
    tokensPerSecond: batch_size * sequence_length / seconds,
    updates,
    validation,
    saving,
    run: max_minutes > 0 ? Math.min(whole, 60 * max_minutes) : whole,
    timedShare: times.timedShare,
  };
}

/** Of the plans `update`, `losses` and, if there is one, `accumulate`. */
async function timeTraining(config: ResolvedConfig, device: Device) {
  const plansAt = (sizes: Partial<BatchSizes>) => {
    const training = trainingOf({ ...config, ...sizes });
    const { update, accumulate, losses } = planTraining(training, device.target);
    return [update, losses, ...(accumulate ? [accumulate] : [])];
  };
  const plans = plansAt({}), times = await timePlans(device, plans);
  if (microRows(config) === 1 || (times && times.timedShare > 0.5)) return times;
  // too large to be timed: a row alone has smaller kernels
  return await timePlans(device, plans, { smaller: plansAt({ batch_size: config.accumulation }) });
}

/** Batches of one measurement. */
function heldOutBatches(config: ResolvedConfig, heldOut: readonly number[]): number {
  const { sequence_length, validation: { max_tokens } } = config;
  const most = max_tokens || Infinity, tokens = microRows(config) * sequence_length;
  return heldOut.reduce((sum, held) => sum + Math.ceil(Math.min(most, held) / tokens), 0);
}

/** How often a run measures, every so many steps, at the end, and with `keep_best` before each save; and saves. */
export function timesOf({ steps, validation, checkpoint: { every, keep_best } }: ResolvedConfig) {
  const multiples = (every: number) => every > 0 ? Math.floor((steps - 1) / every) : 0;
  const both = validation.every > 0 && every > 0 ? multiples(lcm(every, validation.every)) : 0;
  const extra = keep_best > 0 ? multiples(every) - both : 0;
  return { validations: multiples(validation.every) + extra + 1, saves: multiples(every) + 1 };
}

const lcm = (a: number, b: number) => a * b / gcd(a, b);
const gcd = (a: number, b: number): number => b === 0 ? a : gcd(b, a % b);

/** Written and read again, both assumed, and hashed in between, which is measured. */
function savedBytesPerSecond(): number {
  const bytes = new Uint8Array(2 ** 22), began = performance.now();
  createHash("sha256").update(bytes).digest();
  const hashed = (performance.now() - began) / 1000 / bytes.length;
  return 1 / (hashed + 1 / writtenPerSecond + 1 / readPerSecond);
}

/** Of an ordinary solid-state disk; what was just written is read from memory. */
const writtenPerSecond = 5e8, readPerSecond = 2e9;
