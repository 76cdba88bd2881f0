/** Storage of intermediates: who shares bytes with whom, and where in the arena the rest lies. */

import { fusedOp, type FusedProgram } from "../../kernels/mod.ts";
import { bytesOf, sizeOf } from "../graph/mod.ts";
import { mayAlias } from "./fuse.ts";
import { type Interval, layOut } from "./memory.ts";
import type { Schedule, Step } from "./schedule.ts";
import type { PlanNode, Use, Value } from "./simplify.ts";
import type { Storage, Target } from "./types.ts";

export interface Placement {
  readonly storage: ReadonlyMap<Value, Storage>;
  /** Scratch of each step. */
  readonly scratch: readonly (readonly Storage[])[];
  readonly arenaBytes: number;
}

export interface PlaceOptions {
  readonly schedule: Schedule;
  /** Where inputs are. */
  readonly inputs: ReadonlyMap<Value, Storage>;
  /** Values that are read after the last step. */
  readonly results: readonly Value[];
  readonly scratchBytes: readonly (readonly number[])[];
  readonly target: Target<unknown>;
}

export function place(
  { schedule: { steps, owners }, inputs, results, scratchBytes, target }: PlaceOptions,
): Placement {
  const lastRead = new Map<Value, number>();
  steps.forEach(({ node }, i) => node.inputs.forEach(({ value }) => lastRead.set(value, i)));
  for (const value of results) lastRead.set(value, steps.length);

  const storage = new Map(inputs);
  for (const [value, index] of owners) storage.set(value, { space: "state", index });
  const rootOf = shareBytes(steps, storage, lastRead, target.aliasing);

  // Values that share bytes live as one.
  const lives = new Map<Value, { first: number; last: number; bytes: number }>();
  steps.forEach(({ node }, i) => {
    for (const value of node.outputs) {
      const root = rootOf(value);
      if (storage.has(root)) continue;
      const life = lives.get(root) ?? { first: i, last: i, bytes: 0 };
      lives.set(root, {
        first: life.first,
        last: Math.max(life.last, i, lastRead.get(value) ?? i),
        bytes: Math.max(life.bytes, bytesOf(value.spec)),
      });
    }
  });
  const intervals: Interval[] = [...lives.values()];
  const scratchAt = scratchBytes.map((sizes, i) =>
    sizes.map((bytes) => intervals.push({ bytes, first: i, last: i }) - 1)
  );
  const { offsets, bytes: arenaBytes } = layOut(intervals, target);
  const arena = (i: number): Storage => ({ space: "arena", offset: offsets[i] });
  [...lives.keys()].forEach((value, i) => storage.set(value, arena(i)));
  for (const { node } of steps) {
    for (const value of node.outputs) storage.set(value, storage.get(rootOf(value))!);
  }
  return { storage, scratch: scratchAt.map((list) => list.map(arena)), arenaBytes };
}

/**
 * Joins in-place outputs with what they overwrite, and element-wise outputs with an operand that
 * ends there. Returns whose bytes a value has.
 */
function shareBytes(
  steps: readonly Step[],
  storage: ReadonlyMap<Value, Storage>,
  lastRead: ReadonlyMap<Value, number>,
  aliasing: boolean,
): (value: Value) => Value {
  const roots = new Map<Value, Value>(), rootOf = (value: Value) => roots.get(value) ?? value;
  steps.forEach(({ node }, i) => {
    const taken = new Set<Value>();
    const isFree = (value: Value) =>
      lastRead.get(value) === i && !taken.has(value) && !storage.has(rootOf(value));
    node.outputs.forEach((value, o) => {
      const through = node.op.inplace?.[o];
      const source = through !== undefined
        ? node.inputs[through].value
        : aliasing && !storage.has(value)
        ? reusable(node, o, isFree)
        : undefined;
      if (source === undefined) return;
      taken.add(source);
      if (!storage.has(value)) roots.set(value, rootOf(source));
    });
  });
  return rootOf;
}

/** An operand of a fused node whose bytes the output may take over. */
function reusable(node: PlanNode, o: number, isFree: (value: Value) => boolean): Value | undefined {
  if (node.op !== fusedOp) return undefined;
  const program = node.attrs.program as FusedProgram, out = node.outputs[o].spec;
  const fits = ({ value }: Use) =>
    isFree(value) && value.spec.dtype === out.dtype &&
    sizeOf(value.spec.shape) === sizeOf(out.shape) &&
    node.inputs.every((use, k) => use.value !== value || mayAlias(program, k, o));
  return node.inputs.find(fits)?.value;
}
