/**
 * Attention backward by strips. Scores are made again from q and k, weights from the saved
 * log-sum-exp. All heads that share keys are one unit, so their sums into dk and dv need no atomics
 * and have a fixed order.
 */

import { bytesPerElement, type JobArg, type WasmJob } from "../lowering.ts";
import {
  headAddress,
  panelsOf,
  pitchOf,
  type Shape,
  type SharedArguments,
  sharedArguments,
} from "./attention_forward.ts";
import {
  forFloats,
  forRows,
  forStrips,
  multiply,
  pack,
  type Strip,
  stripRows,
  type Variant,
  variantKey,
} from "./attention_strips.ts";
import { f32, f32x4, type FunctionBuilder, type I32, i32, type Local, v128 } from "./encode.ts";
import { firstLanes, halveRows, loadDense, overRow } from "./elements.ts";
import { layOut, namedJob } from "./job.ts";
import { sumOf } from "./lanes.ts";
import { blockK, columnsOf, spareBytes, type Stored } from "./panels.ts";
import { scalarRules, vectorMath } from "./scalar.ts";

/** Keys whose part of dk or dv is made at once. */
const keyBlock = 96;

export function backwardScratch(shape: Shape, variant: Variant) {
  const { width, keys } = shape, columns = columnsOf(variant.tile);
  const byKey = 4 * panelsOf(keys, columns) * width, byWidth = 4 * panelsOf(width, columns);
  return layOut({
    spare: spareBytes,
    weights: stripRows * pitchOf(shape, variant), // scores, then weights
    slopes: stripRows * pitchOf(shape, variant), // d weights, then d scores
    keysByKey: byKey, // columns are keys
    valuesByKey: byKey,
    keysByWidth: byWidth * keys, // columns are channels
    queryRows: 4 * stripRows * width, // as left operand
    slopeRows: 4 * stripRows * width,
    queryColumns: byWidth * stripRows, // as right operand
    slopeColumns: byWidth * stripRows,
    left: 4 * Math.max(stripRows * blockK, keyBlock * stripRows),
    deltas: 4 * stripRows,
    // Gradients before they are rounded: of a strip's queries, and of all keys and values.
    wideQueries: isWide(variant, 0) ? 4 * stripRows * width : 0,
    wideKeys: isWide(variant, 1) ? 4 * keys * width : 0,
    wideValues: isWide(variant, 2) ? 4 * keys * width : 0,
  });
}

/** Whether the gradient of q, k or v is stored as bf16, so that it is summed elsewhere. */
const isWide = ({ gradients }: Variant, i: 0 | 1 | 2) => gradients?.[i] === "bf16";

export interface BackwardOperands {
  readonly q: JobArg;
  readonly k: JobArg;
  readonly v: JobArg;
  readonly out: JobArg;
  readonly lse: JobArg;
  readonly dout: JobArg;
  readonly segments: JobArg;
  readonly dq: JobArg;
  readonly dk: JobArg;
  readonly dv: JobArg;
}

export function backwardJob(shape: Shape, variant: Variant, operands: BackwardOperands): WasmJob {
  const { batch, time, heads, kvHeads, width, keys, causal } = shape;
  const { dout = "f32", gradients: [dq, dk, dv] = ["f32", "f32", "f32"] } = variant;
  const args = {
    ...operands,
    ...sharedArguments(shape, variant),
    doutStride: heads * width * bytesPerElement(dout),
    dqStride: heads * width * bytesPerElement(dq),
    dkStride: kvHeads * width * bytesPerElement(dk),
    dvStride: kvHeads * width * bytesPerElement(dv),
    pitch: pitchOf(shape, variant),
    ...backwardScratch(shape, variant).offsets,
  };
  return namedJob({
    key: `attention_grad ${variantKey(variant)}`,
    args,
    units: batch * kvHeads,
    work: 10 * time * keys * width * (heads / kvHeads) * (causal ? 0.5 : 1),
    build: (f, a) => writeBackward(f, a, variant),
  });
}

type BackwardArguments =
  & SharedArguments
  & {
    readonly [
      Name in
        | keyof BackwardOperands
        | "doutStride"
        | "dqStride"
        | "dkStride"
        | "dvStride"
        | "pitch"
        | keyof ReturnType<typeof backwardScratch>["offsets"]
    ]: Local<"i32">;
  };

/** Rows of f32 that are added to. */
interface Sums {
  readonly at: Local<"i32">;
  readonly pitch: Local<"i32">;
}

/** Addresses for one query head. */
interface Head {
  readonly q: Local<"i32">;
  readonly out: Local<"i32">;
  readonly dout: Local<"i32">;
  readonly dq: Local<"i32">;
  readonly lse: Local<"i32">;
  readonly dk: Sums;
  readonly dv: Sums;
}

type Places = Readonly<Record<keyof ReturnType<typeof backwardScratch>["offsets"], Local<"i32">>>;

function writeBackward(f: FunctionBuilder, a: BackwardArguments, variant: Variant): void {
  const panel = columnsOf(variant.tile);
  const names = Object.keys(
    backwardScratch({ width: 1, keys: 1 } as Shape, variant).offsets,
  ) as (keyof Places)[];
  const places = Object.fromEntries(
    names.map((name) => [name, f.i32(i32.add(f.scratch, a[name]))]),
  ) as Places;
  const unit = f.i32(),
    row = f.i32(),
    kvHead = f.i32(),
    first = f.i32(),
    n = f.i32(),
    segments = f.i32(),
    from = f.i32();
  const group = f.i32(i32.divU(a.heads, a.kvHeads)), floats = f.i32(i32.shl(a.width, 2));
  const { dout = "f32", gradients: [dqStored, dkStored, dvStored] = ["f32", "f32", "f32"] } =
    variant;
  const dk = f.i32(), dv = f.i32();
  const head: Head = {
    q: f.i32(),
    out: f.i32(),
    dout: f.i32(),
    dq: f.i32(),
    lse: f.i32(),
    dk: isWide(variant, 1) ? { at: places.wideKeys, pitch: floats } : { at: dk, pitch: a.dkStride },
    dv: isWide(variant, 2)
      ? { at: places.wideValues, pitch: floats }
      : { at: dv, pitch: a.dvStride },
  };
  const bytes = (stored: Variant["q"]): I32 => i32.mul(a.width, bytesPerElement(stored));
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.set(row, i32.divU(unit, a.kvHeads));
    f.set(kvHead, i32.remU(unit, a.kvHeads));
    if (variant.segments) f.set(segments, i32.add(a.segments, i32.shl(i32.mul(row, a.time), 2)));
    f.set(from, headAddress(a.k, row, a.keys, a.kStride, kvHead, bytes(variant.k)));
    pack(f, panel, variant.k, "k", [from, places.keysByKey, a.keys, a.width, a.kStride]);
    pack(f, panel, variant.k, "outer", [from, places.keysByWidth, a.width, a.keys, a.kStride]);
    f.set(from, headAddress(a.v, row, a.keys, a.vStride, kvHead, bytes(variant.v)));
    pack(f, panel, variant.v, "k", [from, places.valuesByKey, a.keys, a.width, a.vStride]);
    f.set(dk, headAddress(a.dk, row, a.keys, a.dkStride, kvHead, bytes(dkStored)));
    f.set(dv, headAddress(a.dv, row, a.keys, a.dvStride, kvHead, bytes(dvStored)));
    clear(f, head.dk, a.keys, a.width);
    clear(f, head.dv, a.keys, a.width);
    f.set(first, i32.mul(kvHead, group));
    f.forRange(n, first, i32.add(first, group), 1, () => {
      f.set(head.q, headAddress(a.q, row, a.time, a.qStride, n, bytes(variant.q)));
      f.set(head.out, headAddress(a.out, row, a.time, a.outStride, n, bytes(variant.out)));
      f.set(head.dout, headAddress(a.dout, row, a.time, a.doutStride, n, bytes(dout)));
      f.set(head.dq, headAddress(a.dq, row, a.time, a.dqStride, n, bytes(dqStored)));
      f.set(
        head.lse,
        i32.add(a.lse, i32.shl(i32.mul(i32.add(i32.mul(row, a.heads), n), a.time), 2)),
      );
      const own = variant.segments ? segments : undefined;
      forStrips(f, variant, a, { time: a.time, start: i32.const(0), segments: own }, (strip) => {
        writeStrip(f, a, variant, { head, places, strip, segments: own, floats });
      });
    });
    const round = ({ at, pitch }: Sums, to: I32, toPitch: I32) =>
      halveRows(f, [at, pitch], [to, toPitch], a.keys, a.width);
    if (isWide(variant, 1)) round(head.dk, dk, a.dkStride);
    if (isWide(variant, 2)) round(head.dv, dv, a.dvStride);
  });
}

interface StripWork {
  readonly head: Head;
  readonly places: Places;
  readonly strip: Strip;
  readonly segments?: Local<"i32">;
  /** Bytes of a head's channels as f32. */
  readonly floats: Local<"i32">;
}

function writeStrip(
  f: FunctionBuilder,
  a: BackwardArguments,
  variant: Variant,
  work: StripWork,
): void {
  const { head, places, strip, floats } = work, { tile, dout: stored = "f32" } = variant;
  const panel = columnsOf(tile);
  const at = f.i32(), depth = f.i32();
  const q = f.i32(i32.add(head.q, i32.mul(strip.first, a.qStride)));
  const dout = f.i32(i32.add(head.dout, i32.mul(strip.first, a.doutStride)));
  const dq = f.i32(i32.add(head.dq, i32.mul(strip.first, a.dqStride)));
  const queries: Sums = isWide(variant, 0)
    ? { at: places.wideQueries, pitch: floats }
    : { at: dq, pitch: a.dqStride };
  pack(f, tile.rows, variant.q, "k", [q, places.queryRows, strip.rows, a.width, a.qStride]);
  pack(f, panel, variant.q, "outer", [q, places.queryColumns, a.width, strip.rows, a.qStride]);
  pack(f, tile.rows, stored, "k", [dout, places.slopeRows, strip.rows, a.width, a.doutStride]);
  pack(f, panel, stored, "outer", [dout, places.slopeColumns, a.width, strip.rows, a.doutStride]);
  const againstKeys = (left: I32, right: Local<"i32">, c: I32) =>
    multiply(f, tile, {
      a: left,
      b: i32.add(right, i32.shl(i32.mul(strip.low, a.width), 2)),
      c,
      pitch: a.pitch,
      rows: strip.paddedRows,
      columns: strip.columns,
      k: a.width,
      panelK: a.width,
      accumulate: 0,
    });
  againstKeys(places.queryRows, places.keysByKey, places.weights);
  againstKeys(places.slopeRows, places.valuesByKey, places.slopes);
  writeDeltas(f, a, variant, work);
  writeSlopes(f, a, variant, work);
  const count = f.i32(i32.sub(strip.high, strip.low));
  f.forRange(at, 0, count, blockK, () => { // dq = d scores · k
    f.set(depth, i32.minU(blockK, i32.sub(count, at)));
    const slopes = i32.add(places.slopes, i32.shl(at, 2));
    pack(f, tile.rows, "f32", "k", [slopes, places.left, strip.paddedRows, depth, a.pitch]);
    multiply(f, tile, {
      a: places.left,
      b: i32.add(places.keysByWidth, i32.mul(i32.add(strip.low, at), 4 * panel)),
      c: queries.at,
      pitch: queries.pitch,
      rows: strip.rows,
      columns: a.width,
      k: depth,
      panelK: a.keys,
      accumulate: i32.ne(at, 0),
    });
  });
  if (isWide(variant, 0)) {
    f.if(i32.eqz(count), () => clear(f, queries, strip.rows, a.width));
    halveRows(f, [queries.at, queries.pitch], [dq, a.dqStride], strip.rows, a.width);
  }
  f.forRange(at, 0, count, keyBlock, () => { // dk += d scoresᵀ · q, dv += weightsᵀ · dout
    const rows = i32.minU(keyBlock, i32.sub(count, at));
    const intoKeys = (scores: I32, right: I32, gradient: Sums) => {
      pack(f, tile.rows, "f32", "outer", [
        i32.add(scores, i32.shl(at, 2)),
        places.left,
        rows,
        strip.rows,
        a.pitch,
      ]);
      multiply(f, tile, {
        a: places.left,
        b: right,
        c: i32.add(gradient.at, i32.mul(i32.add(strip.low, at), gradient.pitch)),
        pitch: gradient.pitch,
        rows,
        columns: a.width,
        k: strip.rows,
        panelK: strip.rows,
        accumulate: 1,
      });
    };
    intoKeys(places.slopes, places.queryColumns, head.dk);
    intoKeys(places.weights, places.slopeColumns, head.dv);
  });
}

function clear(f: FunctionBuilder, { at: first, pitch }: Sums, rows: I32, width: I32): void {
  const row = f.i32(first), at = f.i32(), zero = f.constant(0);
  f.forRange(row, first, i32.add(first, i32.mul(rows, pitch)), pitch, () => {
    forFloats(f, at, row, width, (_, store) => store(zero));
  });
}

/** For each row Σ dout · out, which is Σ weights · d weights. */
function writeDeltas(
  f: FunctionBuilder,
  a: BackwardArguments,
  { out, dout = "f32" }: Variant,
  { head, places, strip }: StripWork,
): void {
  const s = vectorMath(f, false), index = f.i32(), sum = f.v128(), x = f.v128();
  const at = f.i32(), rest = f.i32(), left = f.i32(), right = f.i32(), zero = f.constant(0);
  const rowOf = (first: I32, stride: I32) =>
    i32.add(first, i32.mul(i32.add(strip.first, index), stride));
  const place = (row: I32, stored: Stored) =>
    i32.add(row, stored === "bf16" ? i32.shrU(at, 1) : at);
  f.forRange(index, 0, strip.rows, 1, () => {
    f.set(sum, zero);
    f.set(left, rowOf(head.dout, a.doutStride));
    f.set(right, rowOf(head.out, a.outStride));
    overRow(f, a.width, at, rest, (part) => {
      f.set(x, f32x4.mul(loadDense(dout, place(left, dout)), loadDense(out, place(right, out))));
      if (part) f.set(x, v128.and(x, firstLanes(s, rest)));
      f.set(sum, f32x4.add(sum, x));
    });
    f.storeF32(i32.add(places.deltas, i32.shl(index, 2)), sumOf(f, sum));
  });
}

/**
 * In place: raw scores become weights, d weights become d scores (with the slopes of scale and
 * softcap).
 */
function writeSlopes(
  f: FunctionBuilder,
  a: BackwardArguments,
  variant: Variant,
  { head, places, strip, segments }: StripWork,
): void {
  const math = vectorMath(f, variant.tile.relaxed);
  const column = f.i32(), at = f.i32(), other = f.i32();
  const total = f.v128(), delta = f.v128(), x = f.v128(), t = f.v128(), slope = f.v128();
  const scale = f.v128(f32x4.splat(a.scale)), cap = f.v128(f32x4.splat(a.softcap));
  const capScale = f.v128(f32x4.splat(f32.div(a.scale, a.softcap))), one = f.constant(1);
  forRows(f, strip, a, segments, ({ index, query, mask }) => {
    f.set(total, v128.load32Splat(i32.add(head.lse, i32.shl(query, 2))));
    f.set(delta, v128.load32Splat(i32.add(places.deltas, i32.shl(index, 2))));
    f.set(at, i32.add(places.weights, i32.mul(index, a.pitch)));
    f.set(other, i32.add(places.slopes, i32.mul(index, a.pitch)));
    f.set(slope, scale);
    f.forRange(column, 0, strip.columns, 4, () => {
      if (variant.softcap) {
        f.set(t, f32x4.mul(v128.load(at), capScale));
        f.set(t, scalarRules.tanh(math, t));
        f.set(x, f32x4.mul(cap, t));
        f.set(slope, f32x4.mul(scale, f32x4.sub(one, f32x4.mul(t, t))));
      } else f.set(x, f32x4.mul(v128.load(at), scale));
      f.set(x, f32x4.sub(x, total));
      f.set(x, v128.and(scalarRules.exp(math, x), mask(column)));
      f.store(at, x);
      f.store(other, f32x4.mul(f32x4.mul(x, slope), f32x4.sub(v128.load(other), delta)));
      f.advance(at, 16);
      f.advance(other, 16);
    });
  });
}
