/**
 * Groups become `fused` nodes with a program; views and constants that somebody needs stored become
 * small programs of their own.
 */

import {
  type Access,
  castOp,
  denseStrides,
  fusedOp,
  type FusedProgram,
  type FusedStep,
  isElementwise,
  isRowReduce,
  joinAxes,
  matmulOp,
  sourcesOf,
} from "../../kernels/mod.ts";
import { numberText, type Op, sizeOf } from "../graph/mod.ts";
import { viewOf } from "./access.ts";
import { accessIn, type Group, groupNodes, isFree } from "./group.ts";
import { foldEpilogues } from "./epilogue.ts";
import { storeHalves } from "./halves.ts";
import { inOrder, type PlanNode, type Use, type Value } from "./simplify.ts";

export interface FuseOptions {
  /** Buffers a kernel may bind. */
  readonly maxOperands: number;
  /** Nodes that a kernel may be made of. */
  readonly maxMembers: number;
  /** Element-wise work on a product moves into the product's kernel. */
  readonly epilogues: boolean;
  /** Off, every node runs alone: the oracle of fusion. */
  readonly fuse: boolean;
}

/** The same computation in fewer kernels. `results` are the uses that must be stored at the end. */
export function fuse(
  traced: readonly PlanNode[],
  wanted: readonly Use[],
  options: FuseOptions,
): { nodes: PlanNode[]; replaced: ReadonlyMap<Value, Value> } {
  const replaced = new Map<Value, Value>(), made: PlanNode[] = [];
  const nodes = options.fuse ? storeHalves(traced, wanted, replaced) : traced;
  const results = wanted.map((use) => current(use, replaced));
  const groups = groupNodes(nodes, options.fuse ? options : { maxOperands: 0, maxMembers: 1 });
  const stored = storedValues(nodes, groups, results);
  const done = new Set<Group>();
  for (const node of nodes) {
    const group = groups.get(node);
    if (group) {
      if (!done.has(group)) made.push(groupNode(group, stored, replaced));
      done.add(group);
    } else if (isFree(node)) {
      if (stored.has(node.outputs[0])) made.push(freeNode(node, replaced));
    } else made.push(node);
  }
  for (const node of made) {
    node.inputs.splice(
      0,
      node.inputs.length,
      ...node.inputs.map((use) => current(use, replaced)),
    );
  }
  const final = new Set(results.map((use) => current(use, replaced).value));
  return {
    nodes: options.epilogues && options.fuse
      ? foldEpilogues(inOrder(made), final, matmulOp, replaced, options.maxOperands)
      : inOrder(made),
    replaced,
  };
}

export function current(use: Use, replaced: ReadonlyMap<Value, Value>): Use {
  let value = use.value;
  while (replaced.has(value)) value = replaced.get(value)!;
  return { value, spec: use.spec };
}

/** Values that must be in memory: read by a kernel other than their own group's, or results. */
function storedValues(
  nodes: readonly PlanNode[],
  groups: ReadonlyMap<PlanNode, Group>,
  results: readonly Use[],
): Set<Value> {
  const stored = new Set<Value>(results.map(({ value }) => value));
  for (const node of nodes) {
    const group = groups.get(node);
    if (isFree(node) && !group) continue;
    for (const use of node.inputs) {
      if (!group) stored.add(use.value);
      else {
        const base = viewOf(use).base.value;
        if (groups.get(base.producer) !== group && base.producer.op.name !== "fill") {
          stored.add(base);
        }
      }
    }
  }
  // A stored view reads what is below it.
  for (const value of stored) {
    if (isFree(value.producer) && value.producer.op.name !== "fill") {
      stored.add(viewOf(value.producer.inputs[0]).base.value);
    }
  }
  return stored;
}

function groupNode(
  group: Group,
  stored: ReadonlySet<Value>,
  replaced: Map<Value, Value>,
): PlanNode {
  const steps: FusedStep[] = [],
    stepOf = new Map<Value, number>(),
    inputs: Use[] = [],
    accesses: Access[] = [];
  const known = new Map<string, number>(), places = new Map<Value, number>();
  const push = (step: FusedStep, key?: string): number => {
    if (key !== undefined && known.has(key)) return known.get(key)!;
    steps.push(step);
    if (key !== undefined) known.set(key, steps.length - 1);
    return steps.length - 1;
  };
  const read = (node: PlanNode, use: Use): number => {
    const { base, access } = accessIn(group, node, use);
    const inside = stepOf.get(base.value);
    if (inside !== undefined) return inside;
    const { op, attrs } = base.value.producer;
    if (op.name === "fill") {
      return push(
        { op: "constant", value: attrs.value as number },
        `constant ${numberText(attrs.value as number)}`,
      );
    }
    if (!places.has(base.value)) places.set(base.value, inputs.push(base) - 1);
    const from = places.get(base.value)!,
      key = `input ${from} ${access!.strides} ${access!.offset}`;
    if (known.has(key)) return known.get(key)!;
    return push({ op: "input", input: accesses.push({ ...access!, from }) - 1 }, key);
  };
  for (const node of group.nodes) {
    const args = node.inputs.map((use) => read(node, use));
    stepOf.set(node.outputs[0], stepFor(node, args, push));
  }
  const outgoing = group.nodes.filter((node) => stored.has(node.outputs[0]));
  const outputs = outgoing.map((node) => ({
    value: stepOf.get(node.outputs[0])!,
    extent: group.levels.get(node)!,
    spec: node.outputs[0].spec,
  }));
  return fusedNode(
    program(group.shape, accesses, steps, outputs, group.width !== undefined),
    inputs,
    outgoing.map((node) => node.outputs[0]),
    group.nodes.at(-1)!,
    replaced,
  );
}

function stepFor(node: PlanNode, args: number[], push: (step: FusedStep) => number): number {
  const { op, attrs } = node;
  if (isRowReduce(op)) {
    return push({ op: op.reduction === "sum" ? "reduce_sum" : "reduce_max", args: [args[0]] });
  }
  if (isElementwise(op)) return push({ op: op.scalar, args });
  if (op !== (castOp as Op)) throw new Error(`${op.name} is not fusable`);
  if (attrs.dtype === "f32") return args[0];
  return push({ op: attrs.dtype === "bf16" ? "round_bf16" : "round_f16", args });
}

/** A view or constant that must be stored. */
function freeNode(node: PlanNode, replaced: Map<Value, Value>): PlanNode {
  const [value] = node.outputs, { shape } = value.spec;
  const outputs: FusedProgram["outputs"] = [{ value: 0, extent: "element", spec: value.spec }];
  if (node.op.name === "fill") {
    return fusedNode(
      program(shape, [], [{ op: "constant", value: node.attrs.value as number }], outputs, false),
      [],
      [value],
      node,
      replaced,
    );
  }
  const { base, access } = viewOf({ value, spec: value.spec });
  return fusedNode(
    program(shape, [access], [{ op: "input", input: 0 }], outputs, false),
    [base],
    [value],
    node,
    replaced,
  );
}

/** A program over the fewest axes. */
function program(
  shape: readonly number[],
  accesses: readonly Access[],
  steps: readonly FusedStep[],
  outputs: FusedProgram["outputs"],
  keepsRow: boolean,
): FusedProgram {
  const joined = joinAxes(shape, accesses.map(({ strides }) => strides), keepsRow ? 1 : 0);
  const scalar = joined.shape.length === 0;
  return {
    shape: scalar ? [1] : joined.shape,
    accesses: accesses.map((access, i) => ({
      ...access,
      strides: scalar ? [0] : joined.strides[i],
    })),
    steps,
    outputs,
  };
}

function fusedNode(
  program: FusedProgram,
  inputs: Use[],
  values: readonly Value[],
  like: PlanNode,
  replaced: Map<Value, Value>,
): PlanNode {
  const outputs: Value[] = [];
  const node: PlanNode = {
    op: fusedOp,
    attrs: { program },
    inputs,
    outputs,
    path: like.path,
    order: like.order,
  };
  values.forEach((value, index) => {
    const output: Value = { producer: node, index, spec: value.spec };
    outputs.push(output);
    replaced.set(value, output);
  });
  return node;
}

/**
 * Whether output `o` of a fused node may take the place of input `i`: read and written at the same
 * points only. With reductions a row is walked more than once, so what was written could be read
 * again.
 */
export function mayAlias(program: FusedProgram, i: number, o: number): boolean {
  if (program.steps.some(({ op }) => op === "reduce_sum" || op === "reduce_max")) return false;
  const dense = denseStrides(program.shape), sources = sourcesOf(program);
  const out = program.outputs[o];
  return out.extent === "element" && sizeOf(out.spec.shape) === sizeOf(program.shape) &&
    program.accesses.every(({ strides, offset }, k) =>
      sources[k] !== i || offset === 0 &&
        program.shape.every((n, axis) => n === 1 || strides[axis] === dense[axis])
    );
}
