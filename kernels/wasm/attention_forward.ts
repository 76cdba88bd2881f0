/**
 * Attention forward by strips, over the row's own keys or over a cache: scores, softmax in two
 * passes, weighted values.
 */

import { bytesPerElement, type JobArg, type WasmJob } from "../lowering.ts";
import { f32, f32x4, type FunctionBuilder, type I32, i32, type Local, v128 } from "./encode.ts";
import {
  forFloats,
  forRows,
  forStrips,
  multiply,
  pack,
  type Sight,
  type Strip,
  stripRows,
  type Variant,
  variantKey,
} from "./attention_strips.ts";
import { halveRows } from "./elements.ts";
import { type Arguments, layOut, namedJob } from "./job.ts";
import { maxOf, sumOf } from "./lanes.ts";
import { blockK, columnsOf, spareBytes } from "./panels.ts";
import { scalarRules, vectorMath } from "./scalar.ts";

/** Sizes and choices of one node, as numbers. */
export interface Shape {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  readonly keys: number;
  readonly causal: boolean;
  readonly window: number;
  readonly scale: number;
  readonly softcap: number;
}

/** A window that no position reaches, small enough for sums not to overflow. */
const noWindow = 2 ** 30;

/** The arguments that all attention kernels have. */
export function sharedArguments(shape: Shape, variant: Variant) {
  const { time, heads, kvHeads, width, keys, causal, window, scale, softcap } = shape;
  return {
    time,
    heads,
    kvHeads,
    width,
    keys,
    causal: causal ? 1 : 0,
    window: window > 0 ? Math.min(window, noWindow) : noWindow,
    scale: { f32: scale },
    softcap: { f32: softcap },
    qStride: heads * width * bytesPerElement(variant.q),
    kStride: kvHeads * width * bytesPerElement(variant.k),
    vStride: kvHeads * width * bytesPerElement(variant.v),
    outStride: heads * width * bytesPerElement(variant.out),
  };
}

export type SharedArguments = Arguments<ReturnType<typeof sharedArguments>>;

/** Address of [row of the batch, 0, head, 0] in a [batch, positions, heads, width] tensor. */
export function headAddress(
  base: I32,
  row: I32,
  positions: I32,
  stride: I32,
  head: I32,
  headBytes: I32,
): I32 {
  return i32.add(i32.add(base, i32.mul(i32.mul(row, positions), stride)), i32.mul(head, headBytes));
}

export const panelsOf = (count: number, panel: number) => Math.ceil(count / panel) * panel;

/**
 * Bytes from row to row of scores. The odd line keeps rows of a power of two from wanting the same
 * few lines of the cache.
 */
export function pitchOf({ keys }: Shape, { tile }: Variant): number {
  return 4 * panelsOf(keys, columnsOf(tile)) + 64;
}

export function forwardScratch(shape: Shape, variant: Variant) {
  const { width, keys } = shape, columns = columnsOf(variant.tile);
  return layOut({
    spare: spareBytes,
    scores: stripRows * pitchOf(shape, variant),
    packedKeys: 4 * panelsOf(keys, columns) * width,
    packedValues: 4 * panelsOf(width, columns) * keys,
    packedQueries: 4 * stripRows * width,
    packedWeights: 4 * stripRows * blockK,
    // A strip's results before they are rounded.
    wide: variant.out === "bf16" ? 4 * stripRows * width : 0,
  });
}

export interface ForwardOperands {
  readonly q: JobArg;
  readonly k: JobArg;
  readonly v: JobArg;
  readonly out: JobArg;
  /** Missing in the cached form. */
  readonly lse?: JobArg;
  readonly segments?: JobArg;
  readonly start?: JobArg;
}

export function forwardJob(
  shape: Shape,
  variant: Variant,
  { q, k, v, out, lse, segments, start }: ForwardOperands,
): WasmJob {
  const { batch, time, heads, width, keys, causal } = shape;
  const args = {
    q,
    k,
    v,
    out,
    lse: lse ?? 0,
    segments: segments ?? 0,
    start: start ?? 0,
    ...sharedArguments(shape, variant),
    pitch: pitchOf(shape, variant),
    ...forwardScratch(shape, variant).offsets,
  };
  return namedJob({
    key: `attention ${variantKey(variant)}`,
    args,
    units: batch * heads,
    work: 4 * time * keys * width * (causal ? 0.5 : 1),
    build: (f, a) => writeForward(f, a, variant),
  });
}

type ForwardArguments =
  & SharedArguments
  & {
    readonly [
      Name in
        | "q"
        | "k"
        | "v"
        | "out"
        | "lse"
        | "segments"
        | "start"
        | "pitch"
        | keyof ReturnType<typeof forwardScratch>["offsets"]
    ]: Local<"i32">;
  };

function writeForward(f: FunctionBuilder, a: ForwardArguments, variant: Variant): void {
  const { tile } = variant, panel = columnsOf(tile), isHalf = variant.out === "bf16";
  const place = (offset: I32) => f.i32(i32.add(f.scratch, offset));
  const scores = place(a.scores),
    keysPacked = place(a.packedKeys),
    valuesPacked = place(a.packedValues);
  const queriesPacked = place(a.packedQueries), weightsPacked = place(a.packedWeights);
  const wide = place(a.wide);
  const unit = f.i32(),
    row = f.i32(),
    head = f.i32(),
    kvHead = f.i32(),
    start = f.i32(),
    seen = f.i32();
  const from = f.i32(), out = f.i32(), segments = f.i32(), depth = f.i32(), at = f.i32();
  const bytes = (stored: Variant["q"]): I32 => i32.mul(a.width, bytesPerElement(stored));
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.set(row, i32.divU(unit, a.heads));
    f.set(head, i32.remU(unit, a.heads));
    f.set(kvHead, i32.divU(head, i32.divU(a.heads, a.kvHeads)));
    if (variant.cached) f.set(start, i32.load(i32.add(a.start, i32.shl(row, 2))));
    const last = i32.maxS(i32.minS(i32.add(start, a.time), a.keys), 0);
    f.set(seen, i32.select(a.causal, last, a.keys)); // keys that any query sees
    if (variant.segments) f.set(segments, i32.add(a.segments, i32.shl(i32.mul(row, a.time), 2)));
    f.set(from, headAddress(a.k, row, a.keys, a.kStride, kvHead, bytes(variant.k)));
    pack(f, panel, variant.k, "k", [from, keysPacked, seen, a.width, a.kStride]);
    f.set(from, headAddress(a.v, row, a.keys, a.vStride, kvHead, bytes(variant.v)));
    pack(f, panel, variant.v, "outer", [from, valuesPacked, a.width, seen, a.vStride]);
    f.set(from, headAddress(a.q, row, a.time, a.qStride, head, bytes(variant.q)));
    f.set(out, headAddress(a.out, row, a.time, a.outStride, head, bytes(variant.out)));
    const strips = { time: a.time, start, segments: variant.segments ? segments : undefined };
    forStrips(f, variant, a, strips, (strip) => {
      const outRow = f.i32(i32.add(out, i32.mul(strip.first, a.outStride)));
      const sums = isHalf
        ? { at: wide, pitch: f.i32(i32.shl(a.width, 2)) }
        : { at: outRow, pitch: a.outStride };
      const queries = i32.add(from, i32.mul(strip.first, a.qStride));
      pack(f, tile.rows, variant.q, "k", [queries, queriesPacked, strip.rows, a.width, a.qStride]);
      multiply(f, tile, {
        a: queriesPacked,
        b: i32.add(keysPacked, i32.shl(i32.mul(strip.low, a.width), 2)),
        c: scores,
        pitch: a.pitch,
        rows: strip.paddedRows,
        columns: strip.columns,
        k: a.width,
        panelK: a.width,
        accumulate: 0,
      });
      // The packed queries are done with: their place keeps 1 / sum of each row.
      softmaxRows(f, a, variant, strip, {
        scores,
        segments: strips.segments,
        factors: queriesPacked,
        unit,
      });
      f.forRange(at, 0, i32.sub(strip.high, strip.low), blockK, () => {
        f.set(depth, i32.minU(blockK, i32.sub(i32.sub(strip.high, strip.low), at)));
        const weights = i32.add(scores, i32.shl(at, 2));
        pack(f, tile.rows, "f32", "k", [weights, weightsPacked, strip.paddedRows, depth, a.pitch]);
        multiply(f, tile, {
          a: weightsPacked,
          b: i32.add(valuesPacked, i32.mul(i32.add(strip.low, at), 4 * panel)),
          c: sums.at,
          pitch: sums.pitch,
          rows: strip.rows,
          columns: a.width,
          k: depth,
          panelK: seen,
          accumulate: i32.ne(at, 0),
        });
      });
      scaleRows(f, a, strip, sums, queriesPacked);
      if (isHalf) {
        halveRows(f, [sums.at, sums.pitch], [outRow, a.outStride], strip.rows, a.width);
      }
    });
  });
}

/** Where −∞ is avoided, so that a row without keys gives zeros and not ∞ − ∞. */
const lowest = -3.4e38;

/**
 * Turns raw scores into weights, not yet divided by their sum, and writes 1 / sum and, where
 * wanted, log-sum-exp.
 */
function softmaxRows(
  f: FunctionBuilder,
  a: ForwardArguments,
  variant: Variant,
  strip: Strip,
  { scores, segments, factors, unit }: {
    scores: Local<"i32">;
    segments?: Local<"i32">;
    factors: Local<"i32">;
    unit: Local<"i32">;
  },
): void {
  const math = vectorMath(f, variant.tile.relaxed);
  const column = f.i32(),
    at = f.i32(),
    largest = f.v128(),
    top = f.f32(),
    total = f.f32(),
    sum = f.v128(),
    x = f.v128();
  const scale = f.v128(f32x4.splat(a.scale)), cap = f.v128(f32x4.splat(a.softcap));
  const capScale = f.v128(f32x4.splat(f32.div(a.scale, a.softcap)));
  const least = f.constant(lowest), hidden = f.constant(-Infinity), zero = f.constant(0);
  forRows(f, strip, a as Sight, segments, ({ index, query, mask }) => {
    const row = f.i32(i32.add(scores, i32.mul(index, a.pitch)));
    f.set(largest, least);
    f.set(at, row);
    f.forRange(column, 0, strip.columns, 4, () => {
      if (variant.softcap) {
        f.set(x, f32x4.mul(v128.load(at), capScale));
        f.set(x, f32x4.mul(cap, scalarRules.tanh(math, x)));
      } else f.set(x, f32x4.mul(v128.load(at), scale));
      f.set(x, v128.bitselect(x, hidden, mask(column)));
      f.store(at, x);
      f.set(largest, f32x4.pmax(largest, x));
      f.advance(at, 16);
    });
    f.set(top, maxOf(f, largest));
    f.set(largest, f32x4.splat(top));
    f.set(sum, zero);
    f.forRange(at, row, i32.add(row, i32.shl(strip.columns, 2)), 16, () => {
      f.set(x, f32x4.sub(v128.load(at), largest));
      f.set(x, scalarRules.exp(math, x));
      f.store(at, x);
      f.set(sum, f32x4.add(sum, x));
    });
    f.set(total, sumOf(f, sum));
    f.storeF32(
      i32.add(factors, i32.shl(index, 2)),
      f32.select(f32.eq(total, 0), 0, f32.div(1, total)),
    );
    if (!variant.cached) {
      f.set(x, f32x4.splat(total));
      f.set(x, scalarRules.log(math, x));
      const to = i32.add(a.lse, i32.shl(i32.add(i32.mul(unit, a.time), query), 2));
      f.storeF32(to, f32.add(top, f32x4.extractLane(x, 0)));
    }
  });
}

/** out rows × 1 / sum; zeros for a strip that sees no key at all, whose product was never made. */
function scaleRows(
  f: FunctionBuilder,
  a: ForwardArguments,
  strip: Strip,
  sums: { readonly at: Local<"i32">; readonly pitch: Local<"i32"> },
  factors: I32,
): void {
  const index = f.i32(),
    row = f.i32(sums.at),
    at = f.i32(),
    factor = f.v128(),
    zero = f.constant(0);
  f.forRange(index, 0, strip.rows, 1, () => {
    f.set(factor, v128.load32Splat(i32.add(factors, i32.shl(index, 2))));
    f.if(
      i32.ltS(strip.low, strip.high),
      () => forFloats(f, at, row, a.width, (load, store) => store(f32x4.mul(load(at), factor))),
      () => forFloats(f, at, row, a.width, (_, store) => store(zero)),
    );
    f.advance(row, sums.pitch);
  });
}
