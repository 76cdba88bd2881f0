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
import {
  f32,
  f32x4,
  type FunctionBuilder,
  type I32,
  i32,
  type I32Value,
  type Local,
  v128,
} from "./encode.ts";
import { layOut, namedJob } from "./job.ts";
import { sumOf } from "./lanes.ts";
import { blockK, columnsOf, spareBytes } from "./panels.ts";
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
  });
}

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
  const args = {
    ...operands,
    ...sharedArguments(shape, variant),
    gradStride: kvHeads * width * 4,
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
        | "gradStride"
        | "pitch"
        | keyof ReturnType<typeof backwardScratch>["offsets"]
    ]: Local<"i32">;
  };

/** Addresses for one query head. */
interface Head {
  readonly q: Local<"i32">;
  readonly out: Local<"i32">;
  readonly dout: Local<"i32">;
  readonly dq: Local<"i32">;
  readonly lse: Local<"i32">;
  readonly dk: Local<"i32">;
  readonly dv: Local<"i32">;
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
  const head: Head = {
    q: f.i32(),
    out: f.i32(),
    dout: f.i32(),
    dq: f.i32(),
    lse: f.i32(),
    dk: f.i32(),
    dv: f.i32(),
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
    f.set(head.dk, headAddress(a.dk, row, a.keys, a.gradStride, kvHead, floats));
    f.set(head.dv, headAddress(a.dv, row, a.keys, a.gradStride, kvHead, floats));
    clear(f, head.dk, a.keys, a.width, a.gradStride);
    clear(f, head.dv, a.keys, a.width, a.gradStride);
    f.set(first, i32.mul(kvHead, group));
    f.forRange(n, first, i32.add(first, group), 1, () => {
      f.set(head.q, headAddress(a.q, row, a.time, a.qStride, n, bytes(variant.q)));
      for (const name of ["out", "dout", "dq"] as const) {
        f.set(head[name], headAddress(a[name], row, a.time, a.outStride, n, floats));
      }
      f.set(
        head.lse,
        i32.add(a.lse, i32.shl(i32.mul(i32.add(i32.mul(row, a.heads), n), a.time), 2)),
      );
      const own = variant.segments ? segments : undefined;
      forStrips(f, variant, a, { time: a.time, start: i32.const(0), segments: own }, (strip) => {
        writeStrip(f, a, variant, { head, places, strip, segments: own });
      });
    });
  });
}

interface StripWork {
  readonly head: Head;
  readonly places: Places;
  readonly strip: Strip;
  readonly segments?: Local<"i32">;
}

function writeStrip(
  f: FunctionBuilder,
  a: BackwardArguments,
  variant: Variant,
  work: StripWork,
): void {
  const { head, places, strip } = work, { tile } = variant, panel = columnsOf(tile);
  const at = f.i32(), depth = f.i32();
  const q = f.i32(i32.add(head.q, i32.mul(strip.first, a.qStride)));
  const dout = f.i32(i32.add(head.dout, i32.mul(strip.first, a.outStride)));
  const dq = f.i32(i32.add(head.dq, i32.mul(strip.first, a.outStride)));
  pack(f, tile.rows, variant.q, "k", [q, places.queryRows, strip.rows, a.width, a.qStride]);
  pack(f, panel, variant.q, "outer", [q, places.queryColumns, a.width, strip.rows, a.qStride]);
  pack(f, tile.rows, "f32", "k", [dout, places.slopeRows, strip.rows, a.width, a.outStride]);
  pack(f, panel, "f32", "outer", [dout, places.slopeColumns, a.width, strip.rows, a.outStride]);
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
  writeDeltas(f, a, work);
  writeSlopes(f, a, variant, work);
  const count = f.i32(i32.sub(strip.high, strip.low));
  f.forRange(at, 0, count, blockK, () => { // dq = d scores · k
    f.set(depth, i32.minU(blockK, i32.sub(count, at)));
    const slopes = i32.add(places.slopes, i32.shl(at, 2));
    pack(f, tile.rows, "f32", "k", [slopes, places.left, strip.paddedRows, depth, a.pitch]);
    multiply(f, tile, {
      a: places.left,
      b: i32.add(places.keysByWidth, i32.mul(i32.add(strip.low, at), 4 * panel)),
      c: dq,
      pitch: a.outStride,
      rows: strip.rows,
      columns: a.width,
      k: depth,
      panelK: a.keys,
      accumulate: i32.ne(at, 0),
    });
  });
  f.forRange(at, 0, count, keyBlock, () => { // dk += d scoresᵀ · q, dv += weightsᵀ · dout
    const rows = i32.minU(keyBlock, i32.sub(count, at));
    const intoKeys = (scores: I32, right: I32, gradient: I32) => {
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
        c: i32.add(gradient, i32.mul(i32.add(strip.low, at), a.gradStride)),
        pitch: a.gradStride,
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

function clear(f: FunctionBuilder, target: I32, rows: I32, width: I32, stride: I32): void {
  const row = f.i32(target), at = f.i32(), zero = f.constant(0);
  f.forRange(row, target, i32.add(target, i32.mul(rows, stride)), stride, () => {
    forFloats(f, at, row, width, (_, store) => store(zero));
  });
}

/** For each row Σ dout · out, which is Σ weights · d weights. */
function writeDeltas(
  f: FunctionBuilder,
  a: BackwardArguments,
  { head, places, strip }: StripWork,
): void {
  const index = f.i32(), sum = f.v128(), at = f.i32(), other = f.i32(), zero = f.constant(0);
  const offset = (): I32Value => i32.mul(i32.add(strip.first, index), a.outStride);
  f.forRange(index, 0, strip.rows, 1, () => {
    f.set(sum, zero);
    f.set(other, i32.add(head.out, offset()));
    forFloats(f, at, i32.add(head.dout, offset()), a.width, (load, _, step) => {
      f.set(sum, f32x4.add(sum, f32x4.mul(load(at), load(other))));
      f.advance(other, step);
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
