/** The code of a fused program: the walk over rows, and in each the loops of its passes. */

import type { FusedStep } from "../fused.ts";
import {
  firstLanes,
  loadDense,
  loadGathered,
  loadRepeated,
  storeDense,
  storeOne,
  storePart,
} from "./elements.ts";
import { f32x4, type FunctionBuilder, i32, type Local, type V128, v128 } from "./encode.ts";
import { sumLanes } from "./lanes.ts";
import { argsOf, type Pass, type RowProgram, type Schedule } from "./passes.ts";
import { scalarRules, type VectorMath, vectorMath } from "./scalar.ts";
import { emitWalk, type Walk, type Walker } from "./walk.ts";

export interface RowKernel {
  readonly program: RowProgram;
  readonly walk: Walk;
  readonly schedule: Schedule;
  readonly columns: readonly number[];
}

type Vector = Local<"v128">;

/** Elements that are summed in single precision before the sum is put aside. */
const chunkBytes = 4 * 4096;

export function emitRows(f: FunctionBuilder, kernel: RowKernel, relaxed: boolean): void {
  const { walk, columns, schedule } = kernel;
  const walker = emitWalk(f, walk), slots = emitSlots(f, walker, schedule.slots);
  if (columns.length === 0) {
    const row = rowEmitter(f, kernel, walker, slots, [], relaxed);
    walker.each(f.begin, f.end, row);
    return;
  }
  // A unit is a block of rows; its partial sums are a row of each column's scratch.
  const word = walker.nextWord, rows = f.arg(word), blocks = f.arg(word + 1);
  const bases = columns.map((_, n) => f.arg(word + 2 + n)), partials = columns.map(() => f.i32());
  const bytes = f.i32(i32.and(i32.add(i32.shl(walker.count, 2), 127), -64));
  const row = rowEmitter(f, kernel, walker, slots, partials, relaxed);
  const block = f.i32(), i = f.i32();
  f.forRange(block, f.begin, f.end, 1, () => {
    partials.forEach((partial, n) => {
      f.set(partial, i32.add(bases[n], i32.mul(block, bytes)));
      f.forRange(i, partial, i32.add(partial, bytes), 16, () => f.store(i, f.constant(0)));
    });
    const first = f.i32(shareOf(block, rows, blocks)),
      last = f.i32(shareOf(i32.add(block, 1), rows, blocks));
    walker.each(first, last, row);
  });
}

/** Where share `n` of `count` begins: the first shares take one more of what does not divide. */
const shareOf = (n: Parameters<typeof i32.mul>[0], total: Local<"i32">, count: Local<"i32">) =>
  i32.add(
    i32.mul(n, i32.divU(total, count)),
    i32.minU(n, i32.remU(total, count)),
  );

function emitSlots(f: FunctionBuilder, { count }: Walker, slots: number): Local<"i32">[] {
  if (slots === 0) return [];
  const bytes = f.i32(i32.and(i32.add(i32.shl(count, 2), 127), -64));
  return Array.from({ length: slots }, (_, n) => f.i32(i32.add(f.scratch, i32.mul(bytes, n))));
}

/** Variables that are used again by each body: bodies share no values. */
function pooled(math: VectorMath): { math: VectorMath; reset(): void } {
  const pool: Vector[] = [];
  let next = 0;
  const keep = (value: V128) => {
    const variable = pool[next++] ??= math.f.v128();
    math.f.set(variable, value);
    return variable;
  };
  return { math: { ...math, keep }, reset: () => void (next = 0) };
}

/** The function that writes the code of one row. */
function rowEmitter(
  f: FunctionBuilder,
  { program, walk, schedule }: RowKernel,
  walker: Walker,
  slots: readonly Local<"i32">[],
  partials: readonly Local<"i32">[],
  relaxed: boolean,
): () => void {
  const { steps, outputs, columns = [] } = program, { extents, phases, uses, passes } = schedule;
  const ofRow = new Map<number, Vector>(), rowMath = vectorMath(f, relaxed);
  const { math, reset } = pooled(rowMath);
  const at = f.i32(), rest = f.i32(), address = f.i32();
  const strided = walker.steps.some((step) => step !== undefined);

  /** A value that is the same along the row. */
  function rowValue(n: number): Vector {
    const step = steps[n], known = ofRow.get(n);
    if (known) return known;
    if (step.op === "constant") return f.constant(step.value);
    throw new Error(`step ${n} of a fused program is used before it is computed`);
  }

  function emitRowValues(phase: number): void {
    steps.forEach((step, n) => {
      const reduction = step.op === "reduce_sum" || step.op === "reduce_max";
      if (extents[n] !== "row" || ofRow.has(n) || reduction || phases[n] > phase) return;
      if (step.op === "constant") return;
      const value = step.op === "input"
        ? loadRepeated(walk.streams[step.input].type, walker.rows[step.input])
        : compute(rowMath, step, argsOf(step).map(rowValue));
      ofRow.set(n, f.v128(value));
    });
  }

  function compute(s: VectorMath, step: FusedStep, args: readonly Vector[]): V128 {
    const isConstant = (n: number) => steps[argsOf(step)[n]].op === "constant";
    const extreme = step.op === "max" ? f32x4.pmax : step.op === "min" ? f32x4.pmin : undefined;
    // A constant is a number: the fast forms then keep the other's NaN.
    if (extreme && isConstant(1)) return extreme(args[0], args[1]);
    if (extreme && isConstant(0)) return extreme(args[1], args[0]);
    return scalarRules[step.op as keyof typeof scalarRules](s, ...args);
  }

  /** Values of one vector of elements. `part`: only the first `rest` lanes count. */
  function vectorOf(pass: Pass, vector: number, part: boolean): (n: number) => Vector {
    const known = new Map<number, Vector>();

    function load(stream: number): V128 {
      const { type } = walk.streams[stream], row = walker.rows[stream], step = walker.steps[stream];
      if (step === undefined) {
        const offset = type === "bf16" ? i32.shrU(at, 1) : at;
        return loadDense(type, i32.add(row, offset), vector);
      }
      f.set(address, i32.add(row, i32.mul(i32.shrU(at, 2), step)));
      const lanes = [0, 1, 2, 3].map((lane) => {
        if (lane === 0) return address;
        const offset = i32.mul(step, lane);
        return i32.add(address, part ? i32.select(i32.gtU(rest, lane), offset, 0) : offset);
      });
      return loadGathered(type, lanes);
    }

    /** The operands of a product that only this sum uses, so that the two become one instruction. */
    function factors(n: number): [Vector, Vector] | undefined {
      const step = steps[n];
      if (extents[n] === "row" || uses[n] !== 1 || pass.known.has(n) || pass.kept.has(n)) {
        return undefined;
      }
      if (step.op === "mul") return [value(step.args[0]), value(step.args[1])];
      return step.op === "square" ? [value(step.args[0]), value(step.args[0])] : undefined;
    }

    function combined(step: FusedStep): V128 | undefined {
      if (step.op !== "add" && step.op !== "sub") return undefined;
      const [a, b] = step.args, right = factors(b);
      if (right) {
        return step.op === "add" ? math.madd(...right, value(a)) : math.nmadd(...right, value(a));
      }
      const left = step.op === "add" ? factors(a) : undefined;
      return left && math.madd(...left, value(b));
    }

    function value(n: number): Vector {
      if (extents[n] === "row") return rowValue(n);
      const before = known.get(n);
      if (before) return before;
      const step = steps[n], slot = pass.known.get(n);
      const code = slot !== undefined
        ? v128.load(i32.add(slots[slot], at), 16 * vector)
        : step.op === "input"
        ? load(step.input)
        : combined(step) ?? compute(math, step, argsOf(step).map(value));
      const found = math.keep(code);
      known.set(n, found);
      return found;
    }
    return value;
  }

  function emitPass(pass: Pass): void {
    const sums = pass.reductions.filter((n) => steps[n].op === "reduce_sum");
    const unroll = strided ? 1 : pass.flops <= 8 ? 4 : pass.reductions.length > 0 ? 2 : 1;
    const accumulators = new Map(pass.reductions.map((n) => [n, f.vectors(unroll)]));
    const totals = new Map(sums.map((n) => [n, f.v128()]));
    const identity = (n: number) => f.constant(steps[n].op === "reduce_sum" ? 0 : -Infinity);
    const join = (n: number) => steps[n].op === "reduce_sum" ? f32x4.add : f32x4.max;

    /** The pass's work on one vector; reductions go to accumulator `into`, or to the total. */
    function work(vector: number, into: (n: number) => Vector, part = false): void {
      const value = vectorOf(pass, vector, part);
      // All values first: an output may be stored where an input was.
      const values = pass.elements.map((o) => value(outputs[o].value));
      for (const n of pass.reductions) {
        const [arg] = argsOf(steps[n]), x = value(arg), sum = into(n);
        const counted = part ? v128.bitselect(x, identity(n), firstLanes(math, rest)) : x;
        f.set(sum, join(n)(sum, counted));
      }
      const added = pass.columns.map((c) => value(columns[c]));
      for (const [n, slot] of pass.kept) {
        f.store(i32.add(slots[slot], at), value(n), 16 * vector);
      }
      added.forEach((x, c) => {
        const place = i32.add(partials[pass.columns[c]], at);
        f.store(place, f32x4.add(v128.load(place, 16 * vector), x), 16 * vector);
      });
      pass.elements.forEach((o, e) => {
        const stream = program.accesses.length + o, { type } = walk.streams[stream];
        f.set(address, i32.add(walker.rows[stream], type === "bf16" ? i32.shrU(at, 1) : at));
        if (part) storePart(math, type, address, values[e], rest);
        else storeDense(math, type, address, values[e], vector);
      });
    }

    const bytes = f.i32(i32.shl(walker.count, 2)), step = 16 * unroll;
    const whole = f.i32(i32.and(bytes, -step)), vectors = f.i32(i32.and(bytes, -16));
    const unrolled = () => {
      reset();
      for (let u = 0; u < unroll; u++) work(u, (n) => accumulators.get(n)![u]);
    };
    for (const n of pass.reductions) accumulators.get(n)!.forEach((a) => f.set(a, identity(n)));
    if (sums.length === 0) f.forRange(at, 0, whole, step, unrolled);
    else emitChunks(whole, step, sums, unrolled);
    const finished = new Map(
      pass.reductions.map((n) => [
        n,
        totals.get(n) ?? f.v128(tree(accumulators.get(n)!, join(n))),
      ]),
    );
    const total = (n: number) => finished.get(n)!;
    if (unroll > 1) f.forRange(at, whole, vectors, 16, () => (reset(), work(0, total)));
    f.set(rest, i32.and(walker.count, 3));
    f.if(rest, () => {
      f.set(at, vectors);
      reset();
      work(0, total, true);
    });
    for (const n of pass.reductions) {
      const sum = total(n);
      ofRow.set(n, f.v128(steps[n].op === "reduce_sum" ? sumLanes(f, sum) : largest(f, sum)));
    }

    function emitChunks(
      end: Local<"i32">,
      stride: number,
      summed: readonly number[],
      body: () => void,
    ): void {
      const chunk = f.i32();
      for (const n of summed) f.set(totals.get(n)!, f.constant(0));
      f.set(at, 0);
      f.forRange(chunk, 0, end, chunkBytes, () => {
        f.forRange(at, chunk, f.i32(i32.minU(end, i32.add(chunk, chunkBytes))), stride, body);
        for (const n of summed) {
          const parts = accumulators.get(n)!;
          f.set(totals.get(n)!, f32x4.add(totals.get(n)!, tree(parts, f32x4.add)));
          parts.forEach((part) => f.set(part, f.constant(0)));
        }
      });
    }
  }

  return () => {
    ofRow.clear();
    for (const pass of passes) {
      emitRowValues(phaseOf(pass));
      emitPass(pass);
    }
    emitRowValues(Infinity);
    outputs.forEach(({ value, extent }, o) => {
      if (extent !== "row") return;
      const stream = program.accesses.length + o;
      storeOne(rowMath, walk.streams[stream].type, walker.rows[stream], rowValue(value));
    });
  };

  function phaseOf({ reductions, elements, columns: added }: Pass): number {
    if (reductions.length > 0) return phases[reductions[0]] - 1;
    return phases[elements.length > 0 ? outputs[elements[0]].value : columns[added[0]]];
  }
}

/** ((a b) (c d)): halves the count each time. */
function tree(values: readonly V128[], join: (a: V128, b: V128) => V128): V128 {
  if (values.length === 1) return values[0];
  const half = values.length / 2;
  return join(tree(values.slice(0, half), join), tree(values.slice(half), join));
}

/** The largest lane in every lane; NaN wins. */
function largest(f: FunctionBuilder, vector: Vector): V128 {
  const half = f.v128(f32x4.max(vector, v128.shuffle32(vector, vector, [2, 3, 0, 1])));
  return f32x4.max(half, v128.shuffle32(half, half, [1, 0, 3, 2]));
}
