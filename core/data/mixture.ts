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
  ignoredTarget,
  nextBatch,
  type Packing,
  rowOf,
} from "./batches.ts";
import { philox, purposes } from "./philox.ts";
import type { SplitReader } from "./shard_reader.ts";

/** Where reading several sources stands; plain data that a checkpoint holds as JSON. */
export interface MixtureCursor {
  readonly sources: readonly SourceCursor[];
}

interface SourceCursor {
  /** Rows that it is owed; below 0 it gave more than its share. */
  readonly credit: number;
  /** Targets that it gave. */
  readonly tokens: number;
  readonly cursor: Cursor;
}

/** Where a run's data stand: in its one folder, or in a mixture. */
export type DataCursor = Cursor | MixtureCursor;

/** What rows are made from: the splits, and of a mixture their shares of the rows of a step, which sum to 1. */
export interface RowSource extends Omit<BatchSource, "split"> {
  readonly splits: readonly SplitReader[];
  sharesAt(step: number): readonly number[];
}

/** The cursor that a mixture of `count` sources begins with. */
export function firstMixtureCursor(packing: Packing, count: number): MixtureCursor {
  const cursor = firstCursor(packing);
  return { sources: Array.from({ length: count }, () => ({ credit: 0, tokens: 0, cursor })) };
}

/** How the rows before a cursor were made. */
export function packingOf(cursor: DataCursor): Packing {
  return ("sources" in cursor ? cursor.sources[0].cursor : cursor).packing;
}

/** The next training rows of an update, counted from 0, and the cursor behind them. */
export function nextRows(
  source: RowSource,
  cursor: DataCursor,
  step: number,
): { batch: Batch; cursor: DataCursor } {
  if (!("sources" in cursor)) return nextBatch({ ...source, split: source.splits[0] }, cursor);
  const { splits, rows, length, seed } = source, shares = source.sharesAt(step);
  const batch = emptyBatch(splits[0], rows, length);
  const sources = [...cursor.sources];
  for (let at = 0; at < rows; at++) {
    const { chosen, credits } = chooseSource(sources.map(({ credit }) => credit), shares);
    credits.forEach((credit, i) => sources[i] = { ...sources[i], credit });
    const row = rowOf(batch, at), before = sources[chosen];
    const from = { split: splits[chosen], seed: seedOf(seed, chosen), length };
    const next = fillRow(from, row, before.cursor);
    sources[chosen] = { ...before, tokens: before.tokens + targetsIn(row.targets), cursor: next };
  }
  return { batch, cursor: { sources } };
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
function seedOf(seed: number, source: number): number {
  return source === 0 ? seed : philox([source, 0, 0, 0], [seed, purposes.source])[0];
}

function targetsIn(targets: Int32Array): number {
  return targets.reduce((count, target) => count + (target === ignoredTarget ? 0 : 1), 0);
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
