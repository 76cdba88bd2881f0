/** The code of a fused program: the walk over rows, and in each its passes. */

import { storeOne } from "./elements.ts";
import { type FunctionBuilder, type I32, i32, type I32Value, type Local } from "./encode.ts";
import type { Pass } from "./passes.ts";
import { emitPass } from "./row_pass.ts";
import { emitRowValues, type RowKernel, type RowState, rowState, rowValue } from "./row_values.ts";
import { emitWalk, type Walker } from "./walk.ts";

export function emitRows(f: FunctionBuilder, kernel: RowKernel, relaxed: boolean): void {
  const { walk, columns, schedule } = kernel, walker = emitWalk(f, walk);
  const bytes = f.i32(rowBytesOf(walker));
  const slots = Array.from(
    { length: schedule.slots },
    (_, n) => f.i32(i32.add(f.scratch, i32.mul(bytes, n))),
  );
  const partials = columns.map(() => f.i32());
  const state = rowState(f, { kernel, walker, slots, partials }, relaxed);
  if (columns.length === 0) walker.each(f.begin, f.end, () => emitRow(state));
  else emitBlocks(state, bytes);
}

/** As `rowBytes`: a row of floats in scratch, with slack. */
const rowBytesOf = ({ count }: Walker): I32 => i32.and(i32.add(i32.shl(count, 2), 127), -64);

/** A unit is a block of rows; its partial sums are a row of each column's scratch. */
function emitBlocks(state: RowState, bytes: Local<"i32">): void {
  const { f, walker, partials } = state, word = walker.nextWord;
  const rows = f.arg(word), blocks = f.arg(word + 1);
  const bases = partials.map((_, n) => f.arg(word + 2 + n)), block = f.i32(), i = f.i32();
  f.forRange(block, f.begin, f.end, 1, () => {
    partials.forEach((partial, n) => {
      f.set(partial, i32.add(bases[n], i32.mul(block, bytes)));
      f.forRange(i, partial, i32.add(partial, bytes), 16, () => f.store(i, f.constant(0)));
    });
    const first = f.i32(shareOf(block, rows, blocks)),
      last = f.i32(shareOf(i32.add(block, 1), rows, blocks));
    walker.each(first, last, () => emitRow(state));
  });
}

/** Where share `n` of `count` begins: the first shares take one more of what does not divide. */
function shareOf(n: I32Value, total: Local<"i32">, count: Local<"i32">): I32 {
  return i32.add(i32.mul(n, i32.divU(total, count)), i32.minU(n, i32.remU(total, count)));
}

function emitRow(state: RowState): void {
  const { kernel: { program, walk, schedule }, walker, lasting, ofRow } = state;
  ofRow.clear();
  for (const pass of schedule.passes) {
    emitRowValues(state, phaseOf(state, pass));
    emitPass(state, pass);
  }
  emitRowValues(state, Infinity);
  program.outputs.forEach(({ value, extent }, o) => {
    if (extent !== "row") return;
    const stream = program.accesses.length + o;
    storeOne(lasting, walk.streams[stream].type, walker.rows[stream], rowValue(state, value));
  });
}

/** Reductions that are complete when the pass begins. */
function phaseOf({ kernel: { program, columns, schedule } }: RowState, pass: Pass): number {
  const { phases } = schedule, { reductions, elements } = pass;
  if (reductions.length > 0) return phases[reductions[0]] - 1;
  return phases[
    elements.length > 0 ? program.outputs[elements[0]].value : columns[pass.columns[0]]
  ];
}
