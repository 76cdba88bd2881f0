/**
 * Rows of whole conversations, as a pure function of the data, a seed and a cursor. Two ways:
 * - `packed`: several in a row: the longest first, each goes into the first row that has room, those of a length in an order
 *   that is shuffled anew each epoch; then the rows are shuffled. Segment ids tell them apart and positions restart with each.
 * - `buckets`: one in a row, padded to the shortest of a few lengths that holds it; rows that are on the device at once have
 *   one length. The lengths take turns, so that all are done at the epoch's end.
 *
 * Either way an epoch has each conversation once.
 *
 * @module
 */
import { type Batch, emptyBatch, ignoredTarget, type Row, rowOf, tokensIn } from "./batches.ts";
import { type Bins, firstFit } from "./first_fit.ts";
import { chooseSource, fillMixed, type MixtureCursor, seedOf } from "./mixture.ts";
import { shuffled } from "./philox.ts";

/** Ways of making rows from conversations. */
export const conversationPackings = ["packed", "buckets"] as const;
/** A way of making rows from conversations. */
export type ConversationPacking = typeof conversationPackings[number];

/** Where reading stands; plain data that a checkpoint holds as JSON. */
export type ConversationCursor = PackedCursor | BucketCursor;

interface PackedCursor {
  readonly packing: "packed";
  /** Of the rows that were given, in tokens. */
  readonly length: number;
  readonly epoch: number;
  /** Rows of the epoch that were given. */
  readonly row: number;
}

interface BucketCursor {
  readonly packing: "buckets";
  readonly lengths: readonly number[];
  readonly epoch: number;
  /** Conversations of the epoch that were given, of each length. */
  readonly taken: readonly number[];
}

/** Conversations of one source, as they are trained on. */
export interface Conversations {
  readonly count: number;
  /** How many tokens one has, at least two. */
  lengthOf(conversation: number): number;
  /** How much its targets count together; above 0. */
  countOf(conversation: number): number;
  /** Its ids, and how much each counts as a target. */
  read(conversation: number): { readonly ids: Int32Array; readonly weights: Float32Array };
}

/** Rows that are on the device at once. */
export interface RowsAtOnce {
  readonly rows: number;
  readonly length: number;
}

/** One source's rows, each shape filled by where the cursor stands. */
interface SourceRows<C extends ConversationCursor> {
  readonly first: C;
  /** Of an epoch, where so many rows are on the device at once. */
  rowsIn(epoch: number): number;
  /** Which of its lengths the rows at a cursor have. */
  lengthAt(cursor: C): number;
  /** Fills a row, or leaves it empty where the epoch has no more of its length; the cursor behind it. */
  fill(row: Row, cursor: C): C;
  /** Where the next rows begin: another epoch where one is over. */
  settled(cursor: C): C;
}

export interface RowOptions {
  readonly packing: ConversationPacking;
  /** The shortest first; `packed` has one. */
  readonly lengths: readonly number[];
  readonly seed: number;
}

/** The rows of one source. */
export type ConversationRows = SourceRows<ConversationCursor>;

/** The rows of a source that is number `source` of a run's. */
export function conversationRows(
  conversations: Conversations,
  { packing, lengths, seed }: RowOptions,
  source = 0,
): ConversationRows {
  const own = seedOf(seed, source);
  return (packing === "packed"
    ? packedRows(conversations, lengths[0], own)
    : bucketRows(conversations, lengths, own)) as ConversationRows;
}

/** Where a token has a target: all but the last. */
const placesOf = (conversations: Conversations, i: number) => conversations.lengthOf(i) - 1;

function packedRows(
  conversations: Conversations,
  length: number,
  seed: number,
): SourceRows<PackedCursor> {
  const { count } = conversations, rowSeed = seedOf(seed, 2 ** 31);
  const binsOf = lastOf((epoch: number) => {
    const order = Uint32Array.from({ length: count }, (_, i) => shuffled(i, count, seed, epoch))
      .sort((a, b) => placesOf(conversations, b) - placesOf(conversations, a)); // of equal ones as it was
    const bins = firstFit(count, length, (i) => placesOf(conversations, order[i]));
    return { ...bins, members: bins.members.map((i) => order[i]) };
  });
  const settled = (cursor: PackedCursor) =>
    cursor.row < binsOf(cursor.epoch).count
      ? cursor
      : { ...cursor, epoch: cursor.epoch + 1, row: 0 };
  return {
    first: { packing: "packed", length, epoch: 0, row: 0 },
    rowsIn: (epoch) => binsOf(epoch).count,
    lengthAt: () => length,
    fill(row, cursor) {
      const { epoch } = cursor, bins = binsOf(epoch);
      packRow(row, conversations, bins, shuffled(cursor.row, bins.count, rowSeed, epoch));
      return settled({ ...cursor, row: cursor.row + 1 });
    },
    settled,
  };
}

function bucketRows(
  conversations: Conversations,
  lengths: readonly number[],
  seed: number,
): SourceRows<BucketCursor> {
  const { count } = conversations, none = lengths.map(() => 0);
  const bucketsOf = lastOf((epoch: number) => {
    const buckets: number[][] = lengths.map(() => []);
    for (let i = 0; i < count; i++) {
      const conversation = shuffled(i, count, seed, epoch),
        places = placesOf(conversations, conversation);
      buckets[lengths.findIndex((length) => length >= places)].push(conversation);
    }
    return buckets;
  });
  return {
    first: { packing: "buckets", lengths, epoch: 0, taken: none },
    rowsIn: () => count,
    /** The length of which the smallest part was given. */
    lengthAt({ epoch, taken }) {
      const parts = bucketsOf(epoch).map(({ length }, i) => (taken[i] + 0.5) / length);
      const open = parts.map((part, i) => taken[i] < bucketsOf(epoch)[i].length ? part : Infinity);
      return lengths[open.indexOf(Math.min(...open))];
    },
    fill(row, cursor) {
      const at = lengths.indexOf(row.ids.length),
        conversation = bucketsOf(cursor.epoch)[at][cursor.taken[at]];
      if (conversation === undefined) return cursor;
      placeIn(row, { at: 0, segment: 1 }, conversations.read(conversation));
      return { ...cursor, taken: cursor.taken.with(at, cursor.taken[at] + 1) };
    },
    settled(cursor) {
      const isOver = bucketsOf(cursor.epoch).every(({ length }, i) => cursor.taken[i] === length);
      return isOver ? { ...cursor, epoch: cursor.epoch + 1, taken: none } : cursor;
    },
  };
}

/** What `make` makes of a key; asked for the same again, it is not made twice. */
function lastOf<T>(make: (key: number) => T): (key: number) => T {
  let last: { readonly key: number; readonly made: T } | undefined;
  return (key) => {
    if (last?.key !== key) last = { key, made: make(key) };
    return last.made;
  };
}

function packRow(row: Row, conversations: Conversations, bins: Bins, bin: number): void {
  let at = 0, segment = 1;
  for (const conversation of bins.members.subarray(bins.starts[bin], bins.starts[bin + 1])) {
    at += placeIn(row, { at, segment: segment++ }, conversations.read(conversation));
  }
}

/** Writes n + 1 tokens as n inputs and n targets; returns n. */
function placeIn(
  row: Row,
  { at, segment }: { readonly at: number; readonly segment: number },
  { ids, weights }: ReturnType<Conversations["read"]>,
): number {
  const count = ids.length - 1;
  row.ids.set(ids.subarray(0, count), at);
  row.segmentIds.fill(segment, at, at + count);
  for (let i = 0; i < count; i++) {
    const weight = weights[i + 1];
    row.positions[at + i] = i;
    row.targets[at + i] = weight > 0 ? ids[i + 1] : ignoredTarget;
    row.weights![at + i] = weight;
  }
  return count;
}

/** What rows are made from; the same source and cursor give the same rows. */
export interface ConversationSource {
  readonly sources: readonly ConversationRows[];
  /** Of a mixture: the sources' shares of the rows of a step, which sum to 1. */
  sharesAt(step: number): readonly number[];
  /** The id of padding; it is read, and never a target. */
  readonly padding: number;
}

type Place = ConversationCursor | MixtureCursor<ConversationCursor>;

/** The next rows, in one of `shapes`, and the cursor behind them. */
export function nextConversations(
  { sources, sharesAt, padding }: ConversationSource,
  cursor: Place,
  { step, shapes }: { readonly step: number; readonly shapes: readonly RowsAtOnce[] },
): { batch: Batch; cursor: Place } {
  const empty = (length: number) => {
    const { rows } = shapes.find((shape) => shape.length === length)!;
    return emptyBatch({ endOfText: padding }, rows, length, "weighted");
  };
  if (!("sources" in cursor)) {
    const batch = empty(sources[0].lengthAt(cursor));
    return { batch, cursor: fillAll(batch, sources[0], cursor) };
  }
  const isPacked = cursor.sources[0].cursor.packing === "packed", shares = sharesAt(step);
  if (isPacked) {
    const batch = empty(shapes[0].length);
    return { batch, cursor: fillMixed(batch, cursor, shares, sources.map(({ fill }) => fill)) };
  }
  // all at once are of one source, as of one length
  const { chosen, credits } = chooseSource(cursor.sources.map(({ credit }) => credit), shares);
  const before = cursor.sources[chosen], batch = empty(sources[chosen].lengthAt(before.cursor));
  const after = { cursor: fillAll(batch, sources[chosen], before.cursor) };
  const tokens = before.tokens + tokensIn(batch);
  const next = cursor.sources.map((one, i) => ({
    ...one,
    credit: credits[i],
    ...(i === chosen && { ...after, tokens }),
  }));
  return { batch, cursor: { sources: next } };
}

function fillAll(batch: Batch, { fill, settled }: ConversationRows, cursor: ConversationCursor) {
  for (let row = 0; row < batch.rows; row++) cursor = fill(rowOf(batch, row), cursor);
  return settled(cursor);
}

/**
 * All conversations in their order, until their targets count `maxTargets`: the last one that is begun is whole. How they are packed
 * cannot change a sum over the targets.
 */
export function* conversationsInOrder(
  conversations: Conversations,
  { packing, shapes, padding }: {
    readonly packing: ConversationPacking;
    readonly shapes: readonly RowsAtOnce[];
    readonly padding: number;
  },
  maxTargets = Infinity,
): Generator<Batch> {
  const count = conversationsUntil(conversations, maxTargets);
  for (const { rows, length, lists } of listsOf(conversations, count, packing, shapes)) {
    for (let from = 0; from < lists.length; from += rows) {
      const batch = emptyBatch({ endOfText: padding }, rows, length, "weighted");
      for (const [row, list] of lists.slice(from, from + rows).entries()) {
        let at = 0;
        list.forEach((conversation, i) => {
          const place = { at, segment: i + 1 };
          at += placeIn(rowOf(batch, row), place, conversations.read(conversation));
        });
      }
      yield batch;
    }
  }
}

/** How many conversations it takes until their targets count so much. */
function conversationsUntil({ count, countOf }: Conversations, maxTargets: number): number {
  let taken = 0;
  for (let targets = 0; taken < count && targets < maxTargets; taken++) targets += countOf(taken);
  return taken;
}

/** What the targets of the first conversations count, as `conversationsInOrder` gives them. */
export function countInOrder(conversations: Conversations, maxTargets: number): number {
  const taken = conversationsUntil(conversations, maxTargets);
  let targets = 0;
  for (let i = 0; i < taken; i++) targets += conversations.countOf(i);
  return targets;
}

/** Which conversations share a row, of each shape. */
function listsOf(
  conversations: Conversations,
  count: number,
  packing: ConversationPacking,
  shapes: readonly RowsAtOnce[],
) {
  if (packing === "packed") {
    const { starts, members, ...bins } = firstFit(
      count,
      shapes[0].length,
      (i) => placesOf(conversations, i),
    );
    const lists = Array.from({ length: bins.count }, (_, b) => [
      ...members.subarray(starts[b], starts[b + 1]),
    ]);
    return [{ ...shapes[0], lists }];
  }
  const lists: number[][][] = shapes.map(() => []);
  for (let i = 0; i < count; i++) {
    lists[shapes.findIndex(({ length }) => length >= placesOf(conversations, i))].push([i]);
  }
  return shapes.map((shape, i) => ({ ...shape, lists: lists[i] }));
}
