/** A run's folder: it describes itself, so that it can be continued, compared and generated from without anything else. */

import { basename, dirname, join } from "node:path";
import { stringify } from "yaml";
import type { DeviceInfo } from "../device/types.ts";
import {
  exists,
  isTaken,
  removePartials,
  writeFileAtomic,
  writeFolderAtomic,
} from "../io/atomic.ts";
import { exitCodes, jsonFault, UserError } from "../io/errors.ts";
import { type FolderLock, lockFolder, refuseLocked } from "../io/lock.ts";
import { shellWord } from "../io/words.ts";
import { indexFileName } from "../data/shard_index.ts";
import { tokenizerFileName } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { checkpointsFolder, findCheckpoint, hasCheckpoint, isCheckpoint } from "./checkpoint.ts";
import { type PretrainConfig, type RunConfig, verbOf } from "./config.ts";
import { type AnyConfig, readRunConfig } from "./run_config.ts";
import { dataPaths } from "./data_config.ts";
import type { SampleEvent } from "./events.ts";
import type { DataRecord } from "./shard_data.ts";
import type { TrainingData } from "./training_data.ts";
import { appendRecord, cutBack, type StepRecord } from "./records.ts";
import { configFile, manifestFile, metricsFile, samplesFile } from "./run_files.ts";

export { configFile, metricsFile, samplesFile };

/** How a process came to work on a run. */
export interface Session {
  readonly version: string;
  readonly command: readonly string[];
  /** The checkpoint whose weights the run began with. */
  readonly from?: string;
  readonly device: DeviceInfo;
}

/**
 * Makes a run folder: config, manifest, tokenizer, an empty file of metrics. Whatever is there already is an error. The
 * folder is locked by the time that others can see it.
 */
export async function createRun(
  run: string,
  config: RunConfig,
  data: TrainingData,
  session: Session,
): Promise<FolderLock> {
  await requireNew(run);
  const parent = dirname(run);
  if (await exists(parent)) await removePartials(parent, basename(run));
  using stack = new DisposableStack();
  const locks: FolderLock[] = [];
  try {
    await writeFolderAtomic(run, async (folder) => {
      await Deno.mkdir(checkpointsFolder(folder));
      const files = firstFiles(config, data, session);
      for (const [name, text] of files) await Deno.writeTextFile(join(folder, name), text);
      await data.place(folder);
      if (Deno.build.os === "windows") return; // no folder with an open file is renamed there
      locks.push(stack.use(await lockFolder(folder)));
    });
  } catch (error) {
    throw await isTaken(run) ? await takenError(run) : error; // another process was faster
  }
  stack.move();
  const [lock = await lockFolder(run)] = locks;
  lock.movedTo(run);
  return lock;
}

/** Refuses a folder in which a run cannot begin. */
export async function requireNew(run: string): Promise<void> {
  if (await isTaken(run)) throw await takenError(run);
}

/** Why a new run cannot be made at a path where something is. */
async function takenError(run: string): Promise<UserError> {
  const isBegun = await isRun(run), isResumable = isBegun && await hasCheckpoint(run);
  if (isBegun) await refuseLocked(run);
  const begun = "start it over with --resume auto; or choose another --out";
  return new UserError(
    `it exists already${isBegun && !isResumable ? ", without a checkpoint" : ""}`,
    {
      where: run,
      hint: isResumable
        ? `go on with it: quern ${await verbIn(run)} --resume ${
          shellWord(run)
        }; or choose another --out`
        : isBegun
        ? begun
        : "choose another --out",
    },
  );
}

/** The command that a run goes on with. */
async function verbIn(run: string) {
  return verbOf(await readRunConfig(run).catch(() => ({}))); // what is wrong with it is said then
}

/** The files that a run begins with. */
function firstFiles(config: RunConfig, data: TrainingData, session: Session) {
  return new Map([
    [configFile, stringify(config)],
    [metricsFile, ""],
    [manifestFile, manifest(config, data, [entry(session, 0)])],
  ]);
}

/** Begins a run again in its folder, which holds no checkpoint. */
export async function restartRun(
  run: string,
  config: RunConfig,
  data: TrainingData,
  session: Session,
): Promise<void> {
  await Deno.mkdir(checkpointsFolder(run), { recursive: true });
  const files = firstFiles(config, data, session);
  for (const [name, text] of files) await writeFileAtomic(join(run, name), text);
  await data.place(run);
  await cutBack(join(run, samplesFile), 0);
}

/** Adds a continued session to the manifest, writes the config it goes on with, and cuts the metrics back to its first step. */
export async function reopenRun(
  run: string,
  config: RunConfig,
  data: TrainingData,
  session: Session,
  step: number,
): Promise<void> {
  const { sessions } = await readManifest(run);
  await writeFileAtomic(
    join(run, manifestFile),
    manifest(config, data, [...sessions, entry(session, step)]),
  );
  await writeFileAtomic(join(run, configFile), stringify(config));
  for (const name of [metricsFile, samplesFile]) await cutBack(join(run, name), step);
}

/** The files of a run that holds imported weights; its checkpoint is the caller's. */
export async function writeImportedRun(
  folder: string,
  config: AnyConfig,
  tokenizer: Tokenizer,
  session: Omit<Session, "device"> & { readonly imported: unknown },
): Promise<void> {
  await Deno.mkdir(checkpointsFolder(folder));
  const contents = {
    format: "quern-run",
    seed: config.seed,
    data: { sources: [] },
    tokenizer: { kind: tokenizer.kind, sha256: tokenizer.hash },
    sessions: [{ started: new Date().toISOString(), ...session }],
  };
  const files = new Map([
    [configFile, stringify(config)],
    [tokenizerFileName, tokenizer.file],
    [metricsFile, ""],
    [manifestFile, `${JSON.stringify(contents, null, 2)}\n`],
  ]);
  for (const [name, text] of files) await Deno.writeTextFile(join(folder, name), text);
}

/** The files of a run that goes on from a checkpoint of another, with another config; checkpoint and tokenizer are the caller's. */
export async function writeGrownRun(
  from: string,
  folder: string,
  { config, session, step }: {
    readonly config: RunConfig;
    readonly session: Omit<Session, "device"> & { readonly grown_from: string };
    readonly step: number;
  },
): Promise<void> {
  await Deno.mkdir(checkpointsFolder(folder));
  const before = await readManifest(from);
  const sessions = [...before.sessions, {
    started: new Date().toISOString(),
    from_step: step,
    ...session,
  }];
  const files = new Map([
    [configFile, stringify(config)],
    [manifestFile, `${JSON.stringify({ ...before, sessions }, null, 2)}\n`],
    [metricsFile, ""],
  ]);
  for (const [name, text] of files) await Deno.writeTextFile(join(folder, name), text);
}

function entry({ version, command, device, from }: Session, from_step: number) {
  const started = new Date().toISOString();
  return { started, from_step, version, command, device, ...(from !== undefined && { from }) };
}

function manifest(config: RunConfig, data: TrainingData, sessions: readonly unknown[]): string {
  const contents = {
    format: "quern-run",
    seed: config.seed,
    data: data.record,
    tokenizer: { kind: data.tokenizer.kind, sha256: data.tokenizer.hash },
    sessions,
  };
  return `${JSON.stringify(contents, null, 2)}\n`;
}

/** What is read of a manifest. */
interface Manifest {
  readonly data: DataRecord | { readonly sources: readonly DataRecord[] };
  readonly sessions: readonly unknown[];
}

async function readManifest(run: string): Promise<Manifest> {
  const where = join(run, manifestFile), text = await Deno.readTextFile(where);
  try {
    return JSON.parse(text) as Manifest;
  } catch (error) {
    throw new UserError(jsonFault(error), { where, exitCode: exitCodes.failed });
  }
}

/** Where a run's data are, in order: where its config says, else where they were when it was last trained. */
export async function findData(run: string, { data }: PretrainConfig): Promise<string[]> {
  const holdsData = (folder: string) => exists(join(folder, indexFileName));
  const { data: before } = await readManifest(run);
  const records = "sources" in before ? before.sources : [before];
  return await Promise.all(
    dataPaths(data).map(async (path) => {
      if (await holdsData(path)) return path;
      const known = records.find((record) => record.path === path)?.absolute_path;
      return known !== undefined && await holdsData(known) ? known : path;
    }),
  );
}

/** Whether a folder is a run's. */
export async function isRun(folder: string): Promise<boolean> {
  return await exists(join(folder, configFile));
}

/** Removes what a killed process left of checkpoints that it was writing, and names it. */
export async function removeBrokenCheckpoints(run: string): Promise<string[]> {
  const folder = checkpointsFolder(run);
  return await exists(folder) ? await removePartials(folder) : [];
}

/** Refuses to write into a run whose folder vanished in the meantime: what came there would be no run. */
export async function requireRun(run: string): Promise<void> {
  if (!await isRun(run)) throw vanished(run);
}

function vanished(run: string, cause?: unknown): UserError {
  return new UserError("the run's folder vanished, or its config.yaml, while it was trained", {
    where: run,
    hint: "what was not saved elsewhere is lost; begin again",
    exitCode: exitCodes.failed,
    cause,
  });
}

function append(run: string, name: string, record: StepRecord): void {
  try {
    appendRecord(join(run, name), record);
  } catch (error) {
    throw error instanceof Deno.errors.NotFound ? vanished(run, error) : error;
  }
}

/** Adds a line to a run's metrics. */
export function appendMetrics(run: string, record: StepRecord): void {
  append(run, metricsFile, record);
}

/** Adds a line to a run's samples. */
export function appendSample(run: string, { kind: _, form, ...record }: SampleEvent): void {
  append(run, samplesFile, { ...record, ...(form && { form }) });
}

/** The run folder that a path means: itself, or that of a checkpoint. */
export async function runOf(path: string): Promise<string> {
  if (!await isCheckpoint(path)) return path;
  const inside = path.replace(/[\\/]+$/, "").match(/^(.*?)[\\/]?checkpoints[\\/]step-\d+$/);
  if (inside) return inside[1] || ".";
  throw new UserError("a checkpoint outside a run folder cannot be continued", { where: path });
}

/** The checkpoint that a run, or a checkpoint of it, goes on from, and the run's folder. */
export async function resumePoint(path: string): Promise<{ run: string; checkpoint: string }> {
  const checkpoint = await findCheckpoint(path);
  return { run: await runOf(checkpoint), checkpoint };
}
