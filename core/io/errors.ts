/**
 * Errors that are the user's to solve, and the search for the name they probably meant.
 *
 * `core/` throws them and never prints; `cli/` turns each into one clear message and an exit code.
 *
 * @module
 */

/** What a process ends with. One list, so that scripts can rely on it. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  noDevice: 3,
  outOfMemory: 4,
  interrupted: 130,
} as const;

/** One of the codes that quern exits with. */
export type ExitCode = typeof exitCodes[keyof typeof exitCodes];

/** The parts of a message that only some errors have. */
export interface UserErrorParts {
  /** The place: `run.yaml:9:15`, a path of the config, a file. */
  where?: string;
  /** What to try. */
  hint?: string;
  /** Default: 2, wrong usage or config. */
  exitCode?: ExitCode;
  cause?: unknown;
}

/** Something the user can mend: what happened, where, and what to try. Printed without a stack. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly where: string | undefined;
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(message: string, parts: UserErrorParts = {}) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.where = parts.where;
    this.hint = parts.hint;
    this.exitCode = parts.exitCode ?? exitCodes.usage;
  }
}

/** What the system says no with, in words, and what to try. */
export interface Refusal {
  readonly message: string;
  readonly hint?: string;
}

const elsewhere = "choose another place";
const room = "free some space; what was whole before still is";
const refusals: ReadonlyMap<unknown, Refusal> = new Map([
  ["ENOSPC", { message: "the disk is full", hint: room }],
  ["EDQUOT", { message: "the disk quota is used up", hint: room }],
  ["EROFS", {
    message: "nothing can be written here: the file system is read-only",
    hint: elsewhere,
  }],
  ["EACCES", { message: "permission denied", hint: elsewhere }],
  ["EPERM", { message: "permission denied", hint: elsewhere }],
  ["ENOTDIR", { message: "a part of this path is a file, not a folder", hint: elsewhere }],
  ["EEXIST", { message: "a file stands where a folder is needed", hint: elsewhere }],
  ["EISDIR", { message: "this is a folder, a file is expected" }],
  ["ENOENT", { message: "there is no such file or folder" }],
  ["EIO", {
    message: "the disk cannot be read or written here",
    hint: "look at the disk's health",
  }],
]);

/** What the system refused; undefined for any other error. */
export function refusalOf(error: unknown): Refusal | undefined {
  return refusals.get(error instanceof Error ? Reflect.get(error, "code") : undefined);
}

/** Whether there is no room left, or none that is allowed. */
export function isFullDisk(error: unknown): boolean {
  return refusalOf(error)?.hint === room;
}

/** What the system refused as an error with its place: the path that its message names, else `path`; any other error as it is. */
export function atPath(error: unknown, path?: string): unknown {
  const refusal = refusalOf(error);
  if (!refusal || !(error instanceof Error)) return error;
  const named = error.message.match(/\(os error \d+\): \w+ '(.*?)'/)?.[1];
  // a temporary file's name means nothing to its user
  const where = named?.replace(/(^|[\\/])\.([^\\/]+)\.partial-\d+-[0-9a-f]+/, "$1$2") ?? path;
  return new UserError(refusal.message, {
    ...(where !== undefined && { where }),
    ...(refusal.hint !== undefined && { hint: refusal.hint }),
    exitCode: exitCodes.failed,
    cause: error,
  });
}

/** The message of anything that was thrown: of what the system refused in words, without the path. */
export function messageOf(error: unknown): string {
  return refusalOf(error)?.message ?? (error instanceof Error ? error.message : String(error));
}

/** Why a text is no JSON, in one line: the parser quotes the text, line feeds and all. */
export function jsonFault(error: unknown): string {
  return `not JSON: ${messageOf(error).replaceAll(/\s+/g, " ")}`;
}

/**
 * The candidate that `name` is probably a slip of, if one is near: at most a third of its letters
 * away, and two at least so that a swap of neighbours counts in a short name; else one that the name
 * begins with or that begins with it, by whole words (`warmup_steps`: `warmup`).
 */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const names = [...candidates];
  let nearest: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least && distance < candidate.length) [nearest, least] = [candidate, distance];
  }
  return nearest ??
    names.find((known) => name.startsWith(`${known}_`) || known.startsWith(`${name}_`));
}

/** ` (did you mean "x"?)`, or nothing where no candidate is near. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const nearest = nearestName(name, candidates);
  return nearest === undefined ? "" : ` (did you mean "${nearest}"?)`;
}

/** Levenshtein's distance: insertions, deletions and replacements that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}
