/**
 * Several files, some at a time, into the cache or into a folder of the user's.
 *
 * @module
 */
import { join } from "node:path";
import { exists } from "../io/atomic.ts";
import { freeBytesAt } from "../io/disk.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { formatBytes } from "../io/words.ts";
import { blobPath, cacheOf, linkFile, noteRevision, snapshotFolder } from "./cache.ts";
import { bringFile, hashOfFile, partialPath, sizeOf, type Target } from "./download.ts";
import type { RemoteFile } from "./files.ts";
import type { Hub } from "./http.ts";
import type { Listing } from "./listing.ts";

/** What is to be fetched, and to where. */
export interface FetchJob {
  readonly listing: Listing;
  readonly files: readonly RemoteFile[];
  /** Hugging Face's cache. */
  readonly cache: string;
  /** A folder for the files; undefined leaves them in the cache. */
  readonly out: string | undefined;
  /** Whether other files at their place in `out` are replaced. */
  readonly ifExists: "fail" | "replace";
  /** How many files are downloaded at a time. */
  readonly parallel: number;
}

/** A file that is here. */
export interface FetchedFile {
  /** Its path in the repository. */
  readonly path: string;
  readonly size: number;
  readonly localPath: string;
  /** `there`: it was here before. */
  readonly state: "fetched" | "there";
}

export type FetchEvent =
  | {
    readonly kind: "start";
    readonly files: number;
    readonly bytes: number;
    /** Of these so many are not here yet. */
    readonly missingFiles: number;
    readonly missingBytes: number;
  }
  /** How much is here of what was missing, and how much came from the network so far. */
  | {
    readonly kind: "progress";
    readonly files: number;
    readonly at: number;
    readonly received: number;
  }
  | ({ readonly kind: "file" } & FetchedFile)
  | { readonly kind: "waiting"; readonly path: string };

export interface FetchResult {
  /** The folder in which the files have their paths. */
  readonly folder: string;
  readonly files: readonly FetchedFile[];
  /** Bytes from the network. */
  readonly received: number;
}

/** One file with its place. */
interface Planned {
  readonly file: RemoteFile;
  readonly target: Target;
  readonly localPath: string;
  readonly there: boolean;
}

/** Brings all files here; what came whole stays if another fails. */
export async function fetchFiles(
  hub: Hub,
  job: FetchJob,
  onEvent: (event: FetchEvent) => void,
): Promise<FetchResult> {
  const { listing, files, cache, out } = job;
  const cached = cacheOf(cache, listing.repo);
  const folder = out ?? snapshotFolder(cached, listing.commit);
  const plan: Planned[] = [];
  for (const file of files) plan.push(await planOf(file, job, { folder, signal: hub.signal }));
  if (job.ifExists === "fail") refuseOthers(await othersIn(plan, out));
  const missing = plan.filter(({ there }) => !there);
  await requireSpace(out ?? cache, missing);
  onEvent({
    kind: "start",
    files: files.length,
    bytes: bytesOf(plan),
    missingFiles: missing.length,
    missingBytes: bytesOf(missing),
  });
  const arrived = async ({ file, localPath }: Planned, state: FetchedFile["state"]) => {
    if (out === undefined) await linkFile(cached, listing.commit, file);
    onEvent({ kind: "file", path: file.path, size: file.size, localPath, state });
  };
  for (const planned of plan.filter(({ there }) => there)) await arrived(planned, "there");
  const received = await bringAll(hub, job, missing, { arrived, onEvent });
  if (out === undefined) await noteRevision(cached, listing.repo.revision, listing.commit);
  return {
    folder,
    files: plan.map(({ file: { path, size }, localPath, there }) => ({
      path,
      size,
      localPath,
      state: there ? "there" : "fetched",
    })),
    received,
  };
}

async function planOf(
  file: RemoteFile,
  { listing, cache, out }: FetchJob,
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
): Promise<Planned> {
  const localPath = join(folder, file.path);
  const blob = blobPath(cacheOf(cache, listing.repo), file.hash);
  const isCached = async () => await exists(blob) && await sizeOf(blob) === file.size;
  const isOut = async () =>
    await exists(localPath) && await sizeOf(localPath) === file.size &&
    await hashOfFile(localPath, file, signal) === file.hash.hex;
  const target: Target = out === undefined
    ? { path: blob, isThere: isCached }
    : { path: localPath, isThere: isOut, headStart: await isCached() ? blob : undefined };
  return { file, target, localPath, there: await target.isThere() };
}

/** Files of the user's that lie where missing ones would go. */
async function othersIn(plan: readonly Planned[], out: string | undefined): Promise<string[]> {
  if (out === undefined) return []; // the cache's names are hashes
  const others: string[] = [];
  for (const { localPath, there } of plan) {
    if (!there && await exists(localPath)) others.push(localPath);
  }
  return others;
}

function refuseOthers([first, ...more]: readonly string[]): void {
  if (first === undefined) return;
  const rest = more.length === 0 ? "" : `, and ${more.length} more`;
  throw new UserError(`a file with other content is there${rest}`, {
    where: first,
    hint: "--overwrite replaces it; or choose another folder",
    exitCode: exitCodes.failed,
  });
}

async function requireSpace(folder: string, missing: readonly Planned[]): Promise<void> {
  const parts = await Promise.all(
    missing.map(({ file, target }) => sizeOf(partialPath(target.path, file.hash))),
  );
  const needed = bytesOf(missing) - parts.reduce((sum, size) => sum + size, 0);
  if (needed <= 0) return;
  const free = await freeBytesAt(folder);
  if (free === undefined || needed <= free) return;
  throw new UserError(`${formatBytes(needed)} are to come, and ${formatBytes(free)} are free`, {
    where: folder,
    hint: "free some space, or choose less by --include or another disk by --out",
    exitCode: exitCodes.failed,
  });
}

/** Downloads some at a time; the first failure stops the others, whose parts stay. */
async function bringAll(
  hub: Hub,
  { listing, parallel }: FetchJob,
  missing: readonly Planned[],
  { arrived, onEvent }: {
    arrived: (planned: Planned, state: "fetched") => Promise<void>;
    onEvent: (event: FetchEvent) => void;
  },
): Promise<number> {
  const stop = new AbortController(), queue = missing.values();
  const stoppable = { ...hub, signal: AbortSignal.any([hub.signal, stop.signal]) };
  const at = new Map<Planned, number>();
  let received = 0, files = 0, sum = 0;
  const worker = async () => {
    for (const planned of queue) { // the workers share one iterator
      await bringFile(stoppable, listing, planned.file, planned.target, {
        progress(position, fresh) {
          sum += position - (at.get(planned) ?? 0);
          at.set(planned, position);
          received += fresh;
          onEvent({ kind: "progress", files, at: sum, received });
        },
        waiting: () => onEvent({ kind: "waiting", path: planned.file.path }),
      });
      files++;
      await arrived(planned, "fetched");
    }
  };
  const failures: unknown[] = [];
  const workers = Array.from(
    { length: Math.min(parallel, missing.length) },
    () =>
      worker().catch((error) => {
        failures.push(error);
        stop.abort(error);
      }),
  );
  await Promise.all(workers);
  if (failures.length > 0) throw failures[0];
  return received;
}

function bytesOf(plan: readonly Planned[]): number {
  return plan.reduce((sum, { file }) => sum + file.size, 0);
}
