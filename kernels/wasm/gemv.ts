/**
 * Few rows times a matrix that is read as it lies: decoding, where packing would cost more than
 * multiplying. Memory sets the pace, so weights kept in bf16 are widened on the way.
 */

import type { WasmFunction, WasmJob } from "../lowering.ts";
import {
  f32,
  f32x4,
  type FunctionBuilder,
  type I32,
  i32,
  type Local,
  madd,
  type V128,
  v128,
} from "./encode.ts";
import { sumOf } from "./lanes.ts";
import { readers, type Stored } from "./panels.ts";
import type { Product } from "./product.ts";

const word = {
  a: 0,
  b: 1,
  c: 2,
  m: 3,
  n: 4,
  k: 5,
  aStride: 6,
  bStride: 7,
  aBatch: 8,
  bBatch: 9,
  cPitch: 10,
} as const;

/** Columns of C in a unit. */
const dotColumns = 8, streamColumns = 256;

/**
 * The product for A dense along k; nothing is added to what C held, and operands have no offsets.
 */
export function gemvJob({ a, b, c, batch, m, n, k }: Product, relaxed: boolean): WasmJob {
  const columns = b.dense === "k" ? dotColumns : streamColumns;
  const write = b.dense === "k" ? writeDots : writeStream;
  const fn: WasmFunction = {
    key: `gemv ${a.stored} ${b.stored} ${b.dense} ${relaxed}`,
    build: (f) =>
      eachBlock(f, columns, (block) => write(f, block, a.stored, b.stored, madd(relaxed))),
  };
  const strides = [a.stride, b.stride, a.batchStride, b.batchStride, c.pitch ?? 4 * n];
  const args = [a.at, b.at, c.at, m, n, k, ...strides];
  return { fn, args, units: batch * Math.ceil(n / columns), work: 2 * m * k * columns };
}

/**
 * One unit: addresses of A and C (of the batch's matrix, its first row), the block's first and last
 * column.
 */
interface Block {
  readonly a: Local<"i32">;
  readonly b: Local<"i32">;
  readonly c: Local<"i32">;
  readonly first: Local<"i32">;
  readonly last: Local<"i32">;
}

function eachBlock(f: FunctionBuilder, columns: number, write: (block: Block) => void): void {
  const n = f.arg(word.n), across = f.i32(i32.divU(i32.add(n, columns - 1), columns));
  const unit = f.i32(),
    matrix = f.i32(),
    a = f.i32(),
    b = f.i32(),
    c = f.i32(),
    first = f.i32(),
    last = f.i32();
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.set(matrix, i32.divU(unit, across));
    f.set(first, i32.mul(i32.remU(unit, across), columns));
    f.set(last, i32.minU(i32.add(first, columns), n));
    f.set(a, i32.add(f.arg(word.a), i32.mul(matrix, f.arg(word.aBatch))));
    f.set(b, i32.add(f.arg(word.b), i32.mul(matrix, f.arg(word.bBatch))));
    f.set(c, i32.add(f.arg(word.c), i32.mul(i32.mul(matrix, f.arg(word.m)), f.arg(word.cPitch))));
    write({ a, b, c, first, last });
  });
}

type Fused = (a: V128, b: V128, c: V128) => V128;

/** Vectors of K that are summed apart: as many as hide the latency of an addition. */
const apart = 4;

/**
 * B as rows of n, dense along k. One row of B at a time, from beginning to end: that is the order
 * in which memory is fetched ahead; several rows together were half as fast. Each result is summed
 * in the same order whatever the number of A's rows, so a token has the same bits alone and in a
 * small batch.
 */
function writeDots(
  f: FunctionBuilder,
  block: Block,
  aStored: Stored,
  bStored: Stored,
  fused: Fused,
): void {
  const m = f.arg(word.m), row = f.i32(), column = f.i32();
  const rows = (together: number) => {
    dots(f, together, block, row, column, { a: aStored, b: bStored, fused });
    f.advance(row, together);
  };
  f.forRange(column, block.first, block.last, 1, () => {
    f.set(row, 0);
    f.while(i32.leU(i32.add(row, 2), m), () => rows(2));
    f.if(i32.ltU(row, m), () => rows(1));
  });
}

function dots(
  f: FunctionBuilder,
  rows: number,
  { a, b, c }: Block,
  row: I32,
  column: I32,
  how: { readonly a: Stored; readonly b: Stored; readonly fused: Fused },
): void {
  const k = f.arg(word.k), aReader = readers[how.a], bReader = readers[how.b];
  const along = (base: I32, at: I32, stride: I32) => f.i32(i32.add(base, i32.mul(at, stride)));
  const xs = Array.from({ length: rows }, (_, r) => along(a, i32.add(row, r), f.arg(word.aStride)));
  const weights = along(b, column, f.arg(word.bStride)), weight = f.v128(), zero = f.constant(0);
  const sums = xs.map(() => f.vectors(apart)), rests = xs.map(() => f.f32(0)), i = f.i32();
  sums.flat().forEach((sum) => f.set(sum, zero));
  const advance = (elements: number) => {
    xs.forEach((at) => f.advance(at, elements * aReader.bytes));
    f.advance(weights, elements * bReader.bytes);
  };
  const vectors = (count: number) => {
    for (let v = 0; v < count; v++) {
      f.set(weight, bReader.four(weights, 4 * v * bReader.bytes));
      xs.forEach((at, r) =>
        f.set(sums[r][v], how.fused(aReader.four(at, 4 * v * aReader.bytes), weight, sums[r][v]))
      );
    }
    advance(4 * count);
  };
  f.forRange(i, 0, i32.and(k, -4 * apart), 4 * apart, () => vectors(apart));
  f.forRange(i, i, i32.and(k, -4), 4, () => vectors(1));
  f.forRange(i, i, k, 1, () => {
    xs.forEach((at, r) =>
      f.set(rests[r], f32.add(rests[r], f32.mul(aReader.one(at), bReader.one(weights))))
    );
    advance(1);
  });
  xs.forEach((_, r) => {
    const [s0, s1, s2, s3] = sums[r], to = along(c, i32.add(row, r), f.arg(word.cPitch));
    const total = sumOf(f, f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
    f.storeF32(i32.add(to, i32.shl(column, 2)), f32.add(total, rests[r]));
  });
}

/**
 * B as rows of k, dense along n: four of its rows at a time are added to a stretch of the result.
 */
function writeStream(
  f: FunctionBuilder,
  { a, b, c, first, last }: Block,
  aStored: Stored,
  bStored: Stored,
  fused: Fused,
): void {
  const aReader = readers[aStored],
    bReader = readers[bStored],
    k = f.arg(word.k),
    stride = f.arg(word.bStride);
  const row = f.i32(), i = f.i32(), to = f.i32(), x = f.i32(), from = f.i32();
  const begin = f.i32(), end = f.i32(), value = f.v128();
  const sweep = (together: number) => {
    const factors = f.vectors(together), rows = Array.from({ length: together }, () => f.i32());
    factors.forEach((factor, r) => f.set(factor, f32x4.splat(aReader.one(x, r * aReader.bytes))));
    rows.forEach((at, r) => f.set(at, i32.add(from, i32.mul(stride, r))));
    f.forRange(to, begin, i32.add(begin, i32.and(i32.sub(end, begin), -16)), 16, () => {
      f.set(value, v128.load(to));
      rows.forEach((at, r) => f.set(value, fused(factors[r], bReader.four(at), value)));
      f.store(to, value);
      rows.forEach((at) => f.advance(at, 4 * bReader.bytes));
    });
    f.forRange(to, to, end, 4, () => { // the last columns, as vectors of one
      f.set(value, v128.load32Zero(to));
      rows.forEach((at, r) => f.set(value, fused(factors[r], f32x4.splat(bReader.one(at)), value)));
      f.store32Lane(to, value, 0);
      rows.forEach((at) => f.advance(at, bReader.bytes));
    });
    f.advance(x, together * aReader.bytes);
    f.advance(from, i32.mul(stride, together));
  };
  f.forRange(row, 0, f.arg(word.m), 1, () => {
    f.set(begin, i32.add(c, i32.add(i32.mul(row, f.arg(word.cPitch)), i32.shl(first, 2))));
    f.set(end, i32.add(begin, i32.shl(i32.sub(last, first), 2)));
    f.forRange(to, begin, end, 4, () => f.storeF32(to, 0));
    f.set(x, i32.add(a, i32.mul(row, f.arg(word.aStride))));
    f.set(from, i32.add(b, i32.mul(first, bReader.bytes)));
    f.forRange(i, 0, i32.and(k, -4), 4, () => sweep(4));
    f.forRange(i, i, k, 1, () => sweep(1));
  });
}
