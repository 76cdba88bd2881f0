/** A run's folder: it describes itself, so that it can be continued, compared and generated from without anything else. */

import { join, resolve } from "node:path";
import { stringify } from "yaml";
import type { DeviceInfo } from "../device/types.ts";
import type { ShardReader } from "../data/shard_reader.ts";
import { exists, removePartials, writeFileAtomic, writeFolderAtomic } from "../io/atomic.ts";
import { loadConfig } from "../io/config.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { shellWord } from "../io/words.ts";
import { indexFileName } from "../data/shard_index.ts";
import { checkpointsFolder, hasCheckpoint } from "./checkpoint.ts";
import { type PretrainConfig, pretrainConfig, type ResolvedConfig } from "./config.ts";

export const configFile = "config.yaml", metricsFile = "metrics.jsonl";
const manifestFile = "manifest.json";

/** How a process came to work on a run. */
export interface Session {
  readonly version: string;
  readonly command: readonly string[];
  readonly device: DeviceInfo;
}

/** Makes a run folder: config, manifest, tokenizer, an empty file of metrics. Whatever is there already is an error. */
export async function createRun(
  run: string,
  config: ResolvedConfig,
  data: ShardReader,
  session: Session,
): Promise<void> {
  if (await exists(run)) {
    const isBegun = await isRun(run), isResumable = isBegun && await hasCheckpoint(run);
    throw new UserError(
      `it exists already${isBegun && !isResumable ? ", without a checkpoint" : ""}`,
      {
        where: run,
        hint: isResumable
          ? `go on with it: quern pretrain --resume ${shellWord(run)}; or choose another --out`
          : isBegun
          ? "remove it, or choose another --out"
          : "choose another --out",
      },
    );
  }
  await writeFolderAtomic(run, async (folder) => {
    await Deno.writeTextFile(join(folder, configFile), stringify(config));
    await Deno.writeTextFile(join(folder, data.index.tokenizer.file), data.tokenizer.file);
    await Deno.writeTextFile(join(folder, metricsFile), "");
    await Deno.mkdir(checkpointsFolder(folder));
    await Deno.writeTextFile(
      join(folder, manifestFile),
      manifest(config, data, [entry(session, 0)]),
    );
  });
}

/** Adds a continued session to the manifest, writes the config it goes on with, and cuts the metrics back to its first step. */
export async function reopenRun(
  run: string,
  config: ResolvedConfig,
  data: ShardReader,
  session: Session,
  step: number,
): Promise<void> {
  const { sessions } = await readManifest(run);
  await writeFileAtomic(
    join(run, manifestFile),
    manifest(config, data, [...sessions, entry(session, step)]),
  );
  await writeFileAtomic(join(run, configFile), stringify(config));
  const metrics = join(run, metricsFile);
  const lines = (await Deno.readTextFile(metrics)).split("\n").filter((line) =>
    isWhole(line) && (JSON.parse(line) as { step: number }).step <= step
  );
  await writeFileAtomic(metrics, lines.map((line) => `${line}\n`).join(""));
}

/** A kill may leave half a line, the last. */
function isWhole(line: string): boolean {
  return line.startsWith("{") && line.endsWith("}");
}

function entry({ version, command, device }: Session, from_step: number) {
  return { started: new Date().toISOString(), from_step, version, command, device };
}

function manifest(config: ResolvedConfig, data: ShardReader, sessions: readonly unknown[]): string {
  const contents = {
    format: "quern-run",
    seed: config.seed,
    data: { path: config.data.path, absolute_path: resolve(data.folder), sha256: data.hash },
    tokenizer: { kind: data.tokenizer.kind, sha256: data.tokenizer.hash },
    sessions,
  };
  return `${JSON.stringify(contents, null, 2)}\n`;
}

/** What is read of a manifest; runs of older versions lack the absolute path. */
interface Manifest {
  readonly data: { readonly path: string; readonly absolute_path?: string };
  readonly sessions: readonly unknown[];
}

async function readManifest(run: string): Promise<Manifest> {
  return JSON.parse(await Deno.readTextFile(join(run, manifestFile))) as Manifest;
}

/** Where a run's data are: where its config says, else where they were when it was last trained. */
export async function findData(run: string, { data: { path } }: PretrainConfig): Promise<string> {
  if (await exists(join(path, indexFileName))) return path;
  const { data } = await readManifest(run), before = data.absolute_path;
  const isThere = before !== undefined && await exists(join(before, indexFileName));
  return data.path === path && isThere ? before : path;
}

/** Whether a folder is a run's. */
export async function isRun(folder: string): Promise<boolean> {
  return await exists(join(folder, configFile));
}

/** The config of a run, with overrides. */
export async function readRunConfig(
  run: string,
  overrides: readonly string[] = [],
): Promise<PretrainConfig> {
  const path = join(run, configFile);
  if (await exists(path)) return await loadConfig(pretrainConfig, path, overrides);
  throw new UserError("not a run folder: it has no config.yaml", {
    where: run,
    exitCode: exitCodes.usage,
  });
}

/** Removes what a killed process left of checkpoints that it was writing, and names it. */
export async function removeBrokenCheckpoints(run: string): Promise<string[]> {
  const folder = checkpointsFolder(run);
  return await exists(folder) ? await removePartials(folder) : [];
}

/** Appends lines to a run's metrics, each whole. */
export function appendMetrics(run: string, record: Readonly<Record<string, number>>): void {
  const line = JSON.stringify(record);
  Deno.writeTextFileSync(join(run, metricsFile), `${line}\n`, { append: true });
}
