/** Where a run begins: anew, or from a checkpoint that is picked once no other process may work on the run. */

import { isTaken } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { lockFolder } from "../io/lock.ts";
import type { Tensors } from "../io/tensors.ts";
import { findCheckpoint, newestCheckpoint, refuseImported } from "./checkpoint.ts";
import type { GivenSizes } from "./config.ts";
import { configFile } from "./run_files.ts";
import { isRun, removeBrokenCheckpoints, runOf } from "./run_folder.ts";

/** A run's folder and where in it training begins. Holds the lock of a folder that is there already. */
export interface Beginning extends Disposable {
  readonly run: string;
  /** The checkpoint folder that training goes on from; undefined starts anew. */
  readonly checkpoint: string | undefined;
  /** Whether an older checkpoint serves where this one is damaged. */
  readonly ifDamaged: "stop" | "older";
  /** `there`: it was begun, has no checkpoint, and is started over. */
  readonly folder: "to be made" | "there";
  /** The process that left its lock behind when it was killed. */
  readonly leftBy: number | undefined;
  /** What stopped processes left of files that they were writing; it was removed. */
  readonly removed: readonly string[];
}

/** A run that is not there yet; one that is there is refused when its folder is made. */
export function newRun(run: string): Beginning {
  return {
    run,
    checkpoint: undefined,
    ifDamaged: "stop",
    folder: "to be made",
    leftBy: undefined,
    removed: [],
    [Symbol.dispose]() {},
  };
}

/** Weights that a run begins with in place of those that its seed gives; close them with `using`. */
export interface FirstWeights extends Disposable {
  /** The checkpoint's folder, and the updates that it was trained for. */
  readonly checkpoint: string;
  readonly step: number;
  readonly tokenizer_sha256: string;
  /** All f32, by our names. */
  readonly file: Tensors;
}

/** Goes on with a run folder, or from one of its checkpoints. */
export async function resumeRun(path: string): Promise<Beginning> {
  const run = await runOf(path);
  if (!await isRun(run)) {
    await findCheckpoint(path); // says so where nothing is there at all
    throw new UserError(`not a run folder: it has no ${configFile}`, { where: run });
  }
  return await lockedBeginning(run, async (removed) => {
    try {
      return await findCheckpoint(path);
    } catch (error) {
      if (!(error instanceof UserError) || removed.length === 0) throw error;
      const { message, hint, ...parts } = error;
      throw new UserError(
        `${message}; removed what a stopped process left: ${removed.join(", ")}`,
        {
          ...parts,
          ...(hint !== undefined && { hint }),
        },
      );
    }
  });
}

/** Goes on with a run if it has a checkpoint; begins it where there is none, or no such run. */
export async function resumeOrBegin(run: string): Promise<Beginning> {
  if (!await isTaken(run)) return newRun(run);
  if (await isRun(run)) return await lockedBeginning(run, () => newestCheckpoint(run), "older");
  throw new UserError(`it exists and is no run folder: it has no ${configFile}`, {
    where: run,
    hint: "choose another --out",
  });
}

/** Takes the lock, removes what was left half written, and picks the checkpoint: in this order. */
async function lockedBeginning(
  run: string,
  pick: (removed: readonly string[]) => Promise<string | undefined>,
  ifDamaged: Beginning["ifDamaged"] = "stop",
): Promise<Beginning> {
  using stack = new DisposableStack();
  const { leftBy } = stack.use(await lockFolder(run));
  const removed = await removeBrokenCheckpoints(run);
  const checkpoint = await pick(removed);
  if (checkpoint !== undefined) await refuseImported(checkpoint);
  const held = stack.move();
  return {
    run,
    checkpoint,
    ifDamaged,
    folder: "there",
    leftBy,
    removed,
    [Symbol.dispose]: () => held.dispose(),
  };
}

/** A config to go on with: sizes that it leaves to the device are those that the run began with. */
export function withSizesOf<C extends GivenSizes>(before: GivenSizes, config: C): C {
  const { batch_size, accumulation } = config;
  return {
    ...config,
    batch_size: batch_size === "auto" ? before.batch_size : batch_size,
    accumulation: accumulation === "auto" ? before.accumulation : accumulation,
  };
}
