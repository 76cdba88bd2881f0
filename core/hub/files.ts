/**
 * The files of a repository, which of them are wanted, and whether their names can be trusted.
 *
 * @module
 */
import { posix } from "node:path";
import { didYouMean, exitCodes, UserError } from "../io/errors.ts";

/** The hash by which the hub names a content: sha256 of large files, git's sha1 of small ones. */
export interface ContentHash {
  readonly algorithm: "sha256" | "git-sha1";
  readonly hex: string;
}

/** One file as the hub tells of it. */
export interface RemoteFile {
  /** Its path in the repository, with forward slashes. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  readonly hash: ContentHash;
}

/** Which files are wanted. */
export interface Choice {
  /** Names, folders or patterns; empty means all. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

/** The chosen files, in the order of the listing; each wish must meet at least one. */
export function chooseFiles<F extends { readonly path: string }>(
  files: readonly F[],
  { include, exclude }: Choice,
  where: string,
): F[] {
  for (const pattern of include) {
    if (files.some(({ path }) => matches(path, pattern))) continue;
    throw new UserError(`it has no file ${pattern}${nearPath(pattern, files)}`, {
      where,
      hint: "--list shows its files",
      exitCode: exitCodes.failed,
    });
  }
  const chosen = files.filter(({ path }) =>
    (include.length === 0 || include.some((pattern) => matches(path, pattern))) &&
    !exclude.some((pattern) => matches(path, pattern))
  );
  if (chosen.length > 0) return chosen;
  throw new UserError(files.length === 0 ? "it has no files" : "nothing is left to fetch", {
    where,
    ...(files.length > 0 ? { hint: "--exclude leaves out all of them" } : {}),
    exitCode: exitCodes.failed,
  });
}

/**
 * Whether a pattern means a path: the path itself, a folder above it, or a glob. A glob without a slash is
 * held against the name in any folder, one with a slash against the whole path.
 */
export function matches(path: string, pattern: string): boolean {
  const plain = pattern.replace(/^\.\//, "").replace(/\/+$/, "");
  if (path === plain || path.startsWith(`${plain}/`)) return true;
  return posix.matchesGlob(plain.includes("/") ? path : posix.basename(path), plain);
}

function nearPath(pattern: string, files: readonly { readonly path: string }[]): string {
  if (/[*?[{]/.test(pattern)) return "";
  return didYouMean(pattern, files.map(({ path }) => path));
}

/**
 * Refuses names that would leave the folder they are put in, or that a terminal or a file system would
 * take for something else. Names come from whoever made the repository.
 */
export function requireSafePaths(paths: readonly string[], where: string): void {
  const seen = new Set<string>();
  for (const path of paths) {
    const fault = seen.has(path) ? "is listed twice" : faultOf(path);
    if (fault !== undefined) {
      throw new UserError(`its file ${JSON.stringify(path)} ${fault}; nothing was written`, {
        where,
        exitCode: exitCodes.failed,
      });
    }
    seen.add(path);
  }
}

function faultOf(path: string): string | undefined {
  if (/\p{Cc}/u.test(path)) return "has control characters in its name";
  if (path.includes("\\")) return "has a backslash in its name";
  if (/^(\/|[A-Za-z]:)/.test(path)) return "has an absolute path";
  const parts = path.split("/");
  if (parts.includes("..")) return "would lie outside of the folder";
  if (parts.includes("") || parts.includes(".")) return "has an empty part in its path";
  if (Deno.build.os === "windows" && /[<>:"|?*]|[. ](\/|$)/.test(path)) {
    return "has a name that Windows does not take";
  }
  return undefined;
}
