/**
 * What both directions of attention share: a strip of queries, the keys it may see, and the scores
 * between them. Scores of 48 queries are made at once by the panels of matrix products; nothing is
 * rescaled, and memory stays linear in the length of the row.
 */

import {
  type FunctionBuilder,
  type I32,
  i32,
  type I32Value,
  i32x4,
  type Local,
  type V128,
  v128,
} from "./encode.ts";
import {
  columnsOf,
  type Dense,
  multiplyPanels,
  packPanels,
  type Stored,
  type Tile,
} from "./panels.ts";

/**
 * Queries of a strip: a multiple of every tile's rows. Longer ones were measured slower, as causal
 * strips then skip less.
 */
export const stripRows = 48;

/** What a kernel is compiled for. Sizes are arguments; these change its code. */
export interface Variant {
  readonly tile: Tile;
  readonly q: Stored;
  readonly k: Stored;
  readonly v: Stored;
  /** The result, or what comes back of it. */
  readonly out: Stored;
  /** In the backward pass: the result's cotangent, and those of q, k and v. */
  readonly dout?: Stored;
  readonly gradients?: readonly [Stored, Stored, Stored];
  readonly segments: boolean;
  readonly softcap: boolean;
  /** Queries stand at `start[b]` + their index in a cache. */
  readonly cached: boolean;
}

export function variantKey(variant: Variant): string {
  const { tile, q, k, v, out, dout, gradients, segments, softcap, cached } = variant;
  return [tile.relaxed, q, k, v, out, dout, gradients, segments, softcap, cached].join(" ");
}

/** Arguments of every strip kernel that say which keys a query may see. */
export interface Sight {
  /** Key positions there are. */
  readonly keys: Local<"i32">;
  readonly causal: Local<"i32">;
  readonly window: Local<"i32">;
}

/** A strip: queries first .. first + rows − 1 see keys within low .. high − 1. */
export interface Strip {
  readonly first: Local<"i32">;
  readonly rows: Local<"i32">;
  /** `rows`, rounded up to whole tiles. */
  readonly paddedRows: Local<"i32">;
  /** Position of the first query among the keys. */
  readonly position: Local<"i32">;
  /** A multiple of the tile's columns. */
  readonly low: Local<"i32">;
  readonly high: Local<"i32">;
  /** high − low, rounded up to whole tiles. */
  readonly columns: Local<"i32">;
}

const roundUp = (x: I32, multiple: number): I32 =>
  i32.mul(i32.divU(i32.add(x, multiple - 1), multiple), multiple);

/**
 * Visits the strips of `time` queries, the first of which stands at position `start`. `segments`
 * are those of the batch's row.
 */
export function forStrips(
  f: FunctionBuilder,
  { tile }: Variant,
  { keys, causal, window }: Sight,
  { time, start, segments }: { time: I32; start: I32; segments?: Local<"i32"> },
  visit: (strip: Strip) => void,
): void {
  const strip = {
    first: f.i32(),
    rows: f.i32(),
    paddedRows: f.i32(),
    position: f.i32(),
    low: f.i32(),
    high: f.i32(),
    columns: f.i32(),
  };
  const { first, rows, paddedRows, position, low, high, columns } = strip, width = columnsOf(tile);
  f.forRange(first, 0, time, stripRows, () => {
    f.set(rows, i32.minU(stripRows, i32.sub(time, first)));
    f.set(paddedRows, roundUp(rows, tile.rows));
    f.set(position, i32.add(start, first));
    f.set(high, i32.select(causal, i32.minS(i32.add(position, rows), keys), keys));
    f.set(high, i32.maxS(high, 0));
    f.set(low, i32.maxS(i32.add(i32.sub(position, window), 1), 0));
    if (segments) narrow(f, strip, segments);
    f.set(low, i32.mul(i32.divU(low, width), width));
    f.set(high, i32.maxS(high, low));
    f.set(columns, roundUp(i32.sub(high, low), width));
    visit(strip);
  });
}

/**
 * Drops keys at both ends whose segment lies outside the range of the strip's own: with packed
 * documents, all but a few.
 */
function narrow(
  f: FunctionBuilder,
  { position, rows, low, high }: Strip,
  segments: Local<"i32">,
): void {
  const least = f.i32(), most = f.i32(), at = f.i32(), id = f.i32();
  const word = (index: I32): I32 => i32.load(i32.add(segments, i32.shl(index, 2)));
  f.set(least, 0x7fffffff);
  f.set(most, -0x80000000);
  f.forRange(at, position, i32.add(position, rows), 1, () => {
    f.set(id, word(at));
    f.set(least, i32.minS(least, id));
    f.set(most, i32.maxS(most, id));
  });
  const outside = (index: I32) => i32.or(i32.ltS(word(index), least), i32.gtS(word(index), most));
  // A query's own key is inside, so neither loop runs away.
  f.while(i32.and(i32.ltS(low, high), outside(low)), () => f.advance(low, 1));
  f.while(i32.and(i32.ltS(low, high), outside(i32.sub(high, 1))), () => f.advance(high, -1));
}

/**
 * Visits the strip's rows: the row, and the mask of the four keys from column c on (as an
 * expression of `column`).
 */
export function forRows(
  f: FunctionBuilder,
  { first, rows, position, low }: Strip,
  { keys, causal, window }: Sight,
  segments: Local<"i32"> | undefined,
  visit: (row: { index: Local<"i32">; query: I32; mask: (column: I32) => V128 }) => void,
): void {
  const index = f.i32(), place = f.i32(), floor = f.v128(), ceiling = f.v128(), own = f.v128();
  const steps = f.v128(
    i32x4.replaceLane(i32x4.replaceLane(i32x4.replaceLane(i32x4.splat(0), 1, 1), 2, 2), 3, 3),
  );
  f.forRange(index, 0, rows, 1, () => {
    f.set(place, i32.add(position, index));
    f.set(floor, i32x4.splat(i32.sub(i32.add(i32.sub(place, window), 1), low)));
    f.set(
      ceiling,
      i32x4.splat(i32.sub(i32.select(causal, i32.minS(i32.add(place, 1), keys), keys), low)),
    );
    if (segments) f.set(own, i32x4.splat(i32.load(i32.add(segments, i32.shl(place, 2)))));
    const lane = f.v128();
    const mask = (column: I32): V128 => {
      f.set(lane, i32x4.add(i32x4.splat(column), steps));
      const inside = v128.and(i32x4.geS(lane, floor), i32x4.ltS(lane, ceiling));
      if (!segments) return inside;
      const theirs = v128.load(i32.add(segments, i32.shl(i32.add(low, column), 2)));
      return v128.and(inside, i32x4.eq(theirs, own));
    };
    visit({ index, query: i32.add(first, index), mask });
  });
}

/** Packs rows of a [time, heads, width] tensor; `stride` is bytes from row to row. */
export function pack(
  f: FunctionBuilder,
  panel: number,
  stored: Stored,
  dense: Dense,
  [source, target, outer, k, stride]: readonly [I32, I32, I32Value, I32Value, I32],
): void {
  f.call(packPanels(panel, stored, dense), source, target, outer, k, stride);
}

/** The product of packed panels; see `multiplyPanels`. */
export interface PanelProduct {
  readonly a: I32;
  readonly b: I32;
  readonly c: I32;
  readonly pitch: I32Value;
  readonly rows: I32Value;
  readonly columns: I32Value;
  readonly k: I32Value;
  /** Length in k of B's panels, of which `k` are multiplied; those of A are exactly `k` long. */
  readonly panelK: I32;
  readonly accumulate: I32Value;
}

export function multiply(
  f: FunctionBuilder,
  tile: Tile,
  { a, b, c, pitch, rows, columns, k, panelK, accumulate }: PanelProduct,
): void {
  f.call(
    multiplyPanels(tile),
    a,
    b,
    c,
    pitch,
    rows,
    columns,
    k,
    i32.mul(k, 4 * tile.rows),
    i32.mul(panelK, 4 * columnsOf(tile)),
    accumulate,
    f.scratch,
  );
}

/**
 * Runs over `count` floats at `at`, in fours and then one by one (the rest of the vector is 0, and
 * is not stored).
 */
export function forFloats(
  f: FunctionBuilder,
  at: Local<"i32">,
  begin: I32,
  count: I32,
  visit: (load: (address: I32) => V128, store: (value: V128) => void, step: number) => void,
): void {
  const end = f.i32(), value = f.v128();
  f.set(at, begin);
  f.set(end, i32.add(at, i32.shl(count, 2)));
  f.forRange(
    at,
    at,
    i32.add(at, i32.and(i32.shl(count, 2), -16)),
    16,
    () => visit((address) => v128.load(address), (x) => f.store(at, x), 16),
  );
  f.forRange(at, at, end, 4, () =>
    visit((address) => v128.load32Zero(address), (x) => {
      f.set(value, x);
      f.store32Lane(at, value, 0);
    }, 4));
}
