/**
 * Files and folders that are either whole or not there.
 *
 * Everything is written beside its target under a hidden name, synced to disk, then renamed; a crash at
 * any instant leaves what was there before. Left-overs of crashed processes are recognised by the
 * process id in their names.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { atPath, exitCodes, UserError } from "./errors.ts";

/** What a left-over is called: `.NAME.partial-PID-RANDOM`. */
const partialName = /^\.(.+)\.partial-(\d+)-[0-9a-f]+$/;

/** The temporaries of this process that are being written now. */
const inProgress = new Set<string>();

/** Writes every byte; a single `write` may take only some. */
export async function writeAllBytes(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/** The same at once, for writes that are small or go to the system's memory. */
export function writeAllBytesSync(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

/**
 * Replaces the file at `path` at once. The content is text, bytes, or a function that writes the file
 * whose path it is given.
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array | ((temporary: string) => Promise<void>),
): Promise<void> {
  await writeBeside(path, async (temporary) => {
    if (typeof content === "function") await content(temporary);
    else if (typeof content === "string") await Deno.writeTextFile(temporary, content);
    else await Deno.writeFile(temporary, content);
    await syncPath(temporary);
    await Deno.rename(temporary, path);
  });
}

/** Fills a new folder and puts it at `path` at once. Whatever is there already is an error, but for an empty folder. */
export async function writeFolderAtomic(
  path: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  await writeBeside(path, async (temporary) => {
    await fillFolder(temporary, fill);
    const taken = () =>
      new UserError("it exists already", {
        where: path,
        hint: "choose another name, or remove it first",
        exitCode: exitCodes.failed,
      });
    if (await isTaken(path)) throw taken();
    try {
      if (await exists(path)) await Deno.remove(path);
      await Deno.rename(temporary, path);
    } catch (error) {
      throw await isTaken(path) ? taken() : error; // another process was faster
    }
  });
}

/**
 * Fills a folder and puts it in the place of the one at `path`, which is removed only when the new one is
 * whole and on disk. No system call exchanges two folders here: for an instant `path` is absent.
 */
export async function replaceFolder(
  path: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  await writeBeside(path, async (temporary) => {
    await fillFolder(temporary, fill);
    if (await exists(path)) await Deno.remove(path, { recursive: true });
    await Deno.rename(temporary, path);
  });
}

/** Removes what crashed processes left in a folder, of one target or of all, and returns the removed names. */
export async function removePartials(folder: string, target?: string): Promise<string[]> {
  const removed: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const [, of, pid] = name.match(partialName) ?? [];
    if (of === undefined || (target !== undefined && of !== target)) continue;
    if (isBeingWritten(join(folder, name), Number(pid))) continue;
    await Deno.remove(join(folder, name), { recursive: true });
    removed.push(name);
  }
  return removed.sort();
}

/** Whether a path exists, whatever is there. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors; // the latter: a part of the path is a file
    if (error instanceof NotFound || error instanceof NotADirectory) return false;
    throw error;
  }
}

/** Whether something is at a path that nothing new may take the place of: anything but an empty folder. */
export async function isTaken(path: string): Promise<boolean> {
  if (!await exists(path)) return false;
  if (!(await Deno.lstat(path)).isDirectory) return true;
  return !(await Deno.readDir(path)[Symbol.asyncIterator]().next()).done;
}

async function fillFolder(folder: string, fill: (folder: string) => Promise<void>) {
  await Deno.mkdir(folder);
  await fill(folder);
  await syncTree(folder);
}

async function writeBeside(path: string, write: (temporary: string) => Promise<void>) {
  await Deno.mkdir(dirname(path), { recursive: true });
  const temporary = temporaryBeside(path);
  inProgress.add(temporary);
  try {
    await write(temporary);
    await syncFolder(dirname(path));
  } catch (error) {
    if (await exists(temporary)) await Deno.remove(temporary, { recursive: true });
    throw isRefusedPlace(error, temporary) ? noPlace(path, error) : atPath(error, path);
  } finally {
    inProgress.delete(temporary);
  }
}

/** Whether the system has nowhere to put what is new, though the folder around it is there: as in /proc. */
function isRefusedPlace(error: unknown, temporary: string): boolean {
  return error instanceof Deno.errors.NotFound && error.message.endsWith(`'${temporary}'`);
}

function noPlace(path: string, cause: unknown): UserError {
  return new UserError("nothing can be written here", {
    where: path,
    hint: "choose another place",
    exitCode: exitCodes.failed,
    cause,
  });
}

function temporaryBeside(path: string): string {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(16);
  return join(dirname(path), `.${basename(path)}.partial-${Deno.pid}-${random}`);
}

/** In a container every process may have the same id, so our own id alone proves nothing. */
function isBeingWritten(path: string, pid: number): boolean {
  return pid === Deno.pid ? inProgress.has(path) : isAlive(pid);
}

/** Whether a process of this id runs on this host. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 asks only whether it could be sent
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

async function syncTree(folder: string): Promise<void> {
  for await (const entry of Deno.readDir(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) await syncTree(path);
    else await syncPath(path);
  }
  await syncFolder(folder);
}

async function syncPath(path: string): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  await file.sync();
}

/** Makes a rename durable; Windows has no such call and needs none. */
async function syncFolder(folder: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using handle = await Deno.open(folder);
  await handle.sync();
}

/** A new folder beside `path`, gone when it is disposed of unless it was moved; left-overs are found as those of `path`. */
export async function folderBeside(path: string): Promise<AsyncDisposable & { path: string }> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const temporary = temporaryBeside(path);
  await Deno.mkdir(temporary);
  inProgress.add(temporary);
  return {
    path: temporary,
    async [Symbol.asyncDispose]() {
      if (await exists(temporary)) await Deno.remove(temporary, { recursive: true });
      inProgress.delete(temporary);
    },
  };
}
