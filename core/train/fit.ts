/** Sizes of an update that fit a device, found by planning others: nothing is allocated. */

import { OutOfMemoryError } from "../device/types.ts";
import { exitCodes, messageOf, UserError } from "../io/errors.ts";
import { formatBytes } from "../io/words.ts";
import { PlanError, type Target } from "../plan/mod.ts";
import {
  type BatchSizes,
  type GivenSizes,
  type Memory,
  microRows,
  type RunConfig,
} from "./config.ts";
import { dryRun } from "./dry_run.ts";
import { timelineOf } from "./timeline.ts";

/** An error of too large a run with sizes that fit as its hint; any other error as it is. */
export function withFittingSizes(error: unknown, config: RunConfig, target: Target): unknown {
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

/** What a run may take of a device that has `bytes`: plans are exact within 5 %. The cpu device has one slab. */
export function roomOf({ kind, slabBytes }: Target, bytes = Number.MAX_VALUE): number {
  return 0.95 * (kind === "cpu" ? Math.min(bytes, slabBytes) : bytes);
}

/** The refusal of a run that takes `needs` bytes, with sizes that fit. */
export function tooLarge(
  needs: number,
  { bytes, source }: Memory,
  config: RunConfig,
  target: Target,
): UserError {
  const room = roomOf(target, bytes);
  const savings = [
    ...(config.precision === "bf16" ? [] : ["precision=bf16"]),
    ...(config.model.remat ? [] : ["model.remat=true"]),
  ];
  const more = savings.length === 0
    ? ""
    : `; ${savings.join(" and ")} ${savings.length > 1 ? "need" : "needs"} less, too`;
  return new UserError(
    `the run needs ${formatBytes(needs)}, and ${formatBytes(room)} may be used of ` +
      `${formatBytes(bytes)}, ${source}`,
    { hint: sizeAdvice(config, target, room) + more, exitCode: exitCodes.outOfMemory },
  );
}

/** What decides the sizes that a config leaves open. */
export interface Fitting<R extends RunConfig = RunConfig> {
  /** The config with sizes filled in. */
  resolve(sizes: BatchSizes): R;
  readonly target: Target;
  /** Bytes that the run may take, as from `roomOf`; finite. */
  readonly room: number;
  /** No update has more: the rows of the training data. */
  readonly mostRows: number;
}

/** The config with its `auto` sizes filled in. Throws where not even one row fits. */
export function fitSizes<R extends RunConfig>(
  { batch_size, accumulation }: GivenSizes,
  fitting: Fitting<R>,
): R {
  const { resolve: at, target, room } = fitting;
  const bytes = (sizes: BatchSizes) => bytesAt(at(sizes), target) ?? Infinity;
  if (batch_size === "auto" && accumulation !== "auto") {
    const most = Math.max(1, Math.floor(fitting.mostRows / accumulation));
    const sizesOf = (rows: number) => ({ batch_size: rows * accumulation, accumulation });
    const rows = mostRows((rows) => bytes(sizesOf(rows)), room, most);
    if (rows > 0) return at(sizesOf(rows));
  }
  if (accumulation === "auto" && batch_size !== "auto") {
    const parts = divisorsOf(batch_size);
    const found = fewest(
      parts.length,
      (i) => bytes({ batch_size, accumulation: parts[i] }) <= room,
    );
    if (found < parts.length) return at({ batch_size, accumulation: parts[found] });
  }
  if (batch_size !== "auto" && accumulation !== "auto") return at({ batch_size, accumulation });
  throw new UserError(`not even one row fits`, {
    where: batch_size === "auto" ? "batch_size" : "accumulation",
    hint: noRow,
    exitCode: exitCodes.outOfMemory,
  });
}

/** So many rows are never asked for where the data are not known. */
export const anyRows = 2 ** 20;

const noRow = "use a smaller sequence_length or model, or another device";

/**
 * What to change for a run to take at most `budget` bytes: "use batch_size 24 or less, or accumulation 4". After so many
 * `seconds` of planning others it is what was found to fit until then.
 */
export function sizeAdvice(
  config: RunConfig,
  target: Target,
  budget: number,
  seconds = 10,
): string {
  const { stages } = timelineOf(config), until = performance.now() + 1000 * seconds;
  if (stages.length === 1) return plainAdvice(config, target, { budget, until });
  // of several stages the one that needs the most is the one to change
  const alone = stages.map((sizes) => {
    const at = { ...config, ...sizes, stages: [] };
    return { at, from: sizes.from, bytes: bytesAt(at, target) ?? Infinity };
  });
  const { at, from } = alone.reduce((most, other) => other.bytes > most.bytes ? other : most);
  return `in the stage from step ${from}, ${plainAdvice(at, target, { budget, until })}`;
}

function plainAdvice(
  config: RunConfig,
  target: Target,
  { budget, until }: { budget: number; until: number },
): string {
  const fits = (changes: Partial<BatchSizes>) =>
    (bytesAt({ ...config, ...changes }, target) ?? Infinity) <= budget;
  const isOver = () => performance.now() > until;
  const { batch_size, accumulation } = config;
  const bigger = microRows(config),
    fitsRows = (rows: number) => fits({ batch_size: rows * accumulation });
  if (bigger === 1 || !fitsRows(1)) return `not even one row fits: ${noRow}`;
  const rows = bigger - 1 -
    fewest(bigger - 2, (fewer) => !isOver() && fitsRows(bigger - 1 - fewer));
  const smaller = `use batch_size ${rows * accumulation} or less`;
  const divisors = divisorsOf(batch_size).filter((n) => batch_size / n <= rows);
  const parts = divisors.find((n) => !isOver() && fits({ accumulation: n }));
  return parts === undefined ? smaller : `${smaller}, or accumulation ${parts}`;
}

function divisorsOf(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((part) => n % part === 0);
}

/** The first of 0, 1, …, `end` − 1 that fits, where all after a fitting one fit, too; `end` if none does. */
function fewest(end: number, fits: (i: number) => boolean): number {
  let low = 0, high = end;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** 1, 2, 4, 8, then multiples of 8. */
const rowsOf = (place: number) => place < 3 ? 2 ** place : 8 * (place - 2);
const placeOf = (rows: number) => rows < 8 ? Math.floor(Math.log2(rows)) : 2 + Math.floor(rows / 8);

/**
 * The most rows of those that `rowsOf` lists, `most` at most, whose bytes fit; 0 if none do. Bytes grow almost
 * linearly with rows, so the next guess is where the line through two known points meets the budget.
 */
function mostRows(bytesAt: (rows: number) => number, budget: number, most: number): number {
  let low = 0, high = placeOf(most) + 1; // low fits, high does not or is not allowed
  let last = { rows: 1, bytes: bytesAt(1) }, aim = 3;
  if (last.bytes > budget) return 0;
  for (let tries = 0; high - low > 1; tries++) {
    const place = Math.min(high - 1, Math.max(low + 1, aim)), rows = rowsOf(place);
    const bytes = bytesAt(rows);
    if (bytes <= budget) low = place;
    else high = place;
    const perRow = (bytes - last.bytes) / (rows - last.rows);
    if (Number.isFinite(bytes)) last = { rows, bytes };
    // a refused plan has no bytes; and few tries are enough where the line is one
    aim = Number.isFinite(bytes) && perRow > 0 && tries < 8
      ? placeOf(Math.max(1, rows + (budget - bytes) / perRow))
      : Math.floor((low + high) / 2);
  }
  return rowsOf(low);
}

/** Bytes of a run; undefined where the target refuses its plan. */
function bytesAt(config: RunConfig, target: Target): number | undefined {
  try {
    return dryRun(config, target).totalBytes;
  } catch {
    return undefined;
  }
}
