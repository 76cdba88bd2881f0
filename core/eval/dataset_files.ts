/** Which files of a folder, or of a repository of the hub, are a split of a data set. Pure. */

import { basename } from "node:path";
import { isRecordsName } from "../data/read_records.ts";

/** A configuration of a data set, and one of its splits. */
export interface SplitRef {
  readonly name?: string | undefined;
  readonly split: string;
}

/** What splits are also called where nothing bears their own name. */
const otherNames: Readonly<Record<string, readonly string[]>> = {
  train: ["training"],
  validation: ["valid", "val", "dev"],
  test: ["testing", "eval", "evaluation"],
};

/**
 * The files of a split, sorted: those in the configuration's folder where there is one, whose names (or folders) have the
 * split's name as a word, as in `main/test-00000-of-00001.parquet`, `data/validation.jsonl.gz` or `test/0.parquet`.
 */
export function splitFiles(
  paths: readonly string[],
  { name, split }: SplitRef,
): readonly string[] {
  const readable = paths.filter(isRecordsName);
  const own = name === undefined ? [] : readable.filter((path) => hasPart(path, name));
  const candidates = own.length > 0 ? own : readable;
  for (const wanted of [split, ...otherNames[split] ?? []]) {
    const found = candidates.filter((path) => namesSplit(path, wanted));
    if (found.length > 0) return oneFormat(found).sort();
  }
  return [];
}

const partsOf = (path: string) => path.split(/[\\/]/);

/** A folder of this name, or a file's name that begins with it. */
function hasPart(path: string, name: string): boolean {
  const parts = partsOf(path), file = parts.pop()!;
  return parts.includes(name) || new RegExp(`^${RegExp.escape(name)}[-_.]`).test(file);
}

function namesSplit(path: string, split: string): boolean {
  const parts = partsOf(path), file = parts.pop()!;
  return parts.includes(split) ||
    new RegExp(`(^|[-_.])${RegExp.escape(split)}([-_.]|$)`).test(file);
}

/** The same rows may lie there twice, as parquet and as jsonl. */
function oneFormat(paths: readonly string[]): string[] {
  const parquet = paths.filter((path) => /\.parquet$/i.test(path));
  return parquet.length > 0 ? parquet : [...paths];
}

/** Names under which a task's data may lie in a folder of data sets. */
export function folderNames(task: string, path: string | undefined): readonly string[] {
  return path === undefined ? [task] : [task, path, basename(path), path.replace("/", "--")];
}
