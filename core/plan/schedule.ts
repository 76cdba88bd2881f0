/**
 * What runs, in order, and which results live in state: copies stand before in-place work on something that is still needed, and at the end
 * for state that cannot be written directly.
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
  const updates = updatesOf(options), moved = movedState(updates);
  const steps = withCopiesBeforeInplace(options, updates, moved);
  return donate(options, updates, moved, steps);
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

/** State inputs that replace other state unchanged: they are read at the very end. */
function movedState(updates: readonly Update[]): Value[] {
  return updates.map(({ final }) => final.value).filter(({ producer }) => producer.op.placeholder);
}

function withCopiesBeforeInplace(
  { graph, nodes, use, storage }: ScheduleOptions,
  updates: readonly Update[],
  moved: readonly Value[],
): Step[] {
  const work = nodes.filter(({ op }) => !op.placeholder && !op.host && !op.constant);
  const lastRead = new Map<Value, number>();
  work.forEach((node, i) => node.inputs.forEach(({ value }) => lastRead.set(value, i)));
  const kept = new Set([...graph.outputs.map(({ value }) => use(value)!.value), ...moved]);
  const isFree = (value: Value, node: PlanNode) =>
    !storage.has(value) ||
    updates.some(({ old, final }) => old === value && isOnChain(node, final.value, value));
  const steps: Step[] = [];
  work.forEach((node, i) => {
    for (const input of Object.values(node.op.inplace ?? {})) {
      const { value, spec } = node.inputs[input];
      if (isFree(value, node) && lastRead.get(value) === i && !kept.has(value)) continue;
      const copy = copyOf(value, spec, node);
      steps.push(stepOf(copy));
      node.inputs[input] = { value: copy.outputs[0], spec };
    }
    steps.push(stepOf(node));
  });
  return steps;
}

/** The value that an in-place output was made from, if it was. */
function overwrittenBy({ producer, index }: Value): Value | undefined {
  const input = producer.op.inplace?.[index];
  return input === undefined ? undefined : producer.inputs[input].value;
}

/** Whether `node` is part of the in-place work that leads from `first` to `final`. */
function isOnChain(node: PlanNode, final: Value, first: Value): boolean {
  let seen = false;
  for (let value: Value | undefined = final; value !== first; value = overwrittenBy(value)) {
    if (value === undefined) return false;
    seen ||= value.producer === node;
  }
  return seen;
}

function donate(
  { storage, aliasing }: ScheduleOptions,
  updates: readonly Update[],
  moved: readonly Value[],
  work: readonly Step[],
): Schedule {
  const owners = new Map<Value, number>(),
    made = new Map<Value, number>(),
    lastRead = new Map<Value, number>();
  work.forEach(({ node }, i) => {
    node.outputs.forEach((value) => made.set(value, i));
    node.inputs.forEach(({ value }) => lastRead.set(value, i));
  });
  for (const value of moved) lastRead.set(value, Infinity);

  const writesDirectly = ({ final: { value }, old }: Update): boolean => {
    const at = made.get(value);
    if (at === undefined || owners.has(value)) return false; // an input, or already somebody's
    const { node } = work[at];
    // In place: the chain must start at this very state.
    if (overwrittenBy(value) !== undefined) return old !== undefined && isOnChain(node, value, old);
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
