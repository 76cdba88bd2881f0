/**
 * A folder that one process at a time works on.
 *
 * The system holds the lock and drops it when its process ends, however that ends; the file in the folder says whose it is,
 * so that others can say so, and so that what a killed process left is known as such.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { exists, isAlive } from "./atomic.ts";
import { exitCodes, UserError } from "./errors.ts";

/** The name of a lock in its folder. */
export const lockFile = ".lock";

const ownerSchema = z.object({ pid: z.int(), host: z.string(), since: z.string() });
type Owner = z.output<typeof ownerSchema>;

/** The right to work on a folder; given back by `using`, and when the process exits. */
export interface FolderLock extends Disposable {
  /** The process that left its lock behind when it was killed. */
  readonly leftBy: number | undefined;
  /** Tells that the folder was renamed: the lock went with it. */
  movedTo(folder: string): void;
}

/** Takes a folder's lock; throws where another process holds it. */
export async function lockFolder(folder: string): Promise<FolderLock> {
  let path = join(folder, lockFile);
  const file = await openLocked(folder, path);
  const before = await ownerIn(file);
  if (before && before.host !== Deno.hostname()) {
    file.close();
    throw new UserError(
      `process ${before.pid} on ${before.host} works in it, or was killed there`,
      {
        where: folder,
        hint: `if it has ended, remove ${path}`,
        exitCode: exitCodes.failed,
      },
    );
  }
  writeOwner(file);
  const release = () => {
    globalThis.removeEventListener("unload", release);
    try {
      Deno.removeSync(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // the folder may be gone
    } finally {
      file.close();
    }
  };
  globalThis.addEventListener("unload", release); // a second Ctrl-C exits from where it stands
  return {
    leftBy: before?.pid,
    movedTo: (renamed) => void (path = join(renamed, lockFile)),
    [Symbol.dispose]: release,
  };
}

/** Throws where another process holds a folder's lock, and leaves the lock as it is. */
export async function refuseLocked(folder: string): Promise<void> {
  const path = join(folder, lockFile);
  if (!await exists(path)) return;
  using file = await Deno.open(path, { read: true, write: true }); // closing it gives the lock back
  const owner = await ownerIn(file);
  if (!await isFree(file, owner)) throw inUse(folder, owner ?? await ownerSoon(file));
}

/** Whether a process works on a folder, as far as its lock's file tells: the lock itself is not touched. */
export async function seemsLocked(folder: string): Promise<boolean> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(folder, lockFile));
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return false;
    if (Deno.build.os === "windows") return true; // what is locked may not be read there
    throw error;
  }
  const owner = ownerOf(text);
  return owner !== undefined && (owner.host !== Deno.hostname() || isAlive(owner.pid));
}

/**
 * Opens a file that one process at a time writes; undefined while another has it. Where the file system has
 * no locks nobody is kept out.
 */
export async function openExclusive(path: string): Promise<Deno.FsFile | undefined> {
  for (;;) {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    if (!await file.tryLock(true).catch(() => true)) {
      file.close();
      return undefined;
    }
    if (await isAt(file, path)) return file;
    file.close(); // its owner renamed it in between: what is locked now is whole already
  }
}

/** The lock's file, locked; what its last owner wrote still stands in it. */
async function openLocked(folder: string, path: string): Promise<Deno.FsFile> {
  for (;;) {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    const owner = await ownerIn(file);
    if (!await isFree(file, owner)) {
      const other = owner ?? await ownerSoon(file);
      file.close();
      throw inUse(folder, other);
    }
    if (await isAt(file, path)) return file;
    file.close(); // its owner removed it in between: what is locked now is nobody's
  }
}

function inUse(folder: string, owner: Owner | undefined): UserError {
  const whose = owner ? `: process ${owner.pid} on ${owner.host}, since ${owner.since}` : "";
  return new UserError(`another process works in it${whose}`, {
    where: folder,
    hint: "wait until it has ended, or choose another folder",
    exitCode: exitCodes.failed,
  });
}

/** Whether the lock is ours now. A file system without locks leaves only the owner's process id to ask. */
async function isFree(file: Deno.FsFile, owner: Owner | undefined): Promise<boolean> {
  try {
    return await file.tryLock(true);
  } catch {
    return owner === undefined || owner.pid === Deno.pid || !isAlive(owner.pid);
  }
}

async function isAt(file: Deno.FsFile, path: string): Promise<boolean> {
  const [opened, found] = await Promise.all([
    file.stat(),
    Deno.stat(path).catch(() => undefined),
  ]);
  return found !== undefined && opened.ino === found.ino;
}

/** Undefined where it is empty, half written, or may not be read while another holds it (Windows). */
async function ownerIn(file: Deno.FsFile): Promise<Owner | undefined> {
  try {
    await file.seek(0, Deno.SeekMode.Start);
    const bytes = new Uint8Array(1024), count = await file.read(bytes) ?? 0;
    return ownerOf(new TextDecoder().decode(bytes.subarray(0, count)));
  } catch {
    return undefined;
  }
}

function ownerOf(text: string): Owner | undefined {
  try {
    return ownerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Of a lock that was taken a moment ago: its owner is about to write who it is. */
async function ownerSoon(file: Deno.FsFile): Promise<Owner | undefined> {
  for (let tries = 0; tries < 10; tries++) {
    const owner = await ownerIn(file);
    if (owner) return owner;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return undefined;
}

function writeOwner(file: Deno.FsFile): void {
  const owner: Owner = {
    pid: Deno.pid,
    host: Deno.hostname(),
    since: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
  };
  file.truncateSync(0);
  file.seekSync(0, Deno.SeekMode.Start);
  file.writeSync(new TextEncoder().encode(`${JSON.stringify(owner)}\n`));
}
