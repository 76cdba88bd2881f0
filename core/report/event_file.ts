/** The event files of a run: `tensorboard/events.out.tfevents.SECONDS.HOST.PID`, one a session. */

import { join } from "node:path";
import { writeAllBytesSync } from "../io/atomic.ts";
import { atPath } from "../io/errors.ts";
import { encodeEvent, type TensorboardEvent } from "./tensorboard.ts";

export const tensorboardFolder = "tensorboard";

/**
 * Begins a file for a session that goes on after `step` updates, and returns what adds events to it. TensorBoard reads the
 * files of a folder in the order of their names, and forgets what the earlier ones have of later steps.
 */
export async function openEventFile(
  run: string,
  step: number,
): Promise<(event: TensorboardEvent) => void> {
  const folder = join(run, tensorboardFolder);
  await Deno.mkdir(folder, { recursive: true });
  const last = await lastSeconds(folder), isFirst = last === 0;
  const seconds = Math.max(Math.floor(Date.now() / 1000), last + 1);
  const host = Deno.hostname().replaceAll(/[^\w.-]/g, "_");
  const name = `events.out.tfevents.${String(seconds).padStart(10, "0")}.${host}.${Deno.pid}`;
  const path = join(folder, name);
  const add = (...events: TensorboardEvent[]) => {
    using file = openAt(path);
    for (const event of events) writeAllBytesSync(file, encodeEvent(event, Date.now() / 1000));
  };
  const restart = { kind: "restart", step: step + 1 } as const;
  add({ kind: "version" }, ...isFirst ? [] : [restart]);
  return add;
}

function openAt(path: string): Deno.FsFile {
  try {
    return Deno.openSync(path, { append: true, create: true });
  } catch (error) {
    throw atPath(error, path);
  }
}

/** Of the newest file, so that two sessions of one second have their order. */
async function lastSeconds(folder: string): Promise<number> {
  let last = 0;
  for await (const { name } of Deno.readDir(folder)) {
    last = Math.max(last, Number(name.match(/^events\.out\.tfevents\.(\d+)\./)?.[1] ?? 0));
  }
  return last;
}
