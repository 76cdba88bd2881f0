/**
 * Rows of several sources, in given shares.
 *
 * Each row comes from one source. Every row adds each source's share to its credit; the largest credit gives
 * the row and pays 1 for it. So at any moment a source has given what its shares say to within one row: never
 * more than one ahead, and behind by less than one, or than 1/2 + 1/3 + … + 1/n with n > 3 sources. A source
 * whose share is 0 gives nothing; what it is owed waits, and the others' bounds widen by that. Each source has
 * epochs and a cursor of its own, so the others cannot change what it gives.
 *
 * @module
 */
import {
  type Batch,
  type BatchSource,
  type Cursor,
  emptyBatch,
  fillRow,
  firstCursor,
  nextBatch,
  type Packing,
  type Row,
  rowOf,
  tokensIn,
} from "./batches.ts";
import type { ConversationCursor, ConversationPacking } from "./conversation_rows.ts";
import { philox, purposes } from "./philox.ts";
import type { SplitReader } from "./shard_reader.ts";

/** Where reading several sources stands; plain data that a checkpoint holds as JSON. */
export interface MixtureCursor<C = Cursor> {
  readonly sources: readonly SourceCursor<C>[];
}

interface SourceCursor<C> {
  /** Rows that it is owed; below 0 it gave more than its share. */
  readonly credit: number;
  /** Targets that it gave. */
  readonly tokens: number;
  readonly cursor: C;
}

/** Where a run's data stand: in its one source, or in a mixture. */
export type DataCursor = AnyCursor | MixtureCursor<AnyCursor>;
type AnyCursor = Cursor | ConversationCursor;
/** Of token shards. */
export type ShardCursor = Cursor | MixtureCursor;

/** What rows are made from: the splits, and of a mixture their shares of the rows of a step, which sum to 1. */
export interface RowSource extends Omit<BatchSource, "split"> {
  readonly splits: readonly SplitReader[];
  sharesAt(step: number): readonly number[];
}

/** The cursor that a mixture of `count` sources begins with. */
export function firstMixtureCursor(packing: Packing, count: number): MixtureCursor {
  return mixtureCursor(Array(count).fill(firstCursor(packing)));
}

/** The cursor that a mixture begins with whose sources begin with these. */
export function mixtureCursor<C>(cursors: readonly C[]): MixtureCursor<C> {
  return { sources: cursors.map((cursor) => ({ credit: 0, tokens: 0, cursor })) };
}

/** How the rows before a cursor were made. */
export function packingOf(cursor: DataCursor): Packing | ConversationPacking {
  return ("sources" in cursor ? cursor.sources[0].cursor : cursor).packing;
}

/** The next training rows of an update, counted from 0, and the cursor behind them. */
export function nextRows(
  source: RowSource,
  cursor: ShardCursor,
  step: number,
): { batch: Batch; cursor: ShardCursor } {
  if (!("sources" in cursor)) return nextBatch({ ...source, split: source.splits[0] }, cursor);
  const { splits, rows, length, seed } = source;
  const batch = emptyBatch(splits[0], rows, length);
  const fills = splits.map((split, i): FillRow<Cursor> => {
    const from = { split, seed: seedOf(seed, i), length };
    return (row, before) => fillRow(from, row, before);
  });
  return { batch, cursor: fillMixed(batch, cursor, source.sharesAt(step), fills) };
}

/** Fills a row from where a source stands, and says where it stands then. */
export type FillRow<C> = (row: Row, cursor: C) => C;

/** Fills every row of a batch from one of the sources, in their shares; returns where they stand then. */
export function fillMixed<C>(
  batch: Batch,
  cursor: MixtureCursor<C>,
  shares: readonly number[],
  fills: readonly FillRow<C>[],
): MixtureCursor<C> {
  const sources = [...cursor.sources];
  for (let at = 0; at < batch.rows; at++) {
    const { chosen, credits } = chooseSource(sources.map(({ credit }) => credit), shares);
    credits.forEach((credit, i) => sources[i] = { ...sources[i], credit });
    const row = rowOf(batch, at), before = sources[chosen];
    const next = fills[chosen](row, before.cursor);
    sources[chosen] = { ...before, tokens: before.tokens + tokensIn(row), cursor: next };
  }
  return { sources };
}

/** Credits that differ by less are equal: rounding breaks no tie. */
const tie = 1e-9;

/** The source of the next row, and the credits after it. Of equal credits the first in order is taken. */
export function chooseSource(
  credits: readonly number[],
  shares: readonly number[],
): { chosen: number; credits: number[] } {
  const next = credits.map((credit, i) => credit + shares[i]);
  let chosen = -1;
  for (let i = 0; i < next.length; i++) {
    if (shares[i] > 0 && (chosen < 0 || next[i] > next[chosen] + tie)) chosen = i;
  }
  if (chosen < 0) throw new RangeError("no source has a share");
  next[chosen] -= 1;
  return { chosen, credits: next };
}

/** The first source draws as if it were alone, each other in an order of its own. */
export function seedOf(seed: number, source: number): number {
  return source === 0 ? seed : philox([source, 0, 0, 0], [seed, purposes.source])[0];
}

/**
 * Names for folders: the last part of each path, with as many parts before it as tell it from the others; a
 * path that stands twice is counted.
 */
export function sourceNames(paths: readonly string[]): string[] {
  const parts = paths.map((path) =>
    path.split(/[\\/]+/).filter((part) => part !== "" && part !== ".")
  );
  const tail = (i: number, count: number) => parts[i].slice(-count).join("/");
  return paths.map((path, i) => {
    for (let count = 1; count <= parts[i].length; count++) {
      const isShared = paths.some((_, j) => j !== i && tail(j, count) === tail(i, count));
      if (!isShared) return tail(i, count);
    }
    const whole = parts[i].join("/") || path;
    const before = parts.slice(0, i).filter((other) => other.join("/") === whole).length;
    return before === 0 ? whole : `${whole} (${before + 1})`;
  });
}
