/** Bits per byte of a model on a file or on shards: from paths to numbers. */

import { type Packing, packings } from "../data/batches.ts";
import { expandInputs } from "../data/inputs.ts";
import { isShards, openShards, requireTokenizer, type SplitReader } from "../data/shard_reader.ts";
import type { SplitName } from "../data/shard_index.ts";
import type { Device } from "../device/types.ts";
import { UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import type { OpenedModel } from "../open/mod.ts";
import {
  type BitsOptions,
  type BitsPerByte,
  bitsPerByte,
  type Counting,
  hasSegments,
  targetsToScore,
} from "./bits_per_byte.ts";
import { openLossMeter } from "./loss_meter.ts";
import { readTexts } from "./texts.ts";

/** What is measured, as a user says it. */
export interface BitsJob {
  /** A folder of shards; else files, folders or patterns of text. */
  readonly path: string;
  /** Of shards; val unless given. */
  readonly split?: SplitName | undefined;
  /** Of records: those that hold the text, joined by a blank line; `text` unless given. */
  readonly fields?: readonly string[] | undefined;
  /** What stands between documents of a text file. */
  readonly separator?: string | undefined;
  readonly counting: Counting;
  readonly stride?: number | undefined;
  /** Tokens of a row; the model's own unless given. */
  readonly context?: number | undefined;
  /** Rows at once; about 4,096 tokens unless given. */
  readonly rows?: number | undefined;
  readonly maxTargets?: number | undefined;
}

export interface MeasuredBits extends BitsPerByte {
  /** How they were counted. */
  readonly options: BitsOptions;
  readonly documents: number;
  readonly seconds: number;
}

/** Rows of models whose config does not say how long their training's were. */
const longestRow = 2048, tokensAtOnce = 4096;

export async function measureBits(
  opened: OpenedModel,
  device: Device,
  job: BitsJob,
  onProgress: (done: number, all: number) => void = () => {},
): Promise<MeasuredBits> {
  const { tokenizer } = opened, options = optionsOf(opened, job);
  using source = await openSource(opened, job);
  const { split } = source, { rows, length } = options;
  const all = targetsToScore(split, options);
  if (all === 0) throw tooShort(split, job.path, options);
  using meter = await openLossMeter({ ...opened, weights: opened.file }, device, {
    rows,
    length,
    segments: hasSegments(options),
  });
  const started = performance.now();
  const found = await bitsPerByte(
    meter,
    source,
    tokenizer,
    options,
    (done) => onProgress(done, all),
  );
  return {
    ...found,
    options,
    documents: source.documents,
    seconds: (performance.now() - started) / 1000,
  };
}

function optionsOf({ config, model, tokenizer }: OpenedModel, job: BitsJob): BitsOptions {
  const { counting, stride, maxTargets } = job, most = model.dims.max_position_embeddings;
  const length = job.context ?? (config ? most : Math.min(most, longestRow));
  const refuse = (option: string, message: string) => new UserError(`${option}: ${message}`);
  if (length > most) throw refuse("--context", `the model reads ${plural(most, "token")} at most`);
  if (stride !== undefined && stride > length) {
    throw refuse("--stride", `windows of ${plural(length, "token")} would leave out some between`);
  }
  const packing: Packing = packings.find((packing) => packing === config?.data.packing) ??
    (tokenizer.endOfText === undefined ? "stream" : "documents");
  const rows = job.rows ?? Math.max(1, Math.floor(tokensAtOnce / length));
  return {
    counting,
    packing,
    length,
    rows,
    ...(stride !== undefined && { stride }),
    ...(maxTargets !== undefined && { maxTargets }),
  };
}

interface Source extends Disposable {
  readonly split: SplitReader;
  readonly words?: number | undefined;
  readonly documents: number;
}

async function openSource(
  { tokenizer, beginning }: OpenedModel,
  { path, split: given, fields, separator }: BitsJob,
): Promise<Source> {
  const unmeant = (option: string, is: string) =>
    new UserError(`${option} is for ${is}`, { where: path, hint: "leave it out" });
  if (!await isShards(path)) {
    if (given) throw unmeant("--split", "token shards");
    const { split, words } = await readTexts(
      await expandInputs([path]),
      { format: "auto", fields: fields ?? ["text"], separator, onError: "stop" },
      tokenizer,
      beginning,
    );
    return { split, words, documents: split.documents, [Symbol.dispose]: () => {} };
  }
  if (fields) throw unmeant("--field", "texts");
  if (separator !== undefined) throw unmeant("--document-separator", "texts");
  const name = given ?? "val", shards = await openShards(path), split = shards.splits[name];
  using stack = new DisposableStack();
  stack.use(shards);
  requireTokenizer(shards, tokenizer);
  if (split.tokens === 0) {
    throw new UserError(`the ${name} split is empty`, {
      where: path,
      hint: name === "val" ? "measure what was trained on: --split train" : "give other data",
    });
  }
  const owned = stack.move();
  return { split, documents: split.documents, [Symbol.dispose]: () => owned.dispose() };
}

function tooShort({ tokens }: SplitReader, where: string, { counting, length }: BitsOptions) {
  const needed = counting === "challenge"
    ? `a whole row of ${length}`
    : "a token and one before it";
  return new UserError(`${plural(tokens, "token")}: nothing to measure`, {
    where,
    hint: `it takes ${needed}`,
  });
}
