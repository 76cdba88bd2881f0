/** Which checkpoints of a run stay: the newest, and those with the lowest validation loss. */

import { join } from "node:path";
import { exists, writeFileAtomic } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import {
  checkpointName,
  checkpointsFolder,
  isCheckpoint,
  newestCheckpoint,
  readState,
  savedSteps,
} from "./checkpoint.ts";

export interface Keeping {
  /** The newest so many; 0 is all. */
  readonly keep: number;
  /** Besides them so many with the lowest validation loss. */
  readonly keep_best: number;
}

const bestFile = "best";

/**
 * Points `checkpoints/best` at the best checkpoint where such are kept, and removes those up to `step`, the one just saved,
 * that are neither new nor good. Everything is read from the folder, so that it is the same after any interruption.
 */
export async function keepCheckpoints(
  run: string,
  step: number,
  { keep, keep_best }: Keeping,
): Promise<void> {
  const folder = checkpointsFolder(run), pointer = join(folder, bestFile);
  // later ones are of a run that was taken back to an earlier step
  const saved = (await savedSteps(folder)).filter((one) => one <= step);
  const best = keep_best > 0 ? (await byLoss(folder, saved)).slice(0, keep_best) : [];
  if (best.length > 0) await writeFileAtomic(pointer, `${checkpointName(best[0])}\n`);
  else if (await exists(pointer)) await Deno.remove(pointer);
  if (keep === 0) return;
  const kept = new Set([...best, ...saved.slice(-keep)]);
  for (const old of saved.filter((one) => !kept.has(one))) {
    await Deno.remove(join(folder, checkpointName(old)), { recursive: true });
  }
}

/** The steps whose validation loss was measured, the lowest first; of equal ones the later. */
async function byLoss(folder: string, steps: readonly number[]): Promise<number[]> {
  const measured: { step: number; loss: number }[] = [];
  for (const step of steps) {
    const loss = await lossOf(join(folder, checkpointName(step)));
    if (loss !== undefined) measured.push({ step, loss });
  }
  measured.sort((a, b) => a.loss - b.loss || b.step - a.step);
  return measured.map(({ step }) => step);
}

/** An old checkpoint that somebody damaged is none of the best; the run goes on. */
async function lossOf(path: string): Promise<number | undefined> {
  try {
    return (await readState(path)).validation_loss;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** A checkpoint of a run by name: `latest`, `best`, or `step-N`. */
export async function namedCheckpoint(run: string, name: string): Promise<string> {
  const folder = checkpointsFolder(run);
  const steps = await exists(folder) ? await savedSteps(folder) : [];
  const there = steps.map(checkpointName);
  const fail = (message: string, hint?: string) =>
    new UserError(message, {
      where: run,
      hint: hint ?? (there.length > 0 ? `there are ${there.join(", ")}` : "it has none yet"),
      exitCode: exitCodes.failed,
    });
  if (name === "latest") {
    const newest = await newestCheckpoint(run);
    if (newest !== undefined) return newest;
    throw fail("it has no checkpoint");
  }
  const pointer = join(folder, bestFile);
  if (name === "best") {
    if (await exists(pointer)) return join(folder, (await Deno.readTextFile(pointer)).trim());
    throw fail(
      "it has no best checkpoint",
      "checkpoint.keep_best: 1 keeps the one with the lowest validation loss",
    );
  }
  const path = join(folder, name);
  if (/^step-\d+$/.test(name) && await isCheckpoint(path)) return path;
  throw fail(`it has no checkpoint ${name}`);
}
