/** One pass of a fused program over a row: its loops, its reductions and its stores. */

import { firstLanes, storeDense, storePart } from "./elements.ts";
import { f32x4, i32, type Local, type V128, v128 } from "./encode.ts";
import { sumLanes } from "./lanes.ts";
import { argsOf, type Pass } from "./passes.ts";
import { elementValues, type RowState, type Vector } from "./row_values.ts";

/** Elements that are summed in single precision before the sum is put aside. */
const chunkBytes = 4 * 4096;

/** A reduction's step, its running vectors, and where they are brought together. */
interface Reduction {
  readonly n: number;
  readonly sums: boolean;
  readonly lanes: readonly Vector[];
  readonly total: Vector;
}

const identity = ({ sums }: Reduction) => sums ? 0 : -Infinity;
/** `max`, not `pmax`: NaN must win from either side. */
const join = ({ sums }: Reduction) => sums ? f32x4.add : f32x4.max;

/**
 * Vectors of a round: cheap work is bound by the loop itself, sums by the latency of their
 * additions.
 */
function unrollOf({ walker }: RowState, { flops, reductions }: Pass): number {
  if (walker.steps.some((step) => step !== undefined)) return 1;
  return flops <= 8 ? 4 : reductions.length > 0 ? 2 : 1;
}

export function emitPass(state: RowState, pass: Pass): void {
  const { f, kernel, walker, ofRow, at, rest } = state, unroll = unrollOf(state, pass);
  const reductions = pass.reductions.map((n): Reduction => ({
    n,
    sums: kernel.program.steps[n].op === "reduce_sum",
    lanes: f.vectors(unroll),
    total: f.v128(),
  }));
  const bytes = f.i32(i32.shl(walker.count, 2));
  const whole = f.i32(i32.and(bytes, -16 * unroll)), vectors = f.i32(i32.and(bytes, -16));
  const ontoTotal = (reduction: Reduction) => reduction.total;

  emitChunks(state, reductions, whole, (end) => {
    f.forRange(at, at, end, 16 * unroll, () => {
      state.reset();
      for (let u = 0; u < unroll; u++) {
        emitVector(state, pass, reductions, ({ lanes }) => lanes[u], u);
      }
    });
  });
  if (unroll > 1) {
    f.forRange(at, whole, vectors, 16, () => {
      state.reset();
      emitVector(state, pass, reductions, ontoTotal);
    });
  }
  f.set(rest, i32.and(walker.count, 3));
  f.if(rest, () => {
    f.set(at, vectors);
    state.reset();
    emitVector(state, pass, reductions, ontoTotal, 0, { part: true });
  });
  for (const { n, sums, total } of reductions) {
    ofRow.set(n, f.v128(sums ? sumLanes(f, total) : largest(state, total)));
  }
}

/** `loop` over the bytes 0..end; where there are sums, in chunks whose sums are put aside. */
function emitChunks(
  { f, at }: RowState,
  reductions: readonly Reduction[],
  end: Local<"i32">,
  loop: (end: Local<"i32">) => void,
): void {
  const clear = () => {
    for (const reduction of reductions) {
      reduction.lanes.forEach((lane) => f.set(lane, f.constant(identity(reduction))));
    }
  };
  const gather = () => {
    for (const reduction of reductions) {
      const { total, lanes } = reduction;
      f.set(total, join(reduction)(total, tree(lanes, join(reduction))));
    }
  };
  for (const reduction of reductions) f.set(reduction.total, f.constant(identity(reduction)));
  f.set(at, 0);
  if (!reductions.some(({ sums }) => sums)) {
    clear();
    loop(end);
    gather();
    return;
  }
  const chunk = f.i32();
  f.forRange(chunk, 0, end, chunkBytes, () => {
    clear();
    loop(f.i32(i32.minU(end, i32.add(chunk, chunkBytes))));
    gather();
  });
}

/** The pass's work on one vector; what a reduction takes goes where `into` says. */
function emitVector(
  state: RowState,
  pass: Pass,
  reductions: readonly Reduction[],
  into: (reduction: Reduction) => Vector,
  vector = 0,
  { part } = { part: false },
): void {
  const { f, kernel: { program, walk, columns }, walker, slots, partials, brief } = state;
  const { at, rest, address } = state, value = elementValues(state, pass, vector, { part });
  // All values first: an output may be stored where an input was.
  const elements = pass.elements.map((o) => value(program.outputs[o].value));
  const added = pass.columns.map((c) => value(columns[c]));
  for (const reduction of reductions) {
    const x = value(argsOf(program.steps[reduction.n])[0]), sum = into(reduction);
    const counted = part
      ? v128.bitselect(x, f.constant(identity(reduction)), firstLanes(brief, rest))
      : x;
    f.set(sum, join(reduction)(sum, counted));
  }
  for (const [n, slot] of pass.kept) {
    f.store(i32.add(slots[slot], at), value(n), 16 * vector);
  }
  pass.columns.forEach((c, n) => {
    const place = i32.add(partials[c], at);
    f.store(place, f32x4.add(v128.load(place, 16 * vector), added[n]), 16 * vector);
  });
  pass.elements.forEach((o, n) => {
    const stream = program.accesses.length + o, { type } = walk.streams[stream];
    f.set(address, i32.add(walker.rows[stream], type === "bf16" ? i32.shrU(at, 1) : at));
    if (part) storePart(brief, type, address, elements[n], rest);
    else storeDense(brief, type, address, elements[n], vector);
  });
}

/** ((a b) (c d)): halves the count each time. */
function tree(values: readonly V128[], fold: (a: V128, b: V128) => V128): V128 {
  if (values.length === 1) return values[0];
  const half = values.length / 2;
  return fold(tree(values.slice(0, half), fold), tree(values.slice(half), fold));
}

/** The largest lane in every lane; NaN wins. */
function largest({ f }: RowState, vector: Vector): V128 {
  const half = f.v128(f32x4.max(vector, v128.shuffle32(vector, vector, [2, 3, 0, 1])));
  return f32x4.max(half, v128.shuffle32(half, half, [1, 0, 3, 2]));
}
