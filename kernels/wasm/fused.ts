/**
 * Fused programs as WASM: one function walks the rows, and in each row makes the program's passes,
 * four lanes at a time. A row is summed in vectors, chunks of 4,096 elements and a fixed tree, so
 * its bits depend on its width alone, never on the split.
 */

import { numberText, type OpContext, sizeOf, type Spec } from "../../core/graph/tensor.ts";
import { type FusedProgram, sourcesOf } from "../fused.ts";
import {
  type CpuLowering,
  type CpuTarget,
  input,
  type JobArg,
  output,
  type WasmJob,
} from "../lowering.ts";
import { storedAs } from "./elements.ts";
import { type RowProgram, type Schedule, scheduleOf } from "./passes.ts";
import type { Stored } from "./panels.ts";
import { emitRows } from "./rows.ts";
import type { RowKernel } from "./row_values.ts";
import { blockElements, rowsOf, type Stream, walkArgs, walkKey, walkOver } from "./walk.ts";

export interface FusedJobs {
  readonly jobs: readonly WasmJob[];
  readonly memberBytes: number;
}

/**
 * Rows up to this width keep costly values in scratch between passes; longer ones compute them
 * again.
 */
const keptWidth = 1 << 16;

/**
 * Blocks of rows that `columns` are first summed over: enough for many members, and fixed, so that
 * the bits are.
 */
export const columnBlocks = 32;

/** Bytes of one row of floats in scratch, with slack for vectors that pass its end. */
export const rowBytes = (width: number) => Math.ceil((4 * width + 64) / 64) * 64;

/**
 * The program over these operands. `inputs` (one for each access) and `outputs` are addresses, `specs` the inputs' types.
 * Outputs may be stored where an input of the same shape is read densely, if there are no
 * reductions. `undefined`: f16, or arithmetic on integers.
 *
 * A program's `columns` come after its outputs in `outputs`: each is scratch for `columnBlocks`
 * rows of `rowBytes(width)`, to be summed by another job.
 */
export function fusedJobs(
  program: RowProgram,
  inputs: readonly JobArg[],
  outputs: readonly JobArg[],
  specs: readonly Spec[],
  { relaxed }: CpuTarget,
): FusedJobs | undefined {
  const kernel = kernelOf(program, specs);
  if (!kernel) return undefined;
  if (sizeOf(program.shape) === 0) return { jobs: [], memberBytes: 0 };
  const { walk, schedule, columns } = kernel, { width } = walk;
  const rows = rowsOf(walk), blocks = Math.min(rows, columnBlocks);
  const perElement = visitsOf(kernel);
  const perRow = perElement * Math.min(width, walk.blocked ? blockElements : width);
  const key = `fused ${relaxed ? "fma" : ""} ${walkKey(walk)} ${programKey(program, schedule)}`;
  const job: WasmJob = {
    fn: { key, build: (f) => emitRows(f, kernel, relaxed) },
    args: [
      ...walkArgs(walk, [...inputs, ...outputs.slice(0, program.outputs.length)]),
      ...(columns.length > 0 ? [rows, blocks, ...outputs.slice(program.outputs.length)] : []),
    ],
    units: columns.length > 0 ? blocks : rows,
    work: columns.length > 0 ? perRow * Math.ceil(rows / blocks) : perRow,
  };
  return { jobs: [job], memberBytes: schedule.slots * rowBytes(width) };
}

/**
 * Work on an element in plain visits of about 0.15 ns: an addition of two tensors is one, exp about
 * three. Only to tell what is worth sharing out.
 */
function visitsOf({ walk, schedule }: RowKernel): number {
  const flops = schedule.passes.reduce((sum, pass) => sum + pass.flops, 0);
  return (flops + walk.streams.length) / 4;
}

function kernelOf(program: RowProgram, specs: readonly Spec[]): RowKernel | undefined {
  const { accesses, outputs, columns = [], steps } = program;
  const types = [...specs, ...outputs.map(({ spec }) => spec)];
  const moves = steps.every(({ op }) => op === "input") && columns.length === 0 &&
    types.every(({ dtype }) => dtype === types[0].dtype);
  if (!moves && types.some(({ dtype }) => dtype === "i32" || dtype === "u32")) return undefined;
  const stored = types.map(({ dtype }) => storedAs(dtype));
  if (!stored.every((type) => type !== undefined)) return undefined;

  // Axes of size 1 have no stride: what is read along them is the same for the whole row.
  const shape = program.shape;
  const flat = (strides: readonly number[]) => strides.map((s, axis) => shape[axis] === 1 ? 0 : s);
  const places = [
    ...accesses,
    ...(program.places ?? outputs.map(({ extent }) => denseAccess(shape, extent))),
  ].map(({ strides, offset }) => ({ strides: flat(strides), offset }));
  const whole = columns.length > 0 || outputs.some(({ extent }) => extent === "row") ||
    steps.some(({ op }) => op === "reduce_sum" || op === "reduce_max");
  // A row of one element stays a row where it is not written next to the one before.
  const scattered = program.places !== undefined && shape.at(-1) === 1;
  const streams = places.map((place, n): Stream => ({ ...place, type: stored[n] as Stored }));
  const walk = walkOver(shape, streams, { whole: whole || scattered });
  const normal: RowProgram = {
    ...program,
    shape: [...walk.outer, walk.width],
    accesses: walk.streams.slice(0, accesses.length),
  };
  const schedule = scheduleOf(normal, { keep: walk.width <= keptWidth });
  return { program: normal, walk, schedule, columns };
}

/** Where an output is written: every element, or one for each row. */
function denseAccess(shape: readonly number[], extent: "element" | "row") {
  const strides = new Array<number>(shape.length).fill(0);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (extent === "row" && axis === shape.length - 1) continue;
    strides[axis] = step;
    step *= shape[axis];
  }
  return { strides, offset: 0 };
}

function programKey({ steps, outputs, columns = [] }: RowProgram, { slots }: Schedule): string {
  const parts = steps.map((step) =>
    step.op === "input"
      ? `i${step.input}`
      : step.op === "constant"
      ? `c${numberText(step.value)}`
      : `${step.op}(${step.args})`
  );
  return `${parts.join(" ")} -> ${
    outputs.map(({ value, extent }) => extent[0] + value)
  } ${columns} ${slots}`;
}

/** A tensor stored as another type. */
export function castJobs(
  spec: Spec,
  dtype: "f32" | "bf16",
  [from, to]: readonly [JobArg, JobArg],
  target: CpuTarget,
): readonly WasmJob[] {
  const flat = [sizeOf(spec.shape)];
  const program: RowProgram = {
    shape: flat,
    accesses: [{ strides: [1], offset: 0 }],
    steps: [{ op: "input", input: 0 }],
    outputs: [{ value: 0, extent: "element", spec: { shape: flat, dtype } }],
  };
  return fusedJobs(program, [from], [to], [{ shape: flat, dtype: spec.dtype }], target)!.jobs;
}

/** The lowering of a node that is a fused program, as it stands or as seen by `programOf`. */
export function programWasm(
  program: FusedProgram | undefined,
  { inputs, outputs }: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  if (!program) return undefined;
  const sources = sourcesOf(program);
  return fusedJobs(
    program,
    sources.map((n) => input(n)),
    outputs.map((_, n) => output(n)),
    sources.map((n) => inputs[n]),
    target,
  );
}
