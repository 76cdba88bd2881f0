/**
 * Hugging Face's cache: contents by their hash, and folders of links that show a commit's files. It is
 * shared with Hugging Face's own tools, so that nothing is downloaded twice.
 *
 *     models--OWNER--NAME/blobs/HASH
 *     models--OWNER--NAME/snapshots/COMMIT/PATH  →  ../../blobs/HASH
 *     models--OWNER--NAME/refs/REVISION          the commit that it was last seen at
 *
 * @module
 */
import { basename, dirname, join, relative } from "node:path";
import { writeFileAtomic } from "../io/atomic.ts";
import type { ContentHash, RemoteFile } from "./files.ts";
import type { Listing } from "./listing.ts";
import type { Repo } from "./reference.ts";

/** A repository's folder in the cache. */
export interface CachedRepo {
  readonly folder: string;
}

/** Where a repository lies in a cache, there or not. */
export function cacheOf(cache: string, { kind, id }: Repo): CachedRepo {
  return { folder: join(cache, `${kind}s--${id.replace("/", "--")}`) };
}

/** Where a content lies. */
export function blobPath({ folder }: CachedRepo, { hex }: ContentHash): string {
  return join(folder, "blobs", hex);
}

/** The folder that shows a commit's files. */
export function snapshotFolder({ folder }: CachedRepo, commit: string): string {
  return join(folder, "snapshots", commit);
}

/** Makes a content appear under its path in its commit. */
export async function linkFile(
  cached: CachedRepo,
  commit: string,
  { path, hash }: { readonly path: string; readonly hash: ContentHash },
): Promise<void> {
  const link = join(snapshotFolder(cached, commit), path), blob = blobPath(cached, hash);
  await Deno.mkdir(dirname(link), { recursive: true });
  const isRight = await Promise.all([Deno.realPath(link), Deno.realPath(blob)]).then(
    ([found, wanted]) => found === wanted,
    () => false,
  );
  if (isRight) return;
  const temporary = `${link}.${crypto.randomUUID().slice(0, 8)}`;
  try {
    await Deno.symlink(relative(dirname(link), blob), temporary, { type: "file" });
  } catch {
    await Deno.copyFile(blob, temporary); // Windows lets only some users make links
  }
  await Deno.rename(temporary, link);
}

/** Notes which commit a branch or tag was seen at. */
export async function noteRevision(cached: CachedRepo, revision: string, commit: string) {
  if (revision === commit) return;
  const path = join(cached.folder, "refs", revision);
  if (await Deno.readTextFile(path).catch(() => undefined) === commit) return;
  await writeFileAtomic(path, commit);
}

/** What the cache has of a revision, in part or whole; undefined where it has nothing. */
export async function cachedListing(cached: CachedRepo, repo: Repo): Promise<Listing | undefined> {
  const noted = await Deno.readTextFile(join(cached.folder, "refs", repo.revision)).catch(() => "");
  const commit = noted.trim() || repo.revision;
  if (!/^[0-9a-f]{40}$/.test(commit)) return undefined;
  const folder = snapshotFolder(cached, commit);
  const files = await Array.fromAsync(filesIn(folder, folder));
  files.sort((a, b) => a.path < b.path ? -1 : 1);
  return files.length === 0 ? undefined : { repo, commit, files };
}

async function* filesIn(folder: string, root: string): AsyncGenerator<RemoteFile> {
  const found = await Deno.lstat(folder).catch(() => undefined);
  if (!found?.isDirectory) return;
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const link = join(folder, name);
    if (isDirectory) yield* filesIn(link, root);
    else {
      const blob = await Deno.realPath(link).catch(() => ""); // its content may have been removed
      const hash = hashNamed(basename(blob));
      if (hash === undefined) continue;
      const path = relative(root, link).replaceAll("\\", "/");
      yield { path, size: (await Deno.stat(blob)).size, hash };
    }
  }
}

function hashNamed(hex: string): ContentHash | undefined {
  if (/^[0-9a-f]{64}$/.test(hex)) return { algorithm: "sha256", hex };
  return /^[0-9a-f]{40}$/.test(hex) ? { algorithm: "git-sha1", hex } : undefined;
}
