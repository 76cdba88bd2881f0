/**
 * One file's content, brought to its place whole: on from what an earlier try left, checked by its hash,
 * renamed when right.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeAllBytes } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { openExclusive } from "../io/lock.ts";
import type { ContentHash, RemoteFile } from "./files.ts";
import { type Answer, ask, brokenBody, type Hub, persistently } from "./http.ts";
import { contentUrl, type Listing } from "./listing.ts";
import { repoName } from "./reference.ts";

/** Where a content goes. */
export interface Target {
  readonly path: string;
  /** A file that may have the same content already; it is copied rather than downloaded. */
  readonly headStart?: string | undefined;
  /** Whether the right file is there. */
  isThere(): Promise<boolean>;
}

/** Hears how far a file is. */
export interface Follower {
  /** `at`: bytes of the file that are here; `received`: how many of them just came from the network. */
  progress(at: number, received: number): void;
  /** Another process is fetching the same. */
  waiting(): void;
}

/**
 * Where the part of a content lies that has come. It is named after the content: a file that changed on
 * the hub never goes on from the old one's beginning, so no `If-Range` is needed.
 */
export function partialPath(target: string, { hex }: ContentHash): string {
  return join(dirname(target), `.${hex}.incomplete`);
}

/** Downloads a file unless it is there; throws where it cannot be had whole and right. */
export async function bringFile(
  hub: Hub,
  listing: Listing,
  file: RemoteFile,
  target: Target,
  follower: Follower,
): Promise<void> {
  await Deno.mkdir(dirname(target.path), { recursive: true });
  const path = partialPath(target.path, file.hash);
  using partial = await openAlone(path, hub.signal, follower);
  if (await target.isThere()) return await Deno.remove(path);
  if (target.headStart !== undefined && await sizeOf(path) === 0) {
    await Deno.copyFile(target.headStart, path); // it is hashed like what the network brings
  }
  const state = await startOf(partial, file, hub.signal);
  try {
    await fill(hub, listing, file, { partial, state, follower });
    await partial.sync();
  } catch (error) {
    if (state.at === 0) await Deno.remove(path).catch(() => {}); // an empty part helps nobody
    throw error;
  }
  await Deno.rename(path, target.path);
}

/** The hash of a file's content, as the hub names it. */
export async function hashOfFile(
  path: string,
  file: RemoteFile,
  signal: AbortSignal,
): Promise<string> {
  using opened = await Deno.open(path);
  const hash = newHash(file);
  await hashRest(opened, hash, signal);
  return hash.digest("hex");
}

/** A file's size; 0 where there is none. */
export async function sizeOf(path: string): Promise<number> {
  return await Deno.stat(path).then(({ size }) => size, () => 0);
}

/** How far a partial is, with the hash of what it holds. */
interface State {
  at: number;
  hash: Hash;
}

interface Filling {
  readonly partial: Deno.FsFile;
  readonly state: State;
  readonly follower: Follower;
}

async function openAlone(path: string, signal: AbortSignal, follower: Follower) {
  for (let tries = 0;; tries++) {
    signal.throwIfAborted();
    const file = await openExclusive(path);
    if (file) return file;
    if (tries === 0) follower.waiting();
    await sleep(200);
  }
}

async function startOf(
  partial: Deno.FsFile,
  file: RemoteFile,
  signal: AbortSignal,
): Promise<State> {
  const state: State = { at: 0, hash: newHash(file) };
  if ((await partial.stat()).size > file.size) await restart(partial, state, file);
  else state.at = await hashRest(partial, state.hash, signal);
  return state;
}

async function restart(partial: Deno.FsFile, state: State, file: RemoteFile) {
  await partial.truncate(0);
  await partial.seek(0, Deno.SeekMode.Start);
  Object.assign(state, { at: 0, hash: newHash(file) });
}

/** Downloads what is missing; a content with another hash is fetched from its beginning, once. */
async function fill(hub: Hub, listing: Listing, file: RemoteFile, filling: Filling) {
  const { partial, state, follower } = filling;
  const what = `${file.path} of ${repoName(listing.repo)}`;
  for (let round = 1;; round++) {
    let newest = state.at;
    follower.progress(state.at, 0);
    await persistently(
      hub,
      what,
      () => state.at === file.size ? Promise.resolve() : goOn(hub, listing, file, filling),
      { hasNew: () => state.at > newest && (newest = state.at) > 0 },
    );
    const found = state.hash.digest("hex"), wanted = file.hash.hex;
    if (found === wanted) return;
    await restart(partial, state, file);
    if (round === 2) {
      throw new UserError(
        `what came is not what the hub announced: ${file.hash.algorithm} ${found}, not ${wanted}`,
        { where: what, hint: "it was removed; try again later", exitCode: exitCodes.failed },
      );
    }
  }
}

/** One request, for all that is missing. */
async function goOn(hub: Hub, listing: Listing, file: RemoteFile, filling: Filling) {
  const { partial, state, follower } = filling;
  const request = {
    url: contentUrl(hub, listing, file.path),
    repo: listing.repo,
    ...(state.at > 0 ? { headers: { range: `bytes=${state.at}-` } } : {}),
  };
  await ask(hub, request, async (answer) => {
    const from = firstByte(answer, file);
    if (from !== state.at) {
      await restart(partial, state, file);
      if (from !== 0) {
        throw brokenBody("the file there does not have the part that is missing here");
      }
    }
    for await (const chunk of answer.chunks()) {
      if (state.at + chunk.length > file.size) {
        await restart(partial, state, file);
        throw brokenBody(`more came than its ${file.size} bytes`);
      }
      await writeAllBytes(partial, chunk);
      state.hash.update(chunk);
      state.at += chunk.length;
      follower.progress(state.at, chunk.length);
    }
  });
  if (state.at < file.size) {
    throw brokenBody(`the connection ended after ${state.at} of ${file.size} bytes`);
  }
}

/**
 * Where in the file an answer begins: at 0, unless the server took the range; undefined if it is of another
 * file.
 */
function firstByte({ status, headers }: Answer, { size }: RemoteFile): number | undefined {
  if (status === 416) return undefined;
  if (status !== 206) return 0;
  const [, from, total] = headers.get("content-range")?.match(/^bytes (\d+)-\d+\/(\d+|\*)$/) ?? [];
  return total === "*" || Number(total) === size ? Number(from) : undefined;
}

/** git hashes a file's content behind a header with its size. */
function newHash({ hash: { algorithm }, size }: RemoteFile): Hash {
  return algorithm === "sha256"
    ? createHash("sha256")
    : createHash("sha1").update(`blob ${size}\0`);
}

/** Hashes a file from where it stands to its end, and says how many bytes that were. */
async function hashRest(file: Deno.FsFile, hash: Hash, signal: AbortSignal): Promise<number> {
  const bytes = new Uint8Array(1 << 20);
  for (let total = 0;;) {
    signal.throwIfAborted(); // a large file takes seconds
    const count = await file.read(bytes);
    if (count === null) return total;
    hash.update(bytes.subarray(0, count));
    total += count;
  }
}
