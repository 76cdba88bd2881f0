/** The open data of a run, and whether they are the ones that it began with. */

import { firstCursor, type Packing, requireTargets } from "../data/batches.ts";
import {
  type DataCursor,
  firstMixtureCursor,
  type ShardCursor,
  sourceNames,
} from "../data/mixture.ts";
import { openShards, type ShardReader } from "../data/shard_reader.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Checkpoint, CheckpointState } from "./checkpoint.ts";
import type { RunConfig } from "./config.ts";
import {
  type DataConfig,
  dataPaths,
  type DataPlaces,
  sharesOf,
  sharesOfRun,
  type WeighedSources,
} from "./data_config.ts";
import { timelineOf } from "./timeline.ts";

/** One folder of a run's data. */
export interface OpenSource {
  /** What it is called: of its path what tells it from the others. */
  readonly name: string;
  /** As the config says it. */
  readonly path: string;
  readonly shards: ShardReader;
}

/** A run's folders, made with one tokenizer; close them with `using`. */
export interface OpenData extends Disposable {
  readonly sources: readonly OpenSource[];
  /** Whether the config mixes sources, be it one. */
  readonly isMixture: boolean;
  readonly tokenizer: Tokenizer;
  readonly vocabSize: number;
}

/** Opens the data of a config; `folders` are where they lie, in order, if not where the config says. */
export async function openData(
  config: DataConfig,
  folders: readonly string[] = dataPaths(config),
): Promise<OpenData> {
  const paths = dataPaths(config), names = sourceNames(paths);
  using stack = new DisposableStack();
  const sources: OpenSource[] = [];
  for (const [i, folder] of folders.entries()) {
    sources.push({ name: names[i], path: paths[i], shards: stack.use(await openShards(folder)) });
  }
  const [{ shards: first }, ...others] = sources;
  for (const { shards } of others) requireSameTokenizer(first, shards);
  const owned = stack.move();
  return {
    sources,
    isMixture: config.sources !== undefined,
    tokenizer: first.tokenizer,
    vocabSize: first.index.vocab_size,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Ids of different tokenizers mean different texts. */
function requireSameTokenizer(first: ShardReader, other: ShardReader): void {
  const key = ({ index: { tokenizer, vocab_size, end_of_text } }: ShardReader) =>
    [tokenizer.sha256, vocab_size, end_of_text].join();
  if (key(first) === key(other)) return;
  const name = ({ index: { tokenizer, vocab_size } }: ShardReader) =>
    `${tokenizer.kind} ${tokenizer.sha256.slice(0, 12)} (${vocab_size} tokens)`;
  throw new UserError(
    `made with the tokenizer ${name(other)}, but ${first.folder} with ${name(first)}`,
    {
      where: other.folder,
      hint: "sources of one run need one tokenizer: tokenize one of them again",
    },
  );
}

/** Refuses a model whose table is too short for the data's tokens; `ofModel` is undefined where the data's is taken. */
export function requireVocabulary(ofModel: number | undefined, ofData: number): void {
  if (ofModel === undefined || ofModel >= ofData) return;
  throw new UserError(`the data have ${ofData} tokens, the model only ${ofModel}`, {
    where: "model.vocab_size",
    hint: "leave it out to take the data's; a run goes on only with the data that it began with",
  });
}

/** Refuses a source that fills no row. */
export function requireAllTargets(data: OpenData, packing: Packing, length: number): void {
  for (const { shards: { folder, splits } } of data.sources) {
    requireTargets(splits.train, packing, length, data.isMixture ? folder : undefined);
  }
}

/** The cursor that a run begins with. */
export function firstDataCursor({ sources, isMixture }: OpenData, packing: Packing): ShardCursor {
  return isMixture ? firstMixtureCursor(packing, sources.length) : firstCursor(packing);
}

/** What names the data in a checkpoint: one hash, or of a mixture each source's. */
export function fingerprintOf(
  hashes: readonly { readonly path: string; readonly sha256: string }[],
  isMixture: boolean,
): CheckpointState["data_sha256"] {
  return isMixture ? hashes.map(({ path, sha256 }) => ({ path, sha256 })) : hashes[0].sha256;
}

/** Tokens that each source gave, by its name; undefined where there is one. */
export function tokensBySource(
  sources: readonly { readonly name: string }[],
  cursor: DataCursor,
): Record<string, number> | undefined {
  if (!("sources" in cursor)) return undefined;
  return Object.fromEntries(cursor.sources.map(({ tokens }, i) => [sources[i].name, tokens]));
}

/** What a source will give over a whole run. */
export interface SourcePlan {
  readonly name: string;
  readonly path: string;
  /** Its part of all tokens, of the first update's, and of the last's. */
  readonly share: number;
  readonly firstShare: number;
  readonly lastShare: number;
  /** Infinity where only time ends the run. */
  readonly tokens: number;
  /** How often its targets are given; undefined where the data are not here. Random windows count their tokens. */
  readonly epochs: number | undefined;
}

/** A config that leaves nothing open, and says what its sources are. */
export type PlannedConfig = RunConfig & { readonly data: DataPlaces & WeighedSources };

/** What each source will give, in order. `epochTargets`: of each, the targets of an epoch. */
export function planSources(
  config: PlannedConfig,
  epochTargets: readonly number[] | undefined,
): SourcePlan[] {
  const { data } = config, timeline = timelineOf(config), { end, tokensAt } = timeline;
  const paths = dataPaths(data), names = sourceNames(paths), sharesAt = sharesOf(data, timeline);
  const all = sharesOfRun(data, timeline), first = sharesAt(0);
  const last = end === Infinity ? all : sharesAt(end - 1);
  return paths.map((path, i) => {
    const tokens = Math.round(all[i] * tokensAt(end));
    return {
      name: names[i],
      path,
      share: all[i],
      firstShare: first[i],
      lastShare: last[i],
      tokens,
      epochs: epochTargets && tokens / epochTargets[i],
    };
  });
}

/** A source of data that is here: what names its contents, and where it lies. */
export interface NamedData {
  readonly hash: string;
  readonly where: string;
}

/** Refuses data that are not those of a checkpoint. They may have moved, and weights may differ. */
export function requireSameData(
  { path, state }: Checkpoint,
  now: readonly NamedData[],
  isMixture: boolean,
): void {
  const before = state.data_sha256;
  const refuse = (what: string, where: string, hint: string): never => {
    throw new UserError(what, { where, hint, exitCode: exitCodes.failed });
  };
  const belongs = (hash: string) => `${path} belongs to data with the hash ${hash.slice(0, 12)}`;
  const other = "the run was trained on other data than are there now";
  if (typeof before === "string") {
    if (isMixture) refuse("the run was trained on one source", "data", "go on with data.path");
    if (now[0].hash !== before) refuse(other, now[0].where, belongs(before));
    return;
  }
  if (!isMixture) {
    refuse("the run was trained on several sources", "data", "go on with data.sources");
  }
  const hashes = before.map(({ sha256 }) => sha256);
  const keep = "a run keeps its sources, in their order; a weight of 0 rests one";
  if (now.length < before.length) {
    const gone = before.find(({ sha256 }) => !now.some(({ hash }) => hash === sha256));
    const { path } = gone ?? before[now.length];
    refuse(`the source ${path} of the run is missing`, "data.sources", keep);
  }
  for (const [i, { where, hash }] of now.entries()) {
    if (hash === hashes[i]) continue;
    if (hashes.includes(hash)) refuse("the run has it at another place", where, keep);
    if (i >= hashes.length) refuse("the run began without this source", where, keep);
    refuse(other, where, belongs(hashes[i]));
  }
}

/** Whether a source has held-out text to measure on. */
export function holdsOut({ shards }: OpenSource): boolean {
  return shards.splits.val.tokens > 0;
}
