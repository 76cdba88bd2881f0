/**
 * The heart of every matrix product: operands packed into panels, and the loops over tiles that
 * multiply them.
 *
 * A panel holds some rows of A (or columns of B) for all of K, ordered [k][row], so that the
 * micro-kernel reads both operands front to back. Transposed operands differ only in the strides
 * that the packers take. A tile of 6x8 needs 12 accumulators, 2 vectors of B and 1 of A: all 15
 * registers that V8 leaves on x64. One more (4x12, 3x16) and it spills, at half the speed.
 */

import {
  defineHelper,
  type F32,
  f32,
  f32x4,
  type FunctionBuilder,
  type Helper,
  type I32,
  i32,
  type I32Value,
  i32x4,
  type Local,
  madd,
  type V128,
  v128,
} from "./encode.ts";
import { transposed } from "./lanes.ts";

/** Rows of A by columns of B (`vectors` times 4) that one round of the micro-kernel makes. */
export interface Tile {
  readonly rows: number;
  readonly vectors: number;
  readonly relaxed: boolean;
}

/**
 * Without a fused multiply-add the product needs a register of its own, and 3x12 is the fastest (29
 * against 23 GFLOP/s).
 */
export function tileFor(relaxed: boolean): Tile {
  return relaxed ? { rows: 6, vectors: 2, relaxed } : { rows: 3, vectors: 3, relaxed };
}

export const columnsOf = ({ vectors }: Tile): number => 4 * vectors;

/**
 * K is summed in blocks of this many, each block front to back: an order that no split of rows or
 * columns changes.
 */
export const blockK = 256;

/** Bytes that `multiplyPanels` wants for ragged tiles. */
export const spareBytes = 256;

/** How operands are stored; arithmetic is f32 always. */
export type Stored = "f32" | "bf16";

interface Reader {
  readonly bytes: number;
  four(address: I32Value, offset?: number): V128;
  /** In the low half; the rest is anything. */
  two(address: I32Value, offset?: number): V128;
  one(address: I32Value, offset?: number): F32;
}

export const readers: Record<Stored, Reader> = {
  f32: { bytes: 4, four: v128.load, two: v128.load64Zero, one: f32.load },
  bf16: {
    bytes: 2,
    four: (address, offset) => i32x4.shl(v128.load16x4u(address, offset), 16),
    two: (address, offset) => i32x4.shl(i32x4.extendLowU(v128.load32Zero(address, offset)), 16),
    one: (address, offset) => f32.reinterpretI32(i32.shl(i32.load16u(address, offset), 16)),
  },
};

/** Which axis of an operand lies dense in memory: the one that panels run over (`outer`), or K. */
export type Dense = "outer" | "k";

/** The first `count` lanes of a vector. */
function storeLanes(
  f: FunctionBuilder,
  count: number,
  to: I32Value,
  value: Local<"v128">,
  offset: number,
): void {
  if (count === 4) return f.store(to, value, offset);
  if (count >= 2) f.store64Lane(to, value, 0, offset);
  if (count % 2 === 1) f.store32Lane(to, value, count - 1, offset + 4 * (count - 1));
}

/** Groups of at most four rows of a panel. */
const groups = (width: number) =>
  Array.from(
    { length: Math.ceil(width / 4) },
    (_, n) => ({ first: 4 * n, count: Math.min(4, width - 4 * n) }),
  );

/** `from` is dense over the panel's rows: one copy of `width` values for each k. */
function packAcross(
  f: FunctionBuilder,
  width: number,
  reader: Reader,
  from: Local<"i32">,
  stride: I32,
  to: Local<"i32">,
  end: I32,
) {
  const value = f.v128();
  f.forRange(to, to, end, 4 * width, () => {
    for (const { first, count } of groups(width)) {
      const offset = first * reader.bytes;
      if (count === 3) { // never read past the row
        f.set(
          value,
          f32x4.replaceLane(
            reader.two(from, offset),
            2,
            reader.one(from, offset + 2 * reader.bytes),
          ),
        );
      } else f.set(value, count === 4 ? reader.four(from, offset) : reader.two(from, offset));
      storeLanes(f, count, to, value, 4 * first);
    }
    f.advance(from, stride);
  });
}

/** `from` is dense over k: four k at a time of each row, transposed in registers. */
function packAlong(
  f: FunctionBuilder,
  width: number,
  reader: Reader,
  from: I32,
  stride: I32,
  to: Local<"i32">,
  k: I32,
  end: I32,
) {
  const rows = Array.from({ length: width }, (_, r) => f.i32(i32.add(from, i32.mul(stride, r))));
  const values = f.vectors(width), turned = f.v128();
  f.forRange(to, to, i32.add(to, i32.mul(i32.and(k, -4), 4 * width)), 16 * width, () => {
    rows.forEach((row, r) => f.set(values[r], reader.four(row)));
    for (const { first, count } of groups(width)) {
      const four = [0, 1, 2, 3].map((n) => values[first + Math.min(n, count - 1)]);
      transposed(four).forEach((vector, n) => {
        f.set(turned, vector);
        storeLanes(f, count, to, turned, 4 * (first + n * width));
      });
    }
    rows.forEach((row) => f.advance(row, 4 * reader.bytes));
  });
  f.forRange(to, to, end, 4 * width, () => {
    rows.forEach((row, r) => {
      f.storeF32(to, reader.one(row), 4 * r);
      f.advance(row, reader.bytes);
    });
  });
}

/**
 * Packs `outer` rows (of A, or columns of B) by `k` into panels of `width`; the last is filled up
 * with zeros. `stride` is the distance in bytes along the axis that is not dense.
 */
export function packPanels(
  width: number,
  stored: Stored,
  dense: Dense,
): Helper<["i32", "i32", "i32", "i32", "i32"]> {
  const reader = readers[stored];
  return defineHelper({
    key: `pack ${width} ${stored} ${dense}`,
    params: ["i32", "i32", "i32", "i32", "i32"],
    build(f, source, target, outer, k, stride) {
      const first = f.i32(), to = f.i32(target), end = f.i32(), from = f.i32(), row = f.i32();
      const step = f.i32(dense === "k" ? stride : reader.bytes),
        kStep = f.i32(dense === "k" ? reader.bytes : stride);
      f.forRange(first, 0, outer, width, () => {
        f.set(end, i32.add(to, i32.mul(k, 4 * width)));
        f.set(from, i32.add(source, i32.mul(first, step)));
        f.if(i32.leU(i32.add(first, width), outer), () => {
          if (dense === "outer") packAcross(f, width, reader, from, stride, to, end);
          else packAlong(f, width, reader, from, stride, to, k, end);
        }, () => {
          const at = f.i32(), panel = f.i32(to);
          f.forRange(row, 0, width, 1, () => {
            f.set(from, i32.add(source, i32.mul(i32.add(first, row), step)));
            f.forRange(at, i32.add(panel, i32.shl(row, 2)), end, 4 * width, () => {
              f.if(
                i32.ltU(i32.add(first, row), outer),
                () => f.storeF32(at, reader.one(from)),
                () => f.storeF32(at, 0),
              );
              f.advance(from, kStep);
            });
          });
        });
        f.set(to, end);
      });
    },
  });
}

/** Accumulators of one tile over all of k: the loop that the time is spent in. */
function multiplyTile(
  f: FunctionBuilder,
  { rows, vectors, relaxed }: Tile,
  sums: Local<"v128">[],
  a: I32,
  b: I32,
  k: I32,
): void {
  const pa = f.i32(a), pb = f.i32(b), right = f.vectors(vectors), left = f.v128(), i = f.i32();
  const fused = madd(relaxed);
  const step = (n: number) => {
    right.forEach((value, v) => f.set(value, v128.load(pb, 16 * (n * vectors + v))));
    for (let r = 0; r < rows; r++) {
      f.set(left, v128.load32Splat(pa, 4 * (n * rows + r)));
      right.forEach((value, v) =>
        f.set(sums[r * vectors + v], fused(left, value, sums[r * vectors + v]))
      );
    }
  };
  const rounds = (unroll: number, end: I32) =>
    f.forRange(i, i, end, unroll, () => {
      for (let n = 0; n < unroll; n++) step(n);
      f.advance(pa, 4 * rows * unroll);
      f.advance(pb, 16 * vectors * unroll);
    });
  f.set(i, 0);
  rounds(4, i32.and(k, -4));
  rounds(1, k);
}

/**
 * C[rows, columns] (+)= A B for packed A and B. `aStep` and `bStep` are bytes from panel to panel,
 * so a block of K may be taken out of longer panels; `pitch` is bytes from row to row of C; `spare`
 * is room for a ragged tile.
 */
export function multiplyPanels(
  tile: Tile,
): Helper<["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"]> {
  const { rows: height, vectors } = tile, width = columnsOf(tile);
  return defineHelper({
    key: `multiply ${height}x${width} ${tile.relaxed}`,
    params: ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"],
    build(f, a, b, c, pitch, rows, columns, k, aStep, bStep, accumulate, spare) {
      const i = f.i32(), j = f.i32(), left = f.i32(), right = f.i32(b), corner = f.i32();
      const whole = f.i32(), target = f.i32(), targetPitch = f.i32(), row = f.i32();
      const sums = f.vectors(height * vectors), zero = f.constant(0);
      const eachVector = (visit: (sum: Local<"v128">, offset: number) => void) => {
        f.set(row, target);
        for (let r = 0; r < height; r++) {
          for (let v = 0; v < vectors; v++) visit(sums[r * vectors + v], 16 * v);
          if (r + 1 < height) f.advance(row, targetPitch);
        }
      };
      f.forRange(j, 0, columns, width, () => {
        f.set(left, a);
        f.forRange(i, 0, rows, height, () => {
          f.set(corner, i32.add(c, i32.add(i32.mul(i, pitch), i32.shl(j, 2))));
          f.set(
            whole,
            i32.and(i32.leU(i32.add(i, height), rows), i32.leU(i32.add(j, width), columns)),
          );
          f.set(target, i32.select(whole, corner, spare));
          f.set(targetPitch, i32.select(whole, pitch, 4 * width));
          sums.forEach((sum) => f.set(sum, zero));
          multiplyTile(f, tile, sums, left, right, k);
          f.if(
            i32.and(i32.ne(accumulate, 0), whole),
            () => eachVector((sum, offset) => f.set(sum, f32x4.add(v128.load(row, offset), sum))),
          );
          eachVector((sum, offset) => f.store(row, sum, offset));
          f.if(i32.eqz(whole), () => {
            copyCorner(f, spare, 4 * width, corner, pitch, accumulate, [
              i32.minU(i32.sub(rows, i), height),
              i32.minU(i32.sub(columns, j), width),
            ]);
          });
          f.advance(left, aStep);
        });
        f.advance(right, bStep);
      });
    },
  });
}

/** The part of a ragged tile that is in C. */
function copyCorner(
  f: FunctionBuilder,
  tile: I32,
  tilePitch: number,
  corner: I32,
  pitch: I32,
  accumulate: I32,
  [rows, columns]: [I32, I32],
): void {
  const r = f.i32(), at = f.i32(), end = f.i32(), from = f.i32();
  f.forRange(r, 0, rows, 1, () => {
    f.set(from, i32.add(tile, i32.mul(r, tilePitch)));
    f.set(at, i32.add(corner, i32.mul(r, pitch)));
    f.set(end, i32.add(at, i32.shl(columns, 2)));
    f.forRange(at, at, end, 4, () => {
      f.if(
        accumulate,
        () => f.storeF32(at, f32.add(f32.load(at), f32.load(from))),
        () => f.storeF32(at, f32.load(from)),
      );
      f.advance(from, 4);
    });
  });
}
