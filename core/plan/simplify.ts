/**
 * From the traced graph to the planner's own: dead nodes are gone, equal nodes are one, views of
 * storage are resolved, and a few identities (x · 1, x + 0, −(−x)) are applied. Nothing here knows
 * a device.
 */

import {
  type Attrs,
  type Graph,
  type Node,
  nodesOf,
  numberText,
  type Op,
  sameShape,
  type Spec,
  type Tensor,
  version,
} from "../graph/mod.ts";

/** A node of the planner. Mutable while passes run. */
export interface PlanNode {
  readonly op: Op;
  readonly attrs: Attrs;
  readonly inputs: Use[];
  readonly outputs: Value[];
  readonly path: string;
  /** Place in the order of tracing. */
  readonly order: number;
}

/** Something stored. */
export interface Value {
  readonly producer: PlanNode;
  readonly index: number;
  readonly spec: Spec;
}

/** A value, seen in a shape of its own (reshapes are only this). */
export interface Use {
  readonly value: Value;
  readonly spec: Spec;
}

export interface Simplified {
  readonly nodes: PlanNode[];
  /** What a tensor of the trace became; `undefined` where nothing needs it. */
  use(tensor: Tensor): Use | undefined;
}

export function simplify(graph: Graph): Simplified {
  const roots = [...graph.outputs, ...graph.updates].map(({ value }) => value);
  const uses = new Map<Tensor, Use>(), known = new Map<string, PlanNode>(), nodes: PlanNode[] = [];
  const identity = identifier(), use = (tensor: Tensor) => uses.get(tensor)!;

  for (const node of nodesOf(roots)) {
    if (node.op.alias) {
      uses.set(node.outputs[0], { value: use(node.inputs[0]).value, spec: plain(node.outputs[0]) });
      continue;
    }
    const inputs = node.inputs.map(use);
    const shortcut = identityOf(node, inputs);
    if (shortcut) {
      uses.set(node.outputs[0], { value: shortcut.value, spec: plain(node.outputs[0]) });
      continue;
    }
    const key = keyOf(node, inputs, identity);
    let planned = known.get(key);
    if (!planned) {
      planned = planNode(node, inputs);
      known.set(key, planned);
      nodes.push(planned);
    }
    node.outputs.forEach((out, i) =>
      uses.set(out, { value: planned!.outputs[i], spec: plain(out) })
    );
  }
  return supersede(nodes, uses, identity, roots);
}

const plain = ({ shape, dtype }: Spec): Spec => ({ shape, dtype });

function planNode(node: Node, inputs: Use[]): PlanNode {
  const outputs: Value[] = [];
  const planned: PlanNode = {
    op: node.op,
    attrs: node.attrs,
    inputs,
    outputs,
    path: node.path,
    order: node.id,
  };
  node.outputs.forEach((out, index) =>
    outputs.push({ producer: planned, index, spec: plain(out) })
  );
  return planned;
}

/** Numbers for objects that are compared by identity. */
function identifier(): (x: object) => number {
  const ids = new Map<object, number>();
  return (x) => {
    if (!ids.has(x)) ids.set(x, ids.size);
    return ids.get(x)!;
  };
}

function keyOf(node: Node, inputs: readonly Use[], identity: (x: object) => number): string {
  if (node.op.placeholder) return `input ${identity(node)}`;
  const operands = inputs.map(({ value, spec }) => `${identity(value)}[${spec.shape}]`).join();
  return `${identity(node.op)} ${version(node)} (${operands}) ${attrsKey(node.attrs)}`;
}

/**
 * `values` is data named by `key` and is not compared. Numbers become text, as JSON has no −0, NaN
 * or infinity.
 */
function attrsKey(attrs: Attrs): string {
  return JSON.stringify(attrs, (name, value) => {
    if (name === "values" && attrs.key !== undefined) return undefined;
    return typeof value === "number" ? numberText(value) : value;
  });
}

const fillValue = (use: Use): number | undefined =>
  use.value.producer.op.name === "fill" ? use.value.producer.attrs.value as number : undefined;

/** The operand that a node merely repeats, if it does. */
function identityOf(node: Node, inputs: readonly Use[]): Use | undefined {
  const same = (use: Use) =>
    sameShape(use.spec.shape, node.outputs[0].shape) && use.spec.dtype === node.outputs[0].dtype
      ? use
      : undefined;
  switch (node.op.name) {
    case "mul":
      return fillValue(inputs[1]) === 1
        ? same(inputs[0])
        : fillValue(inputs[0]) === 1
        ? same(inputs[1])
        : undefined;
    case "add":
      return fillValue(inputs[1]) === 0
        ? same(inputs[0])
        : fillValue(inputs[0]) === 0
        ? same(inputs[1])
        : undefined;
    case "sub":
      return fillValue(inputs[1]) === 0 ? same(inputs[0]) : undefined;
    case "div":
      return fillValue(inputs[1]) === 1 ? same(inputs[0]) : undefined;
    case "neg": {
      const inner = inputs[0].value.producer;
      return inner.op.name === "neg" && sameShape(inputs[0].spec.shape, inner.inputs[0].spec.shape)
        ? same(inner.inputs[0])
        : undefined;
    }
    default:
      return undefined;
  }
}

/** Where an op that also yields another's outputs stands on the same operands, the other goes. */
function supersede(
  nodes: PlanNode[],
  uses: Map<Tensor, Use>,
  identity: (x: object) => number,
  roots: readonly Tensor[],
): Simplified {
  const operandsKey = (node: PlanNode) =>
    `(${node.inputs.map(({ value, spec }) => `${identity(value)}[${spec.shape}]`)}) ${
      attrsKey(node.attrs)
    }`;
  const better = new Map<string, PlanNode>();
  for (const node of nodes) {
    if (node.op.supersedes) better.set(`${node.op.supersedes} ${operandsKey(node)}`, node);
  }
  const replaced = new Map<Value, Value>();
  for (const node of nodes) {
    const other = better.size > 0 ? better.get(`${node.op.name} ${operandsKey(node)}`) : undefined;
    if (other) node.outputs.forEach((out, i) => replaced.set(out, other.outputs[i]));
  }
  const current = ({ value, spec }: Use): Use => ({ value: replaced.get(value) ?? value, spec });
  if (replaced.size > 0) {
    for (const node of nodes) {
      node.inputs.splice(0, node.inputs.length, ...node.inputs.map(current));
    }
    for (const [tensor, use] of uses) uses.set(tensor, current(use));
  }
  const live = new Set<PlanNode>(), stack = roots.map((root) => uses.get(root)!.value.producer);
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (live.has(node)) continue;
    live.add(node);
    stack.push(...node.inputs.map(({ value }) => value.producer));
  }
  return { nodes: inOrder([...live]), use: (tensor) => uses.get(tensor) };
}

/**
 * Producers before users, otherwise as traced. A replaced node may use what was traced later, so
 * order numbers alone do not do.
 */
export function inOrder(nodes: readonly PlanNode[]): PlanNode[] {
  const sorted = [...nodes].sort((a, b) => a.order - b.order),
    done = new Set<PlanNode>(),
    result: PlanNode[] = [];
  for (const start of sorted) {
    const stack: PlanNode[] = [start];
    while (stack.length > 0) {
      const node = stack[stack.length - 1];
      if (done.has(node)) {
        stack.pop();
        continue;
      }
      const missing = node.inputs.map(({ value }) => value.producer).filter((producer) =>
        !done.has(producer)
      );
      if (missing.length > 0) stack.push(...missing.reverse());
      else {
        done.add(node);
        result.push(node);
        stack.pop();
      }
    }
  }
  return result;
}
