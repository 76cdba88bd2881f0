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

interface Storing {
  readonly a: Stored;
  readonly b: Stored;
  readonly fused: Fused;
}

/**
 * B as rows of n, dense along k. For one row of A, one row of B at a time, from beginning to end: that is
 * the order in which memory is fetched ahead; several rows together were half as fast. More rows of A take
 * several of B at a time. Each result is summed in the same order whatever the number of A's rows,
 * so a token has the same bits alone and in a batch.
 */
function writeDots(
  f: FunctionBuilder,
  block: Block,
  aStored: Stored,
  bStored: Stored,
  fused: Fused,
): void {
  const m = f.arg(word.m), row = f.i32(), column = f.i32();
  const how: Storing = { a: aStored, b: bStored, fused };
  f.set(column, block.first);
  f.if(i32.leU(2, m), () => {
    f.while(i32.leU(i32.add(column, columnsTogether), block.last), () => {
      const tiles = (rows: number) => {
        tile(f, [rows, columnsTogether], block, row, column, how);
        f.advance(row, rows);
      };
      f.set(row, 0);
      f.while(i32.leU(i32.add(row, rowsTogether), m), () => tiles(rowsTogether));
      f.while(i32.ltU(row, m), () => tiles(1));
      f.advance(column, columnsTogether);
    });
  });
  f.forRange(column, column, block.last, 1, () => {
    f.forRange(row, 0, m, 1, () => dots(f, block, row, column, how));
  });
}

/** Rows of A by rows of B in a tile. */
const rowsTogether = 2, columnsTogether = 4;

/**
 * Several rows of A with several of B, so that what is read is used more than once. Sums are those of `dots`,
 * in their order: what is summed apart there, side by side, is summed here one after the other.
 */
function tile(
  f: FunctionBuilder,
  [rows, columns]: readonly [number, number],
  { a, b, c }: Block,
  row: I32,
  column: I32,
  how: Storing,
): void {
  const k = f.arg(word.k), aReader = readers[how.a], bReader = readers[how.b];
  const along = (base: I32, at: I32, stride: I32) => f.i32(i32.add(base, i32.mul(at, stride)));
  const list = (n: number) => Array.from({ length: n }, (_, i) => i);
  const lefts = list(rows).map((r) => along(a, i32.add(row, r), f.arg(word.aStride)));
  const rights = list(columns).map((n) => along(b, i32.add(column, n), f.arg(word.bStride)));
  const xs = lefts.map((at) => f.i32(at)), ys = rights.map((at) => f.i32(at));
  const left = f.v128(), right = f.vectors(columns), zero = f.constant(0), i = f.i32();
  const sums = f.vectors(rows * columns), kept = f.vectors(rows * columns);
  const pairs = f.vectors(rows * columns);
  const advance = (elements: number) => {
    xs.forEach((at) => f.advance(at, elements * aReader.bytes));
    ys.forEach((at) => f.advance(at, elements * bReader.bytes));
  };
  const multiply = (v: number) => {
    right.forEach((value, n) => f.set(value, bReader.four(ys[n], 4 * v * bReader.bytes)));
    xs.forEach((at, r) => {
      f.set(left, aReader.four(at, 4 * v * aReader.bytes));
      right.forEach((value, n) => {
        const sum = sums[r * columns + n];
        f.set(sum, how.fused(left, value, sum));
      });
    });
  };
  const blocks = i32.and(k, -4 * apart), step = 4 * apart;
  for (let v = 0; v < apart; v++) {
    sums.forEach((sum) => f.set(sum, zero));
    xs.forEach((at, r) => f.set(at, lefts[r]));
    ys.forEach((at, n) => f.set(at, rights[n]));
    f.forRange(i, 0, i32.and(k, -2 * step), 2 * step, () => {
      multiply(v);
      multiply(v + apart);
      advance(2 * step);
    });
    f.forRange(i, i, blocks, step, () => {
      multiply(v);
      advance(step);
    });
    if (v === 0) {
      f.forRange(i, i, i32.and(k, -4), 4, () => {
        multiply(0);
        advance(4);
      });
    }
    sums.forEach((sum, n) => { // (first + second) + (third + fourth)
      if (v % 2 === 0) f.set(kept[n], sum);
      else if (v === 1) f.set(pairs[n], f32x4.add(kept[n], sum));
      else f.set(sum, f32x4.add(pairs[n], f32x4.add(kept[n], sum)));
    });
  }
  const end = i32.and(k, -4), rest = f.f32();
  lefts.forEach((x, r) => {
    const to = f.i32(i32.add(along(c, i32.add(row, r), f.arg(word.cPitch)), i32.shl(column, 2)));
    rights.forEach((y, n) => {
      f.set(rest, 0);
      f.set(xs[0], i32.add(x, i32.mul(end, aReader.bytes)));
      f.set(ys[0], i32.add(y, i32.mul(end, bReader.bytes)));
      f.forRange(i, end, k, 1, () => {
        f.set(rest, f32.add(rest, f32.mul(aReader.one(xs[0]), bReader.one(ys[0]))));
        f.advance(xs[0], aReader.bytes);
        f.advance(ys[0], bReader.bytes);
      });
      f.storeF32(to, f32.add(sumOf(f, sums[r * columns + n]), rest), 4 * n);
    });
  });
}

function dots(
  f: FunctionBuilder,
  { a, b, c }: Block,
  row: I32,
  column: I32,
  how: Storing,
): void {
  const k = f.arg(word.k), aReader = readers[how.a], bReader = readers[how.b];
  const x = f.i32(i32.add(a, i32.mul(row, f.arg(word.aStride))));
  const y = f.i32(i32.add(b, i32.mul(column, f.arg(word.bStride))));
  const sums = f.vectors(apart), rest = f.f32(0), zero = f.constant(0), i = f.i32();
  sums.forEach((sum) => f.set(sum, zero));
  const advance = (elements: number) => {
    f.advance(x, elements * aReader.bytes);
    f.advance(y, elements * bReader.bytes);
  };
  const vectors = (count: number) => {
    for (let v = 0; v < count; v++) {
      const right = bReader.four(y, 4 * v * bReader.bytes);
      f.set(sums[v], how.fused(aReader.four(x, 4 * v * aReader.bytes), right, sums[v]));
    }
    advance(4 * count);
  };
  f.forRange(i, 0, i32.and(k, -4 * apart), 4 * apart, () => vectors(apart));
  f.forRange(i, i, i32.and(k, -4), 4, () => vectors(1));
  f.forRange(i, i, k, 1, () => {
    f.set(rest, f32.add(rest, f32.mul(aReader.one(x), bReader.one(y))));
    advance(1);
  });
  const [s0, s1, s2, s3] = sums;
  const total = sumOf(f, f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
  const to = i32.add(c, i32.mul(row, f.arg(word.cPitch)));
  f.storeF32(i32.add(to, i32.shl(column, 2)), f32.add(total, rest));
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
