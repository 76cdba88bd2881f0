/**
 * Attention of a few new tokens over a cache: keys and values are read once, as they lie. Units are
 * the cache's heads; the query heads that share one find its keys still in the processor's cache.
 */

import { bytesPerElement, type JobArg, type WasmJob } from "../lowering.ts";
import {
  headAddress,
  type Shape,
  type SharedArguments,
  sharedArguments,
} from "./attention_forward.ts";
import { type Variant, variantKey } from "./attention_strips.ts";
import {
  f32,
  f32x4,
  type FunctionBuilder,
  type I32,
  i32,
  type Local,
  madd,
  v128,
} from "./encode.ts";
import { namedJob } from "./job.ts";
import { maxOf, sumOf, sumsOfFour } from "./lanes.ts";
import { readers } from "./panels.ts";
import { scalarRules, vectorMath } from "./scalar.ts";

/** Up to this many queries on one cache head, packing the keys would cost more than it saves. */
export const decodeQueries = 16;

export function decodeBytes({ keys }: Shape): number {
  return 4 * keys + 256;
}

export interface DecodeOperands {
  readonly q: JobArg;
  readonly k: JobArg;
  readonly v: JobArg;
  readonly start: JobArg;
  readonly out: JobArg;
}

export function decodeJob(shape: Shape, variant: Variant, operands: DecodeOperands): WasmJob {
  const { batch, time, heads, kvHeads, width, keys } = shape;
  return namedJob({
    key: `cached_attention ${variantKey(variant)}`,
    args: { ...operands, ...sharedArguments(shape, variant) },
    units: batch * kvHeads,
    work: 4 * time * (heads / kvHeads) * keys * width,
    build: (f, a) => writeDecode(f, a, variant),
  });
}

type DecodeArguments = SharedArguments & Readonly<Record<keyof DecodeOperands, Local<"i32">>>;

/** One query: its row of q and out, the first key and value it sees, and how many. */
interface Query {
  readonly q: Local<"i32">;
  readonly out: Local<"i32">;
  readonly k: Local<"i32">;
  readonly v: Local<"i32">;
  readonly count: Local<"i32">;
}

function writeDecode(f: FunctionBuilder, a: DecodeArguments, variant: Variant): void {
  const unit = f.i32(),
    row = f.i32(),
    kvHead = f.i32(),
    t = f.i32(),
    n = f.i32(),
    position = f.i32(),
    low = f.i32();
  const query: Query = { q: f.i32(), out: f.i32(), k: f.i32(), v: f.i32(), count: f.i32() };
  const group = f.i32(i32.divU(a.heads, a.kvHeads)), first = f.i32();
  const bytes = (stored: Variant["q"]): I32 => i32.mul(a.width, bytesPerElement(stored));
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.set(row, i32.divU(unit, a.kvHeads));
    f.set(kvHead, i32.remU(unit, a.kvHeads));
    f.set(first, i32.mul(kvHead, group));
    f.forRange(t, 0, a.time, 1, () => {
      f.set(position, i32.add(i32.load(i32.add(a.start, i32.shl(row, 2))), t));
      f.set(low, i32.maxS(i32.add(i32.sub(position, a.window), 1), 0));
      const high = i32.select(a.causal, i32.minS(i32.add(position, 1), a.keys), a.keys);
      f.set(query.count, i32.maxS(i32.sub(high, low), 0));
      const there = (base: I32, stride: I32, stored: Variant["q"]) =>
        i32.add(
          headAddress(base, row, a.keys, stride, kvHead, bytes(stored)),
          i32.mul(low, stride),
        );
      f.set(query.k, there(a.k, a.kStride, variant.k));
      f.set(query.v, there(a.v, a.vStride, variant.v));
      f.forRange(n, first, i32.add(first, group), 1, () => {
        const here = (base: I32, stride: I32, headBytes: I32) =>
          i32.add(headAddress(base, row, a.time, stride, n, headBytes), i32.mul(t, stride));
        f.set(query.q, here(a.q, a.qStride, bytes(variant.q)));
        f.set(query.out, here(a.out, a.outStride, i32.shl(a.width, 2)));
        writeScores(f, a, variant, query);
        writeValues(f, a, variant, query, writeWeights(f, query.count, variant));
      });
    });
  });
}

/** The scores of all keys into the member's scratch, four keys at a time. */
function writeScores(f: FunctionBuilder, a: DecodeArguments, variant: Variant, query: Query): void {
  const fused = madd(variant.tile.relaxed), math = vectorMath(f, variant.tile.relaxed);
  const key = readers[variant.k], q = readers[variant.q];
  const key0 = f.i32(), to = f.i32(), j = f.i32(), x = f.v128();
  const scale = f.v128(f32x4.splat(variant.softcap ? f32.div(a.scale, a.softcap) : a.scale));
  const cap = f.v128(f32x4.splat(a.softcap)), zero = f.constant(0);
  f.set(key0, query.k);
  f.set(to, f.scratch);
  const keysAt = (together: number) => {
    const i = f.i32(), from = f.i32(query.q), sums = f.vectors(together), left = f.v128();
    const pointers = sums.map((_, n) => f.i32(i32.add(key0, i32.mul(a.kStride, n))));
    sums.forEach((sum) => f.set(sum, zero));
    f.forRange(i, 0, i32.and(a.width, -4), 4, () => {
      f.set(left, q.four(from));
      pointers.forEach((at, n) => {
        f.set(sums[n], fused(left, key.four(at), sums[n]));
        f.advance(at, 4 * key.bytes);
      });
      f.advance(from, 4 * q.bytes);
    });
    f.forRange(i, i, a.width, 1, () => { // the last channels, in lane 0
      f.set(left, f32x4.replaceLane(zero, 0, q.one(from)));
      pointers.forEach((at, n) => {
        f.set(sums[n], fused(left, f32x4.splat(key.one(at)), sums[n]));
        f.advance(at, key.bytes);
      });
      f.advance(from, q.bytes);
    });
    f.set(x, sumsOfFour(f, [0, 1, 2, 3].map((n) => sums[Math.min(n, together - 1)])));
    f.set(x, f32x4.mul(x, scale));
    if (variant.softcap) f.set(x, f32x4.mul(cap, scalarRules.tanh(math, x)));
    if (together === 4) f.store(to, x);
    else f.store32Lane(to, x, 0);
    f.advance(to, 4 * together);
    f.advance(key0, i32.mul(a.kStride, together));
  };
  f.forRange(j, 0, i32.and(query.count, -4), 4, () => keysAt(4));
  f.forRange(j, j, query.count, 1, () => keysAt(1));
  // Filled up to a whole vector, which the softmax may then read.
  for (let lane = 0; lane < 4; lane++) f.storeF32(to, -Infinity, 4 * lane);
}

/** Scores → weights, not yet divided by their sum; returns 1 / sum (0 where there is no key). */
function writeWeights(f: FunctionBuilder, count: I32, variant: Variant): Local<"v128"> {
  const math = vectorMath(f, variant.tile.relaxed);
  const at = f.i32(),
    end = f.i32(),
    top = f.v128(f.constant(-3.4e38)),
    sum = f.v128(),
    x = f.v128(),
    total = f.f32();
  f.set(end, i32.add(f.scratch, i32.shl(count, 2)));
  f.forRange(at, f.scratch, end, 16, () => f.set(top, f32x4.pmax(top, v128.load(at))));
  f.set(top, f32x4.splat(maxOf(f, top)));
  f.set(sum, f.constant(0));
  f.forRange(at, f.scratch, end, 16, () => {
    f.set(x, f32x4.sub(v128.load(at), top));
    f.set(x, scalarRules.exp(math, x));
    f.store(at, x);
    f.set(sum, f32x4.add(sum, x));
  });
  f.set(total, sumOf(f, sum));
  return f.v128(f32x4.splat(f32.select(f32.eq(total, 0), 0, f32.div(1, total))));
}

/** out = Σ weight · value: a stretch of channels stays in registers while the keys go by. */
function writeValues(
  f: FunctionBuilder,
  a: DecodeArguments,
  variant: Variant,
  query: Query,
  factor: Local<"v128">,
): void {
  const fused = madd(variant.tile.relaxed), value = readers[variant.v];
  const channel = f.i32(),
    from = f.i32(),
    at = f.i32(),
    end = f.i32(),
    weight = f.v128(),
    zero = f.constant(0);
  const sweep = (vectors: number, lanes: 1 | 4) => {
    const sums = f.vectors(vectors),
      to = f.i32(i32.add(query.out, i32.shl(channel, 2))),
      result = f.v128();
    sums.forEach((sum) => f.set(sum, zero));
    f.set(from, i32.add(query.v, i32.mul(channel, value.bytes)));
    f.forRange(at, f.scratch, end, 4, () => {
      f.set(weight, v128.load32Splat(at));
      sums.forEach((sum, n) => {
        const four = lanes === 4
          ? value.four(from, 4 * n * value.bytes)
          : f32x4.splat(value.one(from));
        f.set(sum, fused(weight, four, sum));
      });
      f.advance(from, a.vStride);
    });
    sums.forEach((sum, n) => {
      f.set(result, f32x4.mul(sum, factor));
      if (lanes === 4) f.store(to, result, 16 * n);
      else f.store32Lane(to, result, 0);
    });
  };
  f.set(end, i32.add(f.scratch, i32.shl(query.count, 2)));
  f.set(channel, 0);
  for (const [vectors, lanes] of [[8, 4], [1, 4], [1, 1]] as const) {
    const step = vectors * lanes;
    f.while(i32.leU(i32.add(channel, step), a.width), () => {
      sweep(vectors, lanes);
      f.advance(channel, step);
    });
  }
}
