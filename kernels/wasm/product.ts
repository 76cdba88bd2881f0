/**
 * C = A B on the cpu device, for any two matrices in memory. B is packed once, by all members; then
 * blocks of C are shared out, each packing its own rows of A. An element is summed in an order that
 * K alone fixes, so no cut and no number of members changes its bits.
 */

import {
  bytesPerElement,
  type CpuJob,
  type CpuLowering,
  type CpuTarget,
  type Operand,
  type WasmJob,
} from "../lowering.ts";
import { i32 } from "./encode.ts";
import { gemvJob } from "./gemv.ts";
import { halveRows, sizeShift } from "./elements.ts";
import { namedJob } from "./job.ts";
import {
  blockK,
  columnsOf,
  type Dense,
  multiplyPanels,
  packPanels,
  spareBytes,
  type Stored,
  type Tile,
  tileFor,
} from "./panels.ts";

/** An operand of a product as it lies in memory. Distances are in bytes. */
export interface Matrix {
  readonly at: Operand;
  readonly offset?: number;
  readonly stored: Stored;
  /** The axis that is dense: rows of A or columns of B (`outer`), or K. */
  readonly dense: Dense;
  /** Along the other axis, and from one matrix of the batch to the next. */
  readonly stride: number;
  readonly batchStride: number;
}

/** Where C goes: rows lie `pitch` bytes apart (dense where left out), matrices m rows apart. */
export interface Target {
  readonly at: Operand;
  readonly offset?: number;
  readonly pitch?: number;
  /** f32 where left out. As bf16 it is made in the members' scratch, so it cannot be added to. */
  readonly stored?: Stored;
}

export interface Product {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Target;
  /** C += A B */
  readonly accumulate?: boolean;
}

/** How C is cut into units. */
interface Blocks {
  readonly rows: number;
  readonly columns: number;
}

/** The most rows of A that a member packs at once. */
const blockRows = 96;

/**
 * The cut that takes the busiest member the least time; it may look at their number, as no cut
 * changes a bit. A row packed again for each block of columns is counted as twenty FLOPs an
 * element.
 */
function chooseBlocks({ batch, m, n, k }: Product, tile: Tile, { threads }: CpuTarget): Blocks {
  const width = columnsOf(tile), allRows = tile.rows * Math.ceil(m / tile.rows);
  let best: Blocks = { rows: blockRows, columns: n }, least = Infinity;
  for (const limit of [blockRows, 84, 72, 60, 48, 36, 24]) {
    const rows = Math.min(limit, allRows);
    for (const parts of [1, 2, 4, 8, 16, 32]) {
      const columns = width * Math.ceil(n / width / parts);
      const units = batch * Math.ceil(m / rows) * Math.ceil(n / columns);
      const time = Math.ceil(units / threads) * (rows * k * (2 * columns + 20) + 5000);
      if (time < least * 0.98) [best, least] = [{ rows, columns }, time];
    }
  }
  return best;
}

/** Packs B; units are panels. */
export function packJob(
  { batch, n, k, b }: Product,
  packed: Operand,
  { relaxed }: CpuTarget,
): WasmJob {
  const width = columnsOf(tileFor(relaxed)), pack = packPanels(width, b.stored, b.dense);
  const panels = Math.ceil(n / width), element = bytesPerElement(b.stored);
  return namedJob({
    key: `product ${pack.key}`,
    args: {
      source: b.at,
      packed,
      outer: n,
      k,
      stride: b.stride,
      batchStride: b.batchStride,
      panels,
      offset: b.offset ?? 0,
    },
    units: batch * panels,
    work: 2 * width * k,
    build(f, { source, packed, outer, k, stride, batchStride, panels, offset }) {
      const unit = f.i32(), first = f.i32(), from = f.i32(), start = f.i32(i32.add(source, offset));
      f.forRange(unit, f.begin, f.end, 1, () => {
        f.set(first, i32.mul(i32.remU(unit, panels), width));
        f.set(from, i32.add(start, i32.mul(i32.divU(unit, panels), batchStride)));
        f.call(
          pack,
          i32.add(from, i32.mul(first, b.dense === "k" ? stride : element)),
          i32.add(packed, i32.mul(i32.mul(unit, k), 4 * width)),
          i32.minU(width, i32.sub(outer, first)),
          k,
          stride,
        );
      });
    },
  });
}

/** Multiplies by a packed B; units are blocks of C. */
export function blockJob(product: Product, packed: Operand, target: CpuTarget): WasmJob {
  const { batch, m, n, k, a, c } = product, tile = tileFor(target.relaxed), width = columnsOf(tile);
  const pack = packPanels(tile.rows, a.stored, a.dense), multiply = multiplyPanels(tile);
  const { rows, columns } = chooseBlocks(product, tile, target),
    element = bytesPerElement(a.stored),
    { stored = "f32" } = c,
    isHalf = stored === "bf16";
  return namedJob({
    key: `product ${multiply.key} ${a.stored} ${a.dense} ${stored}`,
    args: {
      left: a.at,
      leftOffset: a.offset ?? 0,
      stride: a.stride,
      batchStride: a.batchStride,
      packed,
      out: c.at,
      outOffset: c.offset ?? 0,
      pitch: c.pitch ?? bytesPerElement(stored) * n,
      m,
      n,
      k,
      rows,
      columns,
      accumulate: product.accumulate ? 1 : 0,
    },
    units: batch * Math.ceil(m / rows) * Math.ceil(n / columns),
    work: 2 * rows * columns * k,
    build(f, w) {
      const left = f.i32(i32.add(w.left, w.leftOffset)), out = f.i32(i32.add(w.out, w.outOffset));
      const down = f.i32(i32.divU(i32.add(w.m, i32.sub(w.rows, 1)), w.rows));
      const across = f.i32(i32.divU(i32.add(w.n, i32.sub(w.columns, 1)), w.columns));
      const panels = i32.divU(i32.add(w.n, width - 1), width);
      const rightStride = f.i32(i32.mul(i32.mul(panels, w.k), 4 * width));
      const unit = f.i32(), matrix = f.i32(), row = f.i32(), column = f.i32(), height = f.i32();
      const at = f.i32(), depth = f.i32(), panel = f.i32(i32.add(f.scratch, spareBytes));
      const corner = f.i32(), count = f.i32();
      const block = f.i32(i32.add(panel, 4 * blockRows * blockK));
      f.forRange(unit, f.begin, f.end, 1, () => {
        f.set(column, i32.mul(i32.remU(unit, across), w.columns));
        f.set(row, i32.divU(unit, across));
        f.set(matrix, i32.divU(row, down));
        f.set(row, i32.mul(i32.remU(row, down), w.rows));
        f.set(height, i32.minU(w.rows, i32.sub(w.m, row)));
        f.set(count, i32.minU(w.columns, i32.sub(w.n, column)));
        f.set(corner, i32.mul(i32.add(i32.mul(matrix, w.m), row), w.pitch));
        f.set(corner, i32.add(i32.add(out, corner), i32.shl(column, sizeShift(stored))));
        f.forRange(at, 0, w.k, blockK, () => {
          f.set(depth, i32.minU(blockK, i32.sub(w.k, at)));
          const [rowStep, kStep] = a.dense === "k" ? [w.stride, element] : [element, w.stride];
          const first = i32.add(i32.mul(row, rowStep), i32.mul(at, kStep));
          const from = i32.add(i32.add(left, i32.mul(matrix, w.batchStride)), first);
          f.call(pack, from, panel, height, depth, w.stride);
          const right = i32.mul(i32.add(i32.mul(column, w.k), i32.mul(at, width)), 4);
          f.call(
            multiply,
            panel,
            i32.add(i32.add(w.packed, i32.mul(matrix, rightStride)), right),
            isHalf ? block : corner,
            isHalf ? i32.shl(w.columns, 2) : w.pitch,
            height,
            count,
            depth,
            i32.mul(depth, 4 * tile.rows),
            i32.mul(w.k, 4 * width),
            i32.or(w.accumulate, i32.ne(at, 0)),
            f.scratch,
          );
        });
        if (isHalf) {
          halveRows(f, [block, i32.shl(w.columns, 2)], [corner, w.pitch], height, count);
        }
      });
    },
  });
}

/** Bytes that each member needs for a `blockJob`. */
export function blockBytes(product: Product, target: CpuTarget): number {
  const packed = spareBytes + 4 * blockRows * blockK;
  if (product.c.stored !== "bf16") return packed;
  const { rows, columns } = chooseBlocks(product, tileFor(target.relaxed), target);
  return packed + 4 * rows * columns;
}

/** Bytes of B packed. */
export function packedBytes({ batch, n, k }: Product, { relaxed }: CpuTarget): number {
  const width = columnsOf(tileFor(relaxed));
  return batch * Math.ceil(n / width) * k * width * 4;
}

/** Whether a BLAS can make it: it knows f32 alone. */
export function isBlas({ a, b, c }: Product): boolean {
  return [a, b, c].every(({ stored = "f32" }) => stored === "f32");
}

/** A product by the system's BLAS, one call for each matrix of the batch. */
export function gemmJobs({ a, b, c, batch, m, n, k, accumulate = false }: Product): CpuJob[] {
  const pitch = c.pitch ?? 4 * n;
  const gemm = {
    transA: a.dense === "outer",
    transB: b.dense === "k",
    m,
    n,
    k,
    accumulate,
    lda: a.stride / 4,
    ldb: b.stride / 4,
    ldc: pitch / 4,
  };
  const start = (matrix: { offset?: number }, at: number, stride: number) =>
    ((matrix.offset ?? 0) + at * stride) / 4;
  return Array.from({ length: batch }, (_, at) => ({
    gemm,
    a: a.at,
    b: b.at,
    c: c.at,
    offsets: [
      start(a, at, a.batchStride),
      start(b, at, b.batchStride),
      start(c, at, m * pitch),
    ] as const,
  }));
}

/**
 * Up to this many rows are multiplied as they lie, by how B is stored: measured, the packed form is
 * not slower from there on.
 */
const thinRows: Readonly<Record<Dense, number>> = { k: 24, outer: 4 };

/**
 * The product in its fastest form; `packed` is a buffer for it to use, of the `scratchBytes` it
 * returns (one or none).
 */
export function productJobs(product: Product, packed: Operand, target: CpuTarget): CpuLowering {
  const { m, n, accumulate } = product;
  // One row or column lies dense along k whichever way it is stored.
  const a: Matrix = m === 1 ? { ...product.a, dense: "k" } : product.a;
  const b: Matrix = n === 1 && product.b.dense === "outer"
    ? { ...product.b, dense: "k" }
    : product.b;
  if (!accumulate && product.c.stored !== "bf16" && a.dense === "k" && m <= thinRows[b.dense]) {
    return { jobs: [gemvJob({ ...product, a, b }, target.relaxed)] };
  }
  if (target.blas && isBlas(product)) return { jobs: gemmJobs(product) };
  return {
    jobs: [packJob(product, packed, target), blockJob(product, packed, target)],
    scratchBytes: [packedBytes(product, target)],
    memberBytes: blockBytes(product, target),
  };
}
