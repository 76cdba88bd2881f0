/**
 * Bits per byte of any text: how well a model foretells it, whatever its tokenizer. Every way of counting comes down to
 * rows with targets, some of them ignored; losses are summed in double precision.
 */

import {
  type Batch,
  emptyBatch,
  ignoredTarget,
  type Packing,
  type Row,
  rowOf,
  validationBatches,
} from "../data/batches.ts";
import type { SplitReader } from "../data/shard_reader.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { byteCounter } from "../train/byte_counter.ts";
import { wholeRows, type Window, windowsOfChallenge, windowsOnce } from "./windows.ts";

/**
 * `once`: every target once, documents as the model was trained. `challenge`: as parameter-golf does, one row of tokens
 * that is cut to whole rows or, in sliding windows, whose last targets are counted repeatedly. `harness`: each document
 * alone behind the token that begins one, its end not counted, in lm-evaluation-harness's rolling windows.
 */
export const countings = ["once", "challenge", "harness"] as const;
export type Counting = typeof countings[number];

export interface BitsOptions {
  readonly counting: Counting;
  /** Tokens from one window's end to the next; left out: rows side by side. */
  readonly stride?: number | undefined;
  /** How the model was trained. */
  readonly packing: Packing;
  /** Tokens of a row. */
  readonly length: number;
  readonly rows: number;
  /** Targets that are measured at most, from the start on. */
  readonly maxTargets?: number;
}

/** Each target's loss in nats, [rows · length], 0 where a target is ignored. */
export interface Scored {
  readonly batch: Batch;
  readonly losses: ArrayLike<number>;
}

/** What is measured with: a model on a device. */
export interface LossMeter {
  score(batches: Iterable<Batch>): AsyncIterable<Scored>;
}

export interface BitsPerByte {
  /** Counted, repeated ones each time. */
  readonly targets: number;
  readonly nats: number;
  /** Mean of the targets, in nats. */
  readonly loss: number;
  readonly perplexity: number;
  /** NaN where nobody knows. */
  readonly bytes: number;
  readonly bits_per_byte: number;
  readonly byte_perplexity: number;
  /** Where words were counted. */
  readonly words?: number | undefined;
  readonly word_perplexity?: number | undefined;
}

/** Whether rows hold several documents, which do not see each other. */
export function hasSegments({ counting, packing }: Pick<BitsOptions, "counting" | "packing">) {
  return counting !== "challenge" && packing === "documents";
}

export async function bitsPerByte(
  meter: LossMeter,
  { split, words }: { readonly split: SplitReader; readonly words?: number | undefined },
  tokenizer: Tokenizer,
  options: BitsOptions,
  onTargets: (counted: number) => void = () => {},
): Promise<BitsPerByte> {
  const counter = byteCounter(tokenizer, split), rows = rowsToScore(split, options);
  let nats = 0, targets = 0;
  for await (const { batch, losses } of meter.score(counter.watch(rows))) {
    batch.targets.forEach((target, i) => {
      if (target === ignoredTarget) return;
      nats += losses[i];
      targets++;
    });
    onTargets(targets);
  }
  const isWhole = options.maxTargets === undefined && options.counting !== "challenge";
  // those of the text itself, where a tokenizer changes it
  const isKnown = isWhole && options.counting === "harness" && Number.isFinite(split.bytes);
  const bytes = isKnown ? split.bytes : counter.counted();
  return {
    targets,
    nats,
    loss: nats / targets,
    perplexity: Math.exp(nats / targets),
    bytes,
    bits_per_byte: nats / Math.LN2 / bytes,
    byte_perplexity: Math.exp(nats / bytes),
    ...(words !== undefined && isWhole && {
      words,
      word_perplexity: Math.exp(nats / words),
    }),
  };
}

/** How many targets there are to count, repeated ones each time. */
export function targetsToScore(
  split: SplitReader,
  options: BitsOptions,
): number {
  let sum = 0;
  for (const { targets } of textsOf(split, options)) {
    for (const { length, from } of windowsOf(targets, options)) sum += length - from;
  }
  return sum;
}

/** The rows whose targets are counted. */
export function* rowsToScore(split: SplitReader, options: BitsOptions): Generator<Batch> {
  const { counting, stride, packing, length, rows, maxTargets } = options;
  if (counting === "once" && stride === undefined) {
    yield* validationBatches({ split, rows, length }, packing, maxTargets);
    return;
  }
  const sheet = rowSheet(split, options);
  for (const { targets, read } of textsOf(split, options)) {
    for (const window of windowsOf(targets, options)) {
      const tokens = new Int32Array(window.length + 1);
      read(window.start, tokens);
      const full = sheet.place(window, tokens);
      if (full) yield full;
    }
  }
  const last = sheet.rest();
  if (last) yield last;
}

/** A run of tokens of which all but the first are targets. */
interface Text {
  readonly targets: number;
  read(start: number, out: Int32Array): void;
}

function* textsOf(
  split: SplitReader,
  { counting, packing, maxTargets = Infinity }: BitsOptions,
): Generator<Text> {
  if (counting === "challenge" || (counting === "once" && packing !== "documents")) {
    yield { targets: Math.min(split.tokens - 1, maxTargets), read: split.read };
    return;
  }
  const starts = split.documentStarts();
  let left = maxTargets;
  for (let i = 0; i < starts.length - 1 && left > 0; i++) {
    const text = documentOf(split, [starts[i], starts[i + 1]], counting);
    const targets = Math.min(left, text.targets);
    left -= targets;
    if (targets > 0) yield { ...text, targets };
  }
}

/** A document behind the token that begins one; one that closes with no such token begins with its own. */
function documentOf(
  split: SplitReader,
  [start, end]: readonly [number, number],
  counting: Counting,
): Text {
  const { endOfText: beginning } = split, tokens = end - start;
  if (beginning === undefined) {
    return { targets: tokens - 1, read: (at, out) => split.read(start + at, out) };
  }
  return {
    targets: counting === "harness" ? tokens - 1 : tokens,
    read(at, out) {
      if (at > 0) return split.read(start + at - 1, out);
      out[0] = beginning;
      split.read(start, out.subarray(1));
    },
  };
}

function windowsOf(
  targets: number,
  { counting, stride, length }: Pick<BitsOptions, "counting" | "stride" | "length">,
): Iterable<Window> {
  if (counting !== "challenge") return windowsOnce(targets, length, stride ?? length);
  return stride === undefined
    ? wholeRows(targets, length)
    : windowsOfChallenge(targets, length, stride);
}

/** Rows that windows are written on: one each, or as many as fit where segments keep them apart. */
function rowSheet(split: SplitReader, options: BitsOptions) {
  const { rows, length } = options, shared = hasSegments(options);
  const blank = () => emptyBatch(split, rows, length);
  let batch = blank(), row = 0, at = 0, segment = 0;
  const nextRow = (): Batch | undefined => {
    [row, at, segment] = [row + 1, 0, 0];
    if (row < rows) return undefined;
    const full = batch;
    [batch, row] = [blank(), 0];
    return full;
  };
  return {
    /** Gives a batch that was full before. */
    place(window: Window, tokens: Int32Array): Batch | undefined {
      const isFull = at > 0 && (!shared || at + window.length > length);
      const full = isFull ? nextRow() : undefined;
      writeWindow(rowOf(batch, row), { at, segment: ++segment }, window, tokens);
      at += window.length;
      return full;
    },
    rest: () => row > 0 || at > 0 ? batch : undefined,
  };
}

function writeWindow(
  { ids, targets, segmentIds, positions }: Row,
  { at, segment }: { readonly at: number; readonly segment: number },
  { length, from }: Window,
  tokens: Int32Array,
): void {
  ids.set(tokens.subarray(0, length), at);
  targets.set(tokens.subarray(from + 1, length + 1), at + from);
  segmentIds.fill(segment, at, at + length);
  for (let i = 0; i < length; i++) positions[at + i] = i;
}
