/**
 * Matrix products on the cpu device. B is packed once, by all members; then blocks of C are shared out, each packing its own rows of A.
 * A single row, and a few rows times a weight stored [out, in], are read as they lie (`gemv.ts`). A BLAS takes the rest where there is one.
 */

import type { OpContext, Spec } from "../../core/graph/mod.ts";
import {
  bytesPerElement,
  type CpuJob,
  type CpuLowering,
  type CpuTarget,
  input,
  type Operand,
  output,
  scratch,
  type WasmFunction,
  type WasmJob,
} from "../lowering.ts";
import { type MatmulAttrs, type MatmulSizes, matmulSizes } from "../matmul.ts";
import { type FunctionBuilder, i32 } from "./encode.ts";
import { gemvJob } from "./gemv.ts";
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

/** One operand of a product as it lies in memory. */
export interface Matrix {
  readonly at: Operand;
  readonly stored: Stored;
  /** The axis that is dense: rows of A or columns of B (`outer`), or K. */
  readonly dense: Dense;
  /** Bytes along the other axis, and from one matrix of the batch to the next. */
  readonly stride: number;
  readonly batchStride: number;
}

export interface Product extends MatmulSizes {
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Operand;
}

/** (source, packed, outer, k, stride, batch stride, panels of a matrix): units are panels. */
function packKernel(width: number, { stored, dense }: Matrix): WasmFunction {
  const pack = packPanels(width, stored, dense);
  const step = dense === "k" ? undefined : bytesPerElement(stored);
  return {
    key: `matmul ${pack.key}`,
    build(f) {
      const [source, packed, outer, k, stride, batchStride, panels] = [0, 1, 2, 3, 4, 5, 6].map((
        n,
      ) => f.arg(n));
      const unit = f.i32(), from = f.i32(), first = f.i32();
      f.forRange(unit, f.begin, f.end, 1, () => {
        f.set(first, i32.mul(i32.remU(unit, panels), width));
        f.set(from, i32.add(source, i32.mul(i32.divU(unit, panels), batchStride)));
        f.call(
          pack,
          i32.add(from, i32.mul(first, step ?? stride)),
          i32.add(packed, i32.mul(i32.mul(unit, k), 4 * width)),
          i32.minU(width, i32.sub(outer, first)),
          k,
          stride,
        );
      });
    },
  };
}

/** How C is cut into units. */
interface Blocks {
  readonly rows: number;
  readonly columns: number;
}

/**
 * The cut that takes the busiest member the least time. Any cut gives the same bits, so this may look at the number of members; a row
 * packed again for each block of columns is counted as twenty FLOPs an element.
 */
function chooseBlocks({ batch, m, n, k }: MatmulSizes, tile: Tile, { threads }: CpuTarget): Blocks {
  const width = columnsOf(tile), fullRows = tile.rows * Math.ceil(m / tile.rows);
  let best: Blocks | undefined, least = Infinity;
  for (const limit of [96, 84, 72, 60, 48, 36, 24]) {
    const rows = Math.min(limit, fullRows);
    for (const parts of [1, 2, 4, 8, 16, 32]) {
      const columns = width * Math.ceil(n / width / parts);
      const units = batch * Math.ceil(m / rows) * Math.ceil(n / columns);
      const time = Math.ceil(units / threads) * (rows * k * (2 * columns + 20) + 5000);
      if (time < least * 0.98) [best, least] = [{ rows, columns }, time];
    }
  }
  return best!;
}

const rowsPerBlock = 7, columnsPerBlock = 8;

/** (A, packed B, C, m, n, k, A's stride, rows and columns of a block, A's batch stride): units are blocks of C. */
function blockKernel(tile: Tile, { stored, dense }: Matrix): WasmFunction {
  const pack = packPanels(tile.rows, stored, dense),
    multiply = multiplyPanels(tile),
    width = columnsOf(tile);
  const element = bytesPerElement(stored);
  return {
    key: `matmul ${multiply.key} ${stored} ${dense}`,
    build(f: FunctionBuilder) {
      const [a, b, c, m, n, k, stride] = [0, 1, 2, 3, 4, 5, 6].map((word) => f.arg(word));
      const height = f.arg(rowsPerBlock), breadth = f.arg(columnsPerBlock), batchStride = f.arg(9);
      const down = f.i32(i32.divU(i32.add(m, i32.sub(height, 1)), height));
      const across = f.i32(i32.divU(i32.add(n, i32.sub(breadth, 1)), breadth));
      const bBatch = f.i32(i32.mul(i32.mul(i32.divU(i32.add(n, width - 1), width), k), 4 * width));
      const unit = f.i32(),
        matrix = f.i32(),
        row = f.i32(),
        column = f.i32(),
        rows = f.i32(),
        at = f.i32(),
        depth = f.i32();
      const packed = i32.add(f.scratch, spareBytes);
      f.forRange(unit, f.begin, f.end, 1, () => {
        f.set(column, i32.mul(i32.remU(unit, across), breadth));
        f.set(row, i32.divU(unit, across));
        f.set(matrix, i32.divU(row, down));
        f.set(row, i32.mul(i32.remU(row, down), height));
        f.set(rows, i32.minU(height, i32.sub(m, row)));
        f.forRange(at, 0, k, blockK, () => {
          f.set(depth, i32.minU(blockK, i32.sub(k, at)));
          const [rowStep, kStep] = dense === "k" ? [stride, element] : [element, stride];
          const corner = i32.add(i32.mul(row, rowStep), i32.mul(at, kStep));
          f.call(
            pack,
            i32.add(i32.add(a, i32.mul(matrix, batchStride)), corner),
            packed,
            rows,
            depth,
            stride,
          );
          f.call(
            multiply,
            packed,
            i32.add(
              i32.add(b, i32.mul(matrix, bBatch)),
              i32.mul(i32.add(i32.mul(column, k), i32.mul(at, width)), 4),
            ),
            i32.add(c, i32.shl(i32.add(i32.mul(i32.add(i32.mul(matrix, m), row), n), column), 2)),
            i32.shl(n, 2),
            rows,
            i32.minU(breadth, i32.sub(n, column)),
            depth,
            i32.mul(depth, 4 * tile.rows),
            i32.mul(k, 4 * width),
            i32.ne(at, 0),
            f.scratch,
          );
        });
      });
    },
  };
}

/** Bytes of B packed for `packedJobs`. */
export function packedBytes({ batch, n, k }: MatmulSizes, target: CpuTarget): number {
  const width = columnsOf(tileFor(target.relaxed));
  return batch * Math.ceil(n / width) * k * width * 4;
}

/** Bytes that each member needs for `packedJobs`. */
export const blockBytes = spareBytes + 96 * blockK * 4;

/** The product by packed panels; `packed` is a buffer of `packedBytes`. */
export function packedJobs(product: Product, packed: Operand, target: CpuTarget): WasmJob[] {
  const { a, b, c, batch, m, n, k } = product,
    tile = tileFor(target.relaxed),
    width = columnsOf(tile);
  const panels = Math.ceil(n / width), { rows, columns } = chooseBlocks(product, tile, target);
  return [{
    fn: packKernel(width, b),
    args: [b.at, packed, n, k, b.stride, b.batchStride, panels],
    units: batch * panels,
    work: 2 * width * k,
  }, {
    fn: blockKernel(tile, a),
    args: [a.at, packed, c, m, n, k, a.stride, rows, columns, a.batchStride],
    units: batch * Math.ceil(m / rows) * Math.ceil(n / columns),
    work: 2 * rows * columns * k,
  }];
}

/** A product by the system's BLAS, one call for each matrix of the batch. */
function gemmJobs({ a, b, c, batch, m, n, k }: Product): CpuJob[] {
  const gemm = {
    transA: a.dense === "outer",
    transB: b.dense === "k",
    m,
    n,
    k,
    accumulate: false,
    lda: a.stride / 4,
    ldb: b.stride / 4,
    ldc: n,
  };
  return Array.from({ length: batch }, (_, at) => ({
    gemm,
    a: a.at,
    b: b.at,
    c,
    offsets: [at * a.batchStride / 4, at * b.batchStride / 4, at * m * n] as const,
  }));
}

export function matrixOf({ shape, dtype }: Spec, at: Operand, dense: Dense): Matrix {
  const bytes = bytesPerElement(dtype), [rows, columns] = shape.slice(-2);
  return {
    at,
    stored: dtype as Stored,
    dense,
    stride: columns * bytes,
    batchStride: rows * columns * bytes,
  };
}

/** Up to this many rows are multiplied as they lie, by how B is stored: measured, the packed form is faster from there on. */
const thinRows: Readonly<Record<Dense, number>> = { k: 20, outer: 4 };

export function matmulWasm(
  { inputs, attrs }: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  const { transA, transB, epilogue } = attrs as unknown as MatmulAttrs,
    sizes = matmulSizes(inputs, attrs);
  const { batch, m, n, k } = sizes;
  if (epilogue || batch * m * n * k === 0) return undefined;
  if (inputs.slice(0, 2).some(({ dtype }) => dtype !== "f32" && dtype !== "bf16")) return undefined;
  const a = matrixOf(inputs[0], input(0), transA ? "outer" : "k"),
    b = matrixOf(inputs[1], input(1), transB ? "k" : "outer");
  const product: Product = { ...sizes, a, b, c: output(0) };
  return productJobs(product, target, scratch(0));
}

export function productJobs(product: Product, target: CpuTarget, packed: Operand): CpuLowering {
  const { m, n, a, b: { dense } } = product;
  // One row or column lies dense along k whichever way it is stored.
  const row: Matrix = m === 1 ? { ...a, dense: "k" } : a;
  const b: Matrix = n === 1 && dense === "outer" ? { ...product.b, dense: "k" } : product.b;
  if (row.dense === "k" && m <= thinRows[b.dense]) {
    return { jobs: [gemvJob({ ...product, a: row, b }, target.relaxed)] };
  }
  if (target.blas && a.stored === "f32" && b.stored === "f32") return { jobs: gemmJobs(product) };
  return {
    jobs: packedJobs(product, packed, target),
    scratchBytes: [packedBytes(product, target)],
    memberBytes: blockBytes,
  };
}
