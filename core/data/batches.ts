/**
 * Rows of tokens to train and to measure on, as a pure function of the data, a seed and a cursor.
 *
 * Three ways of packing:
 * - `windows`: random windows of the split as one row of tokens, documents regardless, as nanoGPT does.
 * - `stream`: the split from its first token to its last and again, documents regardless, as modded-nanogpt does.
 * - `documents`: every document once an epoch, shuffled anew each time, packed one after the other. A long
 *   document goes on in the next row; the next epoch follows in the same row, so nothing is lost. Each
 *   document is read after an end-of-text token, so its first token is learned, too; segment ids tell
 *   documents apart and positions restart with each.
 *
 * Rows follow each other: eight rows at once are the rows of two batches of four.
 *
 * @module
 */
import { UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { purposes, shuffled, uniformBelow } from "./philox.ts";
import type { SplitReader } from "./shard_reader.ts";

/** The target of a place that has none: no loss there. */
export const ignoredTarget = -100;

/** Ways of making rows from documents. */
export const packings = ["documents", "windows", "stream"] as const;
/** A way of making rows from documents. */
export type Packing = typeof packings[number];

/** Rows of tokens; every array is [rows, length] in row order. */
export interface Batch {
  readonly rows: number;
  readonly length: number;
  readonly ids: Int32Array<ArrayBuffer>;
  /** The token that follows, or `ignoredTarget`. */
  readonly targets: Int32Array<ArrayBuffer>;
  /** Counts the documents of a row from 1; 0 is padding. Attention stays within a segment. */
  readonly segmentIds: Int32Array<ArrayBuffer>;
  /** Counts the tokens of a segment from 0. */
  readonly positions: Int32Array<ArrayBuffer>;
  /** How much each target counts, 0 where there is none; left out: 1 each. */
  readonly weights?: Float32Array<ArrayBuffer>;
}

/** Where reading stands; plain data that a checkpoint holds as JSON. */
export type Cursor = WindowCursor | StreamCursor | DocumentCursor;

interface WindowCursor {
  readonly packing: "windows";
  /** How many windows were drawn. */
  readonly window: number;
}

interface StreamCursor {
  readonly packing: "stream";
  /** The place in the split of the next row's first token. */
  readonly token: number;
}

interface DocumentCursor {
  readonly packing: "documents";
  readonly epoch: number;
  /** The place in this epoch's order of documents. */
  readonly document: number;
  /** How many of the document's targets were given. */
  readonly offset: number;
}

/** What rows are made from; the same source and cursor give the same batch. */
export interface BatchSource {
  readonly split: SplitReader;
  readonly rows: number;
  readonly length: number;
  readonly seed: number;
}

/** The cursor that a run begins with. */
export function firstCursor(packing: Packing): Cursor {
  switch (packing) {
    case "windows":
      return { packing, window: 0 };
    case "stream":
      return { packing, token: 0 };
    case "documents":
      return { packing, epoch: 0, document: 0, offset: 0 };
  }
}

/** The next training rows, and the cursor behind them. */
export function nextBatch(source: BatchSource, cursor: Cursor): { batch: Batch; cursor: Cursor } {
  const { split, rows, length } = source;
  requireTargets(split, cursor.packing, length);
  const batch = emptyBatch(split, rows, length);
  let next = cursor;
  for (let row = 0; row < rows; row++) next = fillRow(source, rowOf(batch, row), next);
  return { batch, cursor: next };
}

/** Fills the next training row; returns the cursor behind it. */
export function fillRow(
  { split, seed, length }: Omit<BatchSource, "rows">,
  row: Row,
  cursor: Cursor,
): Cursor {
  if (cursor.packing === "documents") {
    return packRow(
      split,
      row,
      cursor,
      (at) => shuffled(at.document, split.documents, seed, at.epoch),
    );
  }
  if (cursor.packing === "stream") {
    fillOn(split, row, cursor.token);
    return { packing: "stream", token: (cursor.token + length) % split.tokens };
  }
  const start = uniformBelow(seed, purposes.window, cursor.window, split.tokens - length);
  fillWindow(split, row, start);
  return { packing: "windows", window: cursor.window + 1 };
}

/**
 * The whole split in order, or its first `maxTargets` targets. Short rows and a short last batch are
 * padded with targets that are ignored, so the number of rows cannot change a sum over the targets.
 */
export function* validationBatches(
  source: Omit<BatchSource, "seed">,
  packing: Packing,
  maxTargets = Infinity,
): Generator<Batch> {
  const { split, rows, length } = source;
  let left = Math.min(maxTargets, countTargets(split, packing));
  let cursor = firstCursor(packing);
  while (left > 0) {
    const batch = emptyBatch(split, rows, length);
    for (let row = 0; row < rows && left > 0; row++) {
      const views = rowOf(batch, row);
      cursor = fillValidationRow(split, views, cursor);
      const given = views.targets.filter((target) => target !== ignoredTarget).length;
      if (given > left) views.targets.fill(ignoredTarget, left); // targets stand at the row's start
      left -= given;
    }
    yield batch;
  }
}

function fillValidationRow(split: SplitReader, row: Row, cursor: Cursor): Cursor {
  if (cursor.packing === "documents") {
    return packRow(split, row, cursor, (at) => at.epoch === 0 ? at.document : undefined);
  }
  if (cursor.packing === "stream") {
    fillWindow(split, row, cursor.token);
    return { packing: "stream", token: cursor.token + row.ids.length };
  }
  fillWindow(split, row, cursor.window * row.ids.length);
  return { packing: "windows", window: cursor.window + 1 };
}

/** How many targets a split has: a first token is one only where an end-of-text token stands before it. */
export function countTargets(split: SplitReader, packing: Packing): number {
  if (packing !== "documents") return Math.max(0, split.tokens - 1);
  const starts = split.documentStarts();
  let targets = 0;
  for (let i = 0; i < split.documents; i++) {
    targets += documentTargets(split, starts[i + 1] - starts[i]);
  }
  return targets;
}

function documentTargets(split: SplitReader, tokens: number): number {
  return Math.max(0, split.endOfText === undefined ? tokens - 1 : tokens);
}

/** One row of a batch, as views of its arrays. */
export type Row = Pick<Batch, "ids" | "targets" | "segmentIds" | "positions" | "weights">;

/** Rows of padding. */
export function emptyBatch(
  split: Pick<SplitReader, "endOfText">,
  rows: number,
  length: number,
  weighting: "weighted" | "even" = "even",
): Batch {
  const size = rows * length;
  return {
    rows,
    length,
    ids: new Int32Array(size).fill(split.endOfText ?? 0),
    targets: new Int32Array(size).fill(ignoredTarget),
    segmentIds: new Int32Array(size),
    positions: new Int32Array(size),
    ...(weighting === "weighted" && { weights: new Float32Array(size) }),
  };
}

export function rowOf(batch: Batch, row: number): Row {
  const { length, ids, targets, segmentIds, positions, weights } = batch;
  const [from, to] = [row * length, (row + 1) * length];
  return {
    ids: ids.subarray(from, to),
    targets: targets.subarray(from, to),
    segmentIds: segmentIds.subarray(from, to),
    positions: positions.subarray(from, to),
    ...(weights && { weights: weights.subarray(from, to) }),
  };
}

/** How much the targets of a row or batch count: what a sum of their losses is divided by. */
export function countOf({ targets, weights }: Pick<Batch, "targets" | "weights">): number {
  return weights
    ? weights.reduce((sum, weight) => sum + weight, 0)
    : targets.reduce((count, target) => count + (target < 0 ? 0 : 1), 0);
}

/** Tokens of a row or batch: those that are learned, or where some are only read all but padding. */
export function tokensIn({ targets, segmentIds, weights }: Omit<Row, "ids" | "positions">): number {
  const [words, least] = weights ? [segmentIds, 1] : [targets, 0];
  return words.reduce((count, word) => count + (word >= least ? 1 : 0), 0);
}

/** Fills a row with the tokens from `start` on, as one segment, as far as there are targets. */
function fillWindow(split: SplitReader, row: Row, start: number): void {
  const count = Math.min(row.ids.length, split.tokens - 1 - start);
  const tokens = new Int32Array(count + 1);
  split.read(start, tokens);
  fillSegment(row, { at: 0, segment: 1 }, tokens);
}

/** Fills a row with the tokens from `start` on, as one segment; the first token follows the last. */
function fillOn(split: SplitReader, row: Row, start: number): void {
  const tokens = new Int32Array(row.ids.length + 1);
  const count = Math.min(tokens.length, split.tokens - start);
  split.read(start, tokens.subarray(0, count));
  split.read(0, tokens.subarray(count));
  fillSegment(row, { at: 0, segment: 1 }, tokens);
}

/** Packs documents into a row until it is full or `documentAt` has no more. */
function packRow(
  split: SplitReader,
  row: Row,
  cursor: DocumentCursor,
  documentAt: (cursor: DocumentCursor) => number | undefined,
): DocumentCursor {
  const starts = split.documentStarts();
  let { epoch, document, offset } = cursor;
  for (let at = 0, segment = 1; at < row.ids.length;) {
    const found = documentAt({ packing: "documents", epoch, document, offset });
    if (found === undefined) break;
    const left = documentTargets(split, starts[found + 1] - starts[found]) - offset;
    const count = Math.min(row.ids.length - at, left);
    if (count > 0) {
      fillSegment(row, { at, segment }, tokensWithTargets(split, starts[found], offset, count));
      at += count;
      offset += count;
      segment++;
    }
    if (count === left) {
      [document, offset] = [document + 1, 0];
      if (document === split.documents) [epoch, document] = [epoch + 1, 0];
    }
  }
  return { packing: "documents", epoch, document, offset };
}

/** `count` targets of a document from its target `offset` on, the token before the first in front. */
function tokensWithTargets(split: SplitReader, start: number, offset: number, count: number) {
  const tokens = new Int32Array(count + 1);
  if (split.endOfText === undefined) split.read(start + offset, tokens);
  else if (offset > 0) split.read(start + offset - 1, tokens);
  else {
    tokens[0] = split.endOfText;
    split.read(start, tokens.subarray(1));
  }
  return tokens;
}

/** Writes n+1 tokens as n inputs and n targets. */
function fillSegment(row: Row, place: { at: number; segment: number }, tokens: Int32Array): void {
  const { at, segment } = place;
  const count = tokens.length - 1;
  row.ids.set(tokens.subarray(0, count), at);
  row.targets.set(tokens.subarray(1), at);
  row.segmentIds.fill(segment, at, at + count);
  for (let i = 0; i < count; i++) row.positions[at + i] = i;
}

/** Refuses a split that fills no row; `folder` names it where there are several. */
export function requireTargets(
  split: SplitReader,
  packing: Packing,
  length: number,
  folder?: string,
): void {
  const { tokens, documents, endOfText } = split;
  const unlearned = packing !== "documents" ? length : endOfText === undefined ? documents : 0;
  if (tokens > unlearned) return;
  throw new UserError(
    `the ${split.name} split has ${
      plural(tokens, "token")
    }: too few for rows of ${length} (${packing})`,
    {
      ...(folder === undefined ? {} : { where: folder }),
      hint: "use more text or shorter rows (sequence_length)",
    },
  );
}
