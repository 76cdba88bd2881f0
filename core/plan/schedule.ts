/**
 * What runs, in order, and which results live in state: copies stand before in-place work on
 * something that is still needed, and at the end for state that cannot be written directly.
 */

import { copyProgram, denseAccess, fusedOp, type FusedProgram } from "../../kernels/mod.ts";
import { type Graph, type OpContext, sizeOf, type Tensor } from "../graph/mod.ts";
import { mayAlias } from "./fuse.ts";
import type { PlanNode, Use, Value } from "./simplify.ts";
import type { NamedSpec, Storage } from "./types.ts";

export interface Step {
  readonly node: PlanNode;
  readonly context: OpContext;
}

export interface Schedule {
  readonly steps: readonly Step[];
  /** What the graph's outputs are read from. */
  readonly results: readonly Use[];
  /** State index of each value that is written straight into state. */
  readonly owners: ReadonlyMap<Value, number>;
}

export interface ScheduleOptions {
  readonly graph: Graph;
  readonly nodes: readonly PlanNode[];
  readonly use: (tensor: Tensor) => Use | undefined;
  /** Where inputs are. */
  readonly storage: ReadonlyMap<Value, Storage>;
  readonly state: readonly NamedSpec[];
  readonly aliasing: boolean;
}

export function schedule(options: ScheduleOptions): Schedule {
  const updates = updatesOf(options), { held, results } = holdOldState(options, updates);
  const kept = new Set(
    [...results, ...updates.map(({ final }) => final)].map(({ value }) => value),
  );
  const work = withCopiesBeforeInplace(options, updates, kept);
  return { ...donate(options, updates, [...held, ...work]), results };
}

/** State that changes: what it was, and what it becomes. */
interface Update {
  readonly state: number;
  readonly old: Value | undefined;
  readonly final: Use;
}

function updatesOf({ graph, use, state }: ScheduleOptions): Update[] {
  const stateAt = new Map(state.map(({ name }, i) => [name, i]));
  return graph.updates.map(({ name, input, value }) => ({
    state: stateAt.get(name)!,
    old: use(input)?.value,
    final: use(value)!,
  })).filter(({ old, final }) => final.value !== old);
}

/**
 * Outputs are read when all is done: one that is the old value of a state that changes is copied
 * before anything runs.
 */
function holdOldState(
  { graph, use }: ScheduleOptions,
  updates: readonly Update[],
): { held: Step[]; results: Use[] } {
  const copies = new Map<Value, PlanNode>();
  const results = graph.outputs.map((output) => {
    const { value, spec } = use(output.value)!;
    if (!updates.some(({ old }) => old === value)) return { value, spec };
    const copy = copies.get(value) ?? copyOf(value, spec, value.producer);
    copies.set(value, copy);
    return { value: copy.outputs[0], spec };
  });
  return { held: [...copies.values()].map(stepOf), results };
}

/** `kept`: values that somebody reads when all is done. */
function withCopiesBeforeInplace(
  { nodes, storage }: ScheduleOptions,
  updates: readonly Update[],
  kept: ReadonlySet<Value>,
): Step[] {
  const work = nodes.filter(({ op }) => !op.placeholder && !op.host && !op.constant);
  const lastRead = new Map<Value, number>();
  work.forEach((node, i) => node.inputs.forEach(({ value }) => lastRead.set(value, i)));
  const isFree = (value: Value, node: PlanNode, input: number) =>
    !storage.has(value) ||
    updates.some(({ old, final }) => {
      const first = old === value ? overwriterOf(value, final.value) : undefined;
      return first?.producer === node && node.op.inplace?.[first.index] === input;
    });
  // From the last node to the first, as a copy ends the chain for all that stand before it.
  return work.map((node, i) => ({ node, i })).reverse().map(({ node, i }) => {
    const copies: Step[] = [];
    for (const input of Object.values(node.op.inplace ?? {})) {
      const { value, spec } = node.inputs[input];
      const isAlone = node.inputs.filter((other) => other.value === value).length === 1;
      const isLast = lastRead.get(value) === i && !kept.has(value);
      if (isAlone && isLast && isFree(value, node, input)) continue;
      const copy = copyOf(value, spec, node);
      copies.push(stepOf(copy));
      node.inputs[input] = { value: copy.outputs[0], spec };
    }
    return [...copies, stepOf(node)];
  }).reverse().flat();
}

/** The value that an in-place output was made from, if it was. */
function overwrittenBy({ producer, index }: Value): Value | undefined {
  const input = producer.op.inplace?.[index];
  return input === undefined ? undefined : producer.inputs[input].value;
}

/**
 * The value that overwrites `state` itself, where `final` was made from it in place, step by step.
 */
function overwriterOf(state: Value, final: Value): Value | undefined {
  for (let value = final;;) {
    const before = overwrittenBy(value);
    if (before === undefined || before === state) return before && value;
    value = before;
  }
}

function donate(
  { storage, aliasing }: ScheduleOptions,
  updates: readonly Update[],
  work: readonly Step[],
): Pick<Schedule, "steps" | "owners"> {
  const owners = new Map<Value, number>(),
    made = new Map<Value, number>(),
    lastRead = new Map<Value, number>();
  work.forEach(({ node }, i) => {
    node.outputs.forEach((value) => made.set(value, i));
    node.inputs.forEach(({ value }) => lastRead.set(value, i));
  });
  // State inputs that replace other state unchanged are read at the very end.
  for (const { final: { value } } of updates) {
    if (value.producer.op.placeholder) lastRead.set(value, Infinity);
  }

  const writesDirectly = ({ final: { value }, old }: Update): boolean => {
    const at = made.get(value);
    if (at === undefined || owners.has(value)) return false; // an input, or already somebody's
    const { node } = work[at];
    // In place: the chain must start at this very state.
    if (overwrittenBy(value) !== undefined) {
      return old !== undefined && overwriterOf(old, value) !== undefined;
    }
    const read = old ? lastRead.get(old) ?? -1 : -1;
    if (read !== at) return read < at;
    return aliasing && node.op === fusedOp &&
      node.inputs.every((use, i) =>
        use.value !== old || mayAlias(node.attrs.program as FusedProgram, i, value.index)
      );
  };

  const early: Step[] = [], late: Step[] = [];
  for (const update of updates) {
    const { state, final } = update;
    if (writesDirectly(update)) {
      owners.set(final.value, state);
      continue;
    }
    let source = final.value;
    if (storage.get(source)?.space === "state") {
      // Two states may change places: all are read before any is written.
      const held = copyOf(source, final.spec, source.producer);
      early.push(stepOf(held));
      source = held.outputs[0];
    }
    const copy = copyOf(source, final.spec, source.producer);
    owners.set(copy.outputs[0], state);
    late.push(stepOf(copy));
  }
  return { steps: [...work, ...early, ...late], owners };
}

export function contextOf(node: PlanNode): OpContext {
  return {
    inputs: node.inputs.map(({ spec }) => spec),
    outputs: node.outputs.map(({ spec }) => spec),
    attrs: node.attrs,
  };
}

const stepOf = (node: PlanNode): Step => ({ node, context: contextOf(node) });

/** A fused node that copies a value as it is. */
function copyOf(value: Value, spec: Use["spec"], like: PlanNode): PlanNode {
  const flat = [sizeOf(spec.shape)], outputs: Value[] = [];
  const base = copyProgram(flat, denseAccess(flat), spec.dtype);
  const program: FusedProgram = { ...base, outputs: [{ ...base.outputs[0], spec }] };
  const node: PlanNode = {
    op: fusedOp,
    attrs: { program },
    inputs: [{ value, spec: { shape: flat, dtype: spec.dtype } }],
    outputs,
    path: like.path,
    order: like.order,
  };
  outputs.push({ producer: node, index: 0, spec });
  return node;
}
