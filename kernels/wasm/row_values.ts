/**
 * Values of a fused program while its code is written: those of a whole row, and those of four
 * elements.
 */

import type { FusedStep } from "../fused.ts";
import { loadDense, loadGathered, loadRepeated } from "./elements.ts";
import { f32x4, type FunctionBuilder, i32, type Local, type V128, v128 } from "./encode.ts";
import { argsOf, isReduction, type Pass, type RowProgram, type Schedule } from "./passes.ts";
import { scalarRules, type VectorMath, vectorMath } from "./scalar.ts";
import type { Walk, Walker } from "./walk.ts";

export type Vector = Local<"v128">;

/** A program with the walk over its operands and the order of its work. */
export interface RowKernel {
  readonly program: RowProgram;
  readonly walk: Walk;
  readonly schedule: Schedule;
  readonly columns: readonly number[];
}

/** A row while its code is written. */
export interface RowState {
  readonly f: FunctionBuilder;
  readonly kernel: RowKernel;
  readonly walker: Walker;
  /** Rows of the member's scratch, for values kept between passes. */
  readonly slots: readonly Local<"i32">[];
  /** Where each column is being summed. */
  readonly partials: readonly Local<"i32">[];
  /** For values that live as long as the row. */
  readonly lasting: VectorMath;
  /**
   * For values of one body. Its variables are used again by the next: call `reset` between them.
   */
  readonly brief: VectorMath;
  reset(): void;
  /** Bytes from the row's start to the vector at hand, at 4 bytes an element. */
  readonly at: Local<"i32">;
  /** Elements after the last whole vector, 1 to 3. */
  readonly rest: Local<"i32">;
  /** For the address of one access. */
  readonly address: Local<"i32">;
  /** What is known of the row so far: step → all lanes equal. */
  readonly ofRow: Map<number, Vector>;
}

export function rowState(
  f: FunctionBuilder,
  operands: Pick<RowState, "kernel" | "walker" | "slots" | "partials">,
  relaxed: boolean,
): RowState {
  const lasting = vectorMath(f, relaxed), pool: Vector[] = [];
  let next = 0;
  const keep = (value: V128) => {
    const variable = pool[next++] ??= f.v128();
    f.set(variable, value);
    return variable;
  };
  return {
    f,
    ...operands,
    lasting,
    brief: { ...lasting, keep },
    reset: () => void (next = 0),
    at: f.i32(),
    rest: f.i32(),
    address: f.i32(),
    ofRow: new Map(),
  };
}

/** A value that is the same along the row. */
export function rowValue({ f, kernel, ofRow }: RowState, n: number): Vector {
  const step = kernel.program.steps[n], known = ofRow.get(n);
  if (known) return known;
  if (step.op === "constant") return f.constant(step.value);
  throw new Error(`step ${n} of a fused program is used before it is computed`);
}

/** Computes what is the same along the row and needs no more than `phase` reductions. */
export function emitRowValues(state: RowState, phase: number): void {
  const { f, kernel: { program, walk, schedule }, walker, lasting, ofRow } = state;
  program.steps.forEach((step, n) => {
    if (schedule.extents[n] !== "row" || ofRow.has(n) || schedule.phases[n] > phase) return;
    if (step.op === "constant" || isReduction(step.op)) return;
    const value = step.op === "input"
      ? loadRepeated(walk.streams[step.input].type, walker.rows[step.input])
      : computed(state, lasting, step, argsOf(step).map((arg) => rowValue(state, arg)));
    ofRow.set(n, f.v128(value));
  });
}

function computed(
  { kernel: { program } }: RowState,
  math: VectorMath,
  step: FusedStep,
  args: readonly Vector[],
): V128 {
  const isConstant = (n: number) => program.steps[argsOf(step)[n]].op === "constant";
  const extreme = step.op === "max" ? f32x4.pmax : step.op === "min" ? f32x4.pmin : undefined;
  // A constant is a number: the fast forms then keep the other's NaN.
  if (extreme && isConstant(1)) return extreme(args[0], args[1]);
  if (extreme && isConstant(0)) return extreme(args[1], args[0]);
  return scalarRules[step.op as keyof typeof scalarRules](math, ...args);
}

/**
 * Values of the elements of vector number `vector` from `at` on, each computed when it is first
 * asked for. `part`: only the first `rest` lanes are elements of the row.
 */
export function elementValues(
  state: RowState,
  pass: Pass,
  vector: number,
  { part }: { part: boolean },
): (n: number) => Vector {
  const { kernel: { program, schedule }, slots, brief, at } = state, { steps } = program;
  const known = new Map<number, Vector>();

  /** The operands of a product that only this sum uses: the two become one instruction. */
  function factors(n: number): [Vector, Vector] | undefined {
    const step = steps[n], elsewhere = pass.known.has(n) || pass.kept.has(n);
    if (schedule.extents[n] === "row" || schedule.uses[n] !== 1 || elsewhere) return undefined;
    if (step.op === "mul") return [value(step.args[0]), value(step.args[1])];
    return step.op === "square" ? [value(step.args[0]), value(step.args[0])] : undefined;
  }

  function contracted(step: FusedStep): V128 | undefined {
    if (step.op !== "add" && step.op !== "sub") return undefined;
    const [a, b] = step.args, right = factors(b);
    if (right) return (step.op === "add" ? brief.madd : brief.nmadd)(...right, value(a));
    const left = step.op === "add" ? factors(a) : undefined;
    return left && brief.madd(...left, value(b));
  }

  function value(n: number): Vector {
    if (schedule.extents[n] === "row") return rowValue(state, n);
    const before = known.get(n);
    if (before) return before;
    const step = steps[n], slot = pass.known.get(n);
    const code = slot !== undefined
      ? v128.load(i32.add(slots[slot], at), 16 * vector)
      : step.op === "input"
      ? loaded(state, step.input, vector, part)
      : contracted(step) ?? computed(state, brief, step, argsOf(step).map(value));
    const found = brief.keep(code);
    known.set(n, found);
    return found;
  }
  return value;
}

function loaded(
  { f, kernel: { walk }, walker, at, rest, address }: RowState,
  stream: number,
  vector: number,
  part: boolean,
): V128 {
  const { type } = walk.streams[stream], row = walker.rows[stream], step = walker.steps[stream];
  if (step === undefined) {
    return loadDense(type, i32.add(row, type === "bf16" ? i32.shrU(at, 1) : at), vector);
  }
  f.set(address, i32.add(row, i32.mul(i32.shrU(at, 2), step)));
  const lanes = [1, 2, 3].map((lane) => {
    const offset = i32.mul(step, lane);
    // Strides are long: what lies past the row may lie past the memory too.
    return i32.add(address, part ? i32.select(i32.gtU(rest, lane), offset, 0) : offset);
  });
  return loadGathered(type, [address, ...lanes]);
}
