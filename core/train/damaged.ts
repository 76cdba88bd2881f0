/** Going on from an older checkpoint where the newest is damaged. What is damaged stays, under another name. */

import { basename, dirname, join } from "node:path";
import { exists, writeFileAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import {
  type Checkpoint,
  checkpointName,
  latestFile,
  openCheckpoint,
  savedSteps,
} from "./checkpoint.ts";

/** A checkpoint that is whole, and what was found of those after it. */
export interface WholeCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly damaged: readonly DamagedCheckpoint[];
}

export interface DamagedCheckpoint {
  readonly path: string;
  /** What is wrong with it. */
  readonly message: string;
  /** Where it is now; undefined where nothing was left of it. */
  readonly keptAs: string | undefined;
}

/** Opens a checkpoint of a run, or the newest before it that is whole. Throws what is wrong with the first if there is none. */
export async function openWhole(path: string): Promise<WholeCheckpoint> {
  const folder = dirname(path), newest = Number(basename(path).replace("step-", ""));
  const older = (await savedSteps(folder)).filter((step) => step < newest).reverse();
  const faults = new Map<string, UserError>();
  for (const at of [path, ...older.map((step) => join(folder, checkpointName(step)))]) {
    const found = await openCheckpoint(at).catch((error: unknown) => error);
    if (isDamage(found)) faults.set(at, found);
    else if (found instanceof Error) throw found;
    else return { checkpoint: found as Checkpoint, damaged: await putAside(faults, at) };
  }
  throw faults.get(path)!;
}

/** Not what the system refuses to read for now, and not what a newer version of quern wrote. */
function isDamage(found: unknown): found is UserError {
  if (!(found instanceof UserError)) return false;
  const { cause } = found;
  return cause === undefined || cause instanceof Deno.errors.NotFound ||
    cause instanceof SyntaxError;
}

/** Renames checkpoints that are damaged, once the run's pointer names the one that is whole. */
async function putAside(
  faults: ReadonlyMap<string, UserError>,
  whole: string,
): Promise<DamagedCheckpoint[]> {
  if (faults.size === 0) return [];
  await writeFileAtomic(join(dirname(whole), latestFile), `${basename(whole)}\n`);
  const damaged: DamagedCheckpoint[] = [];
  for (const [path, { message, where }] of faults) {
    const keptAs = await exists(path) ? await freeName(`${path}.damaged`) : undefined;
    if (keptAs !== undefined) await Deno.rename(path, keptAs);
    damaged.push({ path, message: `${basename(where ?? path)}: ${message}`, keptAs });
  }
  return damaged;
}

async function freeName(path: string): Promise<string> {
  for (let count = 1;; count++) {
    const name = count === 1 ? path : `${path}-${count}`;
    if (!await exists(name)) return name;
  }
}
