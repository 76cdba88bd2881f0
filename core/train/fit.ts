/** Sizes of an update that fit a device, found by planning smaller ones: nothing is allocated. */

import { OutOfMemoryError } from "../device/types.ts";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { PlanError, type Target } from "../plan/mod.ts";
import { microRows, type ResolvedConfig } from "./config.ts";
import { dryRun } from "./dry_run.ts";

/** An error of too large a run with sizes that fit as its hint; any other error as it is. */
export function withFittingSizes(error: unknown, config: ResolvedConfig, target: Target): unknown {
  const isMemory = error instanceof OutOfMemoryError;
  if (!isMemory && !(error instanceof PlanError)) return error;
  const advice = (budget: number) => sizeAdvice(config, target, budget);
  return new UserError(messageOf(error), {
    hint: isMemory && target.kind === "webgpu"
      ? `for half of the memory: ${advice((bytesAt(config, target) ?? 0) / 2)}`
      : advice(roomOf(target)),
    exitCode: exitCodes.outOfMemory,
    cause: error,
  });
}

/** What a run may take of a device; of a GPU's memory nothing is known. */
export function roomOf({ kind, slabBytes }: Target): number {
  return kind === "cpu" ? 0.95 * slabBytes : Number.MAX_VALUE; // plans are exact within 5 %
}

/** What to change for a run to take at most `budget` bytes: "use batch_size 24 or less, or accumulation 4". */
export function sizeAdvice(config: ResolvedConfig, target: Target, budget: number): string {
  const fits = (changes: Partial<ResolvedConfig>) =>
    (bytesAt({ ...config, ...changes }, target) ?? Infinity) <= budget;
  const { batch_size, accumulation } = config;
  const rows = largest(
    microRows(config) - 1,
    (rows) => fits({ batch_size: rows * accumulation }),
  );
  if (rows === 0) {
    return "not even one row fits: use a smaller sequence_length or model, or another device";
  }
  const divisors = Array.from({ length: batch_size }, (_, i) => i + 1).filter((n) =>
    batch_size % n === 0 && batch_size / n <= rows
  );
  const parts = divisors.find((n) => fits({ accumulation: n }));
  const smaller = `use batch_size ${rows * accumulation} or less`;
  return parts === undefined ? smaller : `${smaller}, or accumulation ${parts}`;
}

/** The largest number up to `most` that `fits`, where all below a fitting one fit, too; 0 if none does. */
function largest(most: number, fits: (n: number) => boolean): number {
  let low = 0, high = most;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Bytes of a run; undefined where the target refuses its plan. */
function bytesAt(config: ResolvedConfig, target: Target): number | undefined {
  try {
    return dryRun(config, target).totalBytes;
  } catch {
    return undefined;
  }
}
