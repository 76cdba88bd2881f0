/** Rows of data sets: from folders of the user's, or from the hub and its cache. */

import { basename, join } from "node:path";
import { readRecords } from "../data/read_records.ts";
import {
  chooseFiles,
  type FetchEvent,
  fetchFiles,
  type Hub,
  type OpenedRepo,
  openRepo,
  type Repo,
  repoName,
} from "../hub/mod.ts";
import { exists } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { shellWord } from "../io/words.ts";
import { folderNames, splitFiles, type SplitRef } from "./dataset_files.ts";
import type { DatasetRef, Doc, Task } from "./types.ts";

/** Where rows may come from. */
export interface DataPlaces {
  /** Folders of data sets, asked first. Without one the hub is asked. */
  readonly folders: readonly string[];
  readonly hub?: {
    readonly hub: Hub;
    readonly cache: string;
    onEvent(event: FetchEvent, repo: Repo): void;
  };
}

export interface Rows {
  readonly rows: readonly Doc[];
  /** The files that they come from. */
  readonly files: readonly string[];
}

type Asked = Pick<Task, "name" | "dataset">;

/** Finds splits, each once; what is on the hub alone is downloaded. */
export interface DataFinder {
  /** The files of a split; an error says what is missing and what brings it. */
  files(task: Asked, split: string): Promise<readonly string[]>;
  /** The split's rows, in the order of its files. */
  read(task: Asked, split: string): Promise<Rows>;
}

export function dataFinder(places: DataPlaces): DataFinder {
  const found = new Map<string, Promise<readonly string[]>>();
  const listings = new Map<string, ReturnType<typeof openRepo>>();
  const files: DataFinder["files"] = (task, split) => {
    const { path, name, file } = task.dataset;
    const key = JSON.stringify([task.name, path, name, file, split]);
    const known = found.get(key) ?? filesOf(task, split, places, listings);
    found.set(key, known);
    return known;
  };
  return {
    files,
    async read(task, split) {
      const paths = await files(task, split), rows: Doc[] = [];
      for (const path of paths) {
        for await (const { record } of readRecords(path)) rows.push(record);
      }
      if (rows.length > 0) return { rows, files: paths };
      throw new UserError("it has no rows", { where: paths[0], exitCode: exitCodes.failed });
    },
  };
}

type Listings = Map<string, ReturnType<typeof openRepo>>;

async function filesOf(
  task: Asked,
  split: string,
  places: DataPlaces,
  listings: Listings,
): Promise<readonly string[]> {
  const { dataset } = task;
  if (dataset.file !== undefined) return ownFile(dataset, split);
  for (const folder of places.folders) {
    const found = await filesIn(folder, task, split);
    if (found.length > 0) return found;
  }
  if (places.folders.length > 0 || dataset.path === undefined || !places.hub) {
    throw missing(task, split, places);
  }
  const repo = { kind: "dataset", id: dataset.path, revision: "main" } as const;
  const { hub, cache } = places.hub;
  const opened = listings.get(repo.id) ?? openRepo(hub, repo, cache);
  listings.set(repo.id, opened);
  return await fetchSplit(places.hub, await opened, { name: dataset.name, split });
}

/** A task's own file holds the split that is tested; shots of another are not in it. */
function ownFile({ file, test_split }: DatasetRef, split: string): readonly string[] {
  if (split === test_split) return [file!];
  throw new UserError(`it has the split ${test_split} alone; shots would come from ${split}`, {
    where: file!,
    hint: "leave out fewshot_split, or write the shots into the task as fewshot_docs",
  });
}

/** What a folder has of a split: a file of the task's name, or files in a folder that is named after the data set. */
async function filesIn(
  folder: string,
  { name: task, dataset: { path, name, test_split } }: Asked,
  split: string,
): Promise<readonly string[]> {
  if (!await exists(folder)) {
    throw new UserError("there is no such folder", { where: folder, hint: "--data names it" });
  }
  // a data set of one configuration may go by its own name
  const names = path === undefined || name !== undefined ? [task] : [task, basename(path)];
  const stems = names.flatMap((
    each,
  ) => [`${each}_${split}`, `${each}.${split}`, ...split === test_split ? [each] : []]);
  for (const stem of stems) {
    for (const ending of endings) {
      const file = join(folder, stem + ending);
      if (await exists(file)) return [file];
    }
  }
  for (const each of folderNames(task, path)) {
    const inner = join(folder, each);
    if (!(await isFolder(inner))) continue;
    const found = await splitIn(inner, { name, split });
    if (found.length > 0) return found;
  }
  // the folder itself may be the data set's, if it has files that lie as there
  const own = await Array.fromAsync(recordFiles(folder, 2));
  const isDataset = name !== undefined && own.some((path) => path.split(/[\\/]/).includes(name));
  return isDataset ? splitFiles(own, { name, split }).map((file) => join(folder, file)) : [];
}

const endings = [".jsonl", ".ndjson", ".parquet"]
  .flatMap((ending) =>
    ending === ".parquet" ? [ending] : [ending, `${ending}.gz`, `${ending}.zst`]
  );

async function isFolder(path: string): Promise<boolean> {
  return await Deno.stat(path).then(({ isDirectory }) => isDirectory, () => false);
}

async function splitIn(folder: string, ref: SplitRef): Promise<readonly string[]> {
  const files = await Array.fromAsync(recordFiles(folder, 4));
  return splitFiles(files, ref).map((file) => join(folder, file));
}

/** Paths of files below a folder, from there, hidden ones left out. */
async function* recordFiles(folder: string, depth: number): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (name.startsWith(".")) continue;
    if (!isDirectory && !await isFolder(join(folder, name))) yield name;
    else if (depth > 1) {
      for await (const inner of recordFiles(join(folder, name), depth - 1)) yield join(name, inner);
    }
  }
}

/** From the cache, or downloaded into it. */
async function fetchSplit(
  { hub, cache, onEvent }: NonNullable<DataPlaces["hub"]>,
  { listing }: OpenedRepo,
  ref: SplitRef,
): Promise<readonly string[]> {
  const { repo } = listing;
  const include = splitFiles(listing.files.map(({ path }) => path), ref);
  if (include.length === 0) {
    throw new UserError(`it has no parquet or jsonl files of the split ${ref.split}`, {
      where: repoName(repo),
      hint:
        `quern fetch ${repo.id} --dataset --list shows its files; --data takes them from a folder`,
      exitCode: exitCodes.failed,
    });
  }
  const files = chooseFiles(listing.files, { include, exclude: [] }, repoName(repo));
  const { files: fetched } = await fetchFiles(
    hub,
    { listing, files, cache, out: undefined, ifExists: "fail", parallel: 4 },
    (event) => onEvent(event, repo),
  );
  return fetched.map(({ localPath }) => localPath).sort();
}

function missing(
  { name: task, dataset: { path, name } }: Asked,
  split: string,
  { folders }: DataPlaces,
): UserError {
  const what = `the split ${split} of ${path ?? "its data"}${
    name === undefined ? "" : ` (${name})`
  }`;
  if (folders.length === 0) {
    return new UserError(`${task}: ${what} is nowhere`, {
      hint: `give the folder that has ${task}.jsonl: --data FOLDER`,
    });
  }
  const fetch = path === undefined
    ? ""
    : `; quern fetch ${path} --dataset --out ${shellWord(join(folders[0], path))} brings it`;
  return new UserError(`${task}: ${what} is not there`, {
    where: folders.join(", "),
    hint: `it may lie there as ${task}_${split}.jsonl${fetch}`,
    exitCode: exitCodes.failed,
  });
}
