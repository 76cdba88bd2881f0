/**
 * A plan's steps as the pool's entries: jobs with their argument words, and plain loops for the
 * main thread.
 */

import type { GemmJob, JobArg, Operand, WasmFunction, WasmJob } from "../../../kernels/mod.ts";
import { isHalf, roundTo } from "../../graph/mod.ts";
import type { Plan, PlanStep, Storage } from "../../plan/types.ts";
import { accessesOf, type Footprint } from "./meetings.ts";
import type { Entry } from "./program.ts";
import type { CpuLowered } from "./target.ts";
import { numbersAt, type Placed, writeAt } from "./tensors.ts";

/** Below this much work a job stays on one member: splitting costs a wake-up. */
const SPLIT_WORK = 32_768;

export interface Built {
  readonly entries: Entry[];
  /** What each entry touches. */
  readonly footprints: Footprint[];
  /**
   * Argument words of all jobs; an entry's `args` is its first word until the words have an
   * address.
   */
  readonly words: Int32Array;
  readonly functions: WasmFunction[];
}

export function buildEntries(
  plan: Plan<CpuLowered>,
  address: (storage: Storage) => number,
  tasks: (() => void)[],
  buffer: SharedArrayBuffer,
  members: number,
): Built {
  const entries: Entry[] = [],
    footprints: Footprint[] = [],
    words: number[] = [],
    functions = new Map<string, WasmFunction>(),
    bits = new DataView(new ArrayBuffer(4));
  plan.steps.forEach((step, index) => {
    const accesses = accessesOf(step, address);
    const push = (entry: Entry) => {
      entries.push(entry);
      footprints.push({ shared: entry.kind !== "main" && entry.split, step: index, accesses });
    };
    if (!step.lowered.jobs) {
      tasks.push(referenceTask(step, address, buffer));
      push({ kind: "main", task: tasks.length - 1 });
      return;
    }
    const operand = ({ from, index }: Operand) =>
      address(
        (from === "input" ? step.inputs : from === "output" ? step.outputs : step.scratch)[index],
      );
    const word = (arg: JobArg): number => {
      if (typeof arg === "number") return arg | 0;
      if ("from" in arg) return operand(arg) | 0;
      bits.setFloat32(0, arg.f32);
      return bits.getInt32(0);
    };
    for (const job of step.lowered.jobs) {
      if ("gemm" in job) push(gemmEntry(job, operand, members));
      else {
        functions.set(job.fn.key, job.fn);
        push({
          kind: "wasm",
          fn: job.fn.key,
          args: words.length,
          units: job.units,
          split: isSplit(job, members),
        });
        words.push(...job.args.map(word));
        while (words.length % 4 !== 0) words.push(0);
      }
    }
  });
  return { entries, footprints, words: new Int32Array(words), functions: [...functions.values()] };
}

const isSplit = ({ units, work }: WasmJob, members: number) =>
  members > 1 && units > 1 && units * work >= SPLIT_WORK;

function gemmEntry(
  { gemm, a, b, c, offsets }: GemmJob,
  operand: (operand: Operand) => number,
  members: number,
): Entry {
  const [fromA, fromB, fromC] = offsets;
  const at = { a: operand(a) + 4 * fromA, b: operand(b) + 4 * fromB, c: operand(c) + 4 * fromC };
  return {
    kind: "gemm",
    ...gemm,
    ...at,
    split: members > 1 && 2 * gemm.m * gemm.n * gemm.k >= 20 * SPLIT_WORK,
  };
}

/** A step without a WASM form: its plain loop on views of the memory. */
function referenceTask(
  { op, context, inputs, outputs }: PlanStep<CpuLowered>,
  address: (storage: Storage) => number,
  buffer: SharedArrayBuffer,
): () => void {
  const from = inputs.map((storage, i): Placed => ({
    offset: address(storage),
    spec: context.inputs[i],
  }));
  const to = outputs.map((storage, i): Placed => ({
    offset: address(storage),
    spec: context.outputs[i],
  }));
  const isPacked = ({ spec }: Placed) => isHalf(spec.dtype);
  return () => {
    // An output may share an operand's bytes; the loop must not see its own results.
    const read = from.map((placed) => {
      const numbers = numbersAt(buffer, placed);
      const shares = to.some(({ offset }) => offset === placed.offset) && !isPacked(placed);
      return shares && !op.inplace ? numbers.slice() : numbers;
    });
    const written = to.map((placed) => numbersAt(buffer, placed));
    op.reference(read, written, context);
    to.forEach((placed, i) => {
      if (!isPacked(placed)) return;
      roundTo(placed.spec.dtype, written[i]);
      writeAt(buffer, placed, written[i]);
    });
  };
}
