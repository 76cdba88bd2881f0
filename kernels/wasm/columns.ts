/**
 * Sums over rows. Where there are many rows, blocks of them are summed first, each into a row of
 * its own, and then the blocks: always the same blocks, so the bits do not depend on the pool.
 */

import { type OpContext, sizeOf, type Spec } from "../../core/graph/tensor.ts";
import {
  type CpuLowering,
  type CpuTarget,
  input,
  type JobArg,
  type Operand,
  output,
  scratch,
  type WasmJob,
} from "../lowering.ts";
import { loadDense, overRow, sizeShift, storedAs, storeDense, storePart } from "./elements.ts";
import { f32x4, i32 } from "./encode.ts";
import { columnBlocks, fusedJobs, rowBytes } from "./fused.ts";
import { namedJob } from "./job.ts";
import type { Stored } from "./panels.ts";
import type { RowProgram } from "./passes.ts";
import { vectorMath } from "./scalar.ts";
import { programWriter } from "../program_writer.ts";

/** Columns of a unit: a few cache lines of each row. */
const unitColumns = 64;

/** out[j] = Σ x[row][j], rows in order, `stride` bytes apart. */
function sumRows(
  type: Stored,
  sizes: { readonly rows: number; readonly columns: number; readonly stride: number },
  x: JobArg,
  out: Operand,
): WasmJob {
  const { rows, columns } = sizes;
  return namedJob({
    key: `sum_rows ${type}`,
    args: { x, out, ...sizes },
    units: Math.ceil(columns / unitColumns),
    work: rows * Math.min(columns, unitColumns),
    build(f, { x, out, rows, columns, stride }) {
      const s = vectorMath(f, false);
      const last = f.i32(i32.minU(i32.mul(f.end, unitColumns), columns)),
        first = f.i32(i32.mul(f.begin, unitColumns)),
        row = f.i32(),
        from = f.i32(),
        to = f.i32();
      const sums = f.vectors(4), at = f.i32(), rest = f.i32();
      const shift = sizeShift(type);
      /** The next `vectors` vectors of columns, from byte 4 · column on. */
      const sumFrom = (column: Local, vectors: number) => {
        sums.slice(0, vectors).forEach((sum) => f.set(sum, f.constant(0)));
        f.set(from, i32.add(x, shift === 2 ? column : i32.shrU(column, 1)));
        f.forRange(row, 0, rows, 1, () => {
          sums.slice(0, vectors).forEach((sum, v) =>
            f.set(sum, f32x4.add(sum, loadDense(type, from, v)))
          );
          f.advance(from, stride);
        });
        f.set(to, i32.add(out, column));
      };
      const lines = f.i32(i32.add(first, i32.and(i32.sub(last, first), -16)));
      f.forRange(at, i32.shl(first, 2), i32.shl(lines, 2), 64, () => {
        sumFrom(at, 4);
        sums.forEach((sum, v) => storeDense(s, "f32", to, sum, v));
      });
      const start = f.i32(i32.shl(lines, 2)), column = f.i32();
      overRow(f, i32.sub(last, lines), at, rest, (part) => {
        f.set(column, i32.add(start, at));
        sumFrom(column, 1);
        if (part) storePart(s, "f32", to, sums[0], rest);
        else storeDense(s, "f32", to, sums[0]);
      });
    },
  });
}

type Local = Parameters<typeof overRow>[2];

/**
 * A program with `columns`, followed by the sums of its blocks. `columns[i]` is where column sum i
 * goes; they take the scratch buffers from `firstScratch` on.
 */
export function withColumns(
  program: RowProgram,
  inputs: readonly JobArg[],
  outputs: readonly Operand[],
  columns: readonly Operand[],
  specs: readonly Spec[],
  target: CpuTarget,
): CpuLowering | undefined {
  const width = program.shape.at(-1)!, rows = sizeOf(program.shape) / width;
  const partials = columns.map((_, n) => scratch(n)), stride = rowBytes(width);
  const found = fusedJobs(program, inputs, [...outputs, ...partials], specs, target);
  if (!found) return undefined;
  const blocks = Math.min(rows, columnBlocks);
  return {
    jobs: [
      ...found.jobs,
      ...columns.map((out, n) =>
        sumRows("f32", { rows: blocks, columns: width, stride }, partials[n], out)
      ),
    ],
    scratchBytes: columns.map(() => blocks * stride),
    memberBytes: found.memberBytes,
  };
}

/** Fewer columns than this are gathered into rows. */
const fewColumns = 16;
/** From here on the columns alone are enough to share out. */
const manyColumns = 4096;

export function sumLeadingWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs: [x], outputs: [out] } = node, type = storedAs(x.dtype);
  const columns = sizeOf(out.shape), rows = sizeOf(x.shape) / columns;
  if (!type || columns * rows === 0) return undefined;
  if (columns < fewColumns) {
    const p = programWriter([columns, rows]), sum = p.sum(p.read([1, columns]));
    const program: RowProgram = {
      ...p.finish([], out),
      outputs: [{ value: sum, extent: "row", spec: out }],
    };
    return fusedJobs(program, [input(0)], [output(0)], [x], target);
  }
  if (columns >= manyColumns || rows <= columnBlocks) {
    const stride = columns << sizeShift(type);
    return { jobs: [sumRows(type, { rows, columns, stride }, input(0), output(0))] };
  }
  const p = programWriter([rows, columns]), terms = [p.read([columns, 1])];
  const program: RowProgram = { ...p.finish([], out), columns: terms };
  return withColumns(program, [input(0)], [], [output(0)], [x], target);
}
