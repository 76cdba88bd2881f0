/** Tracing: a step function is called once with placeholders and leaves a graph. */

import { apply, type Node, type Op, type Spec, type Tensor } from "./tensor.ts";
import { leavesOf, mapTree } from "./tree.ts";

/** Where an input's bytes live: `state` stays on the device, `upload` is sent with each run. */
export type InputKind = "state" | "upload";

export interface GraphInput {
  /** Path in its tree, e.g. `params.layers.0.mlp.up`. Unique within its kind. */
  readonly name: string;
  readonly kind: InputKind;
  readonly tensor: Tensor;
}

/** What a traced step is: its inputs, what it writes back into its state, and what it hands out. */
export interface Graph {
  readonly inputs: readonly GraphInput[];
  /** State that is replaced. State that is not listed is only read. */
  readonly updates: readonly {
    readonly name: string;
    readonly input: Tensor;
    readonly value: Tensor;
  }[];
  readonly outputs: readonly { readonly name: string; readonly value: Tensor }[];
}

const placeholderOp: Op = {
  name: "input",
  placeholder: true,
  check: (_, attrs) => [attrs.spec as Spec],
  reference() {
    throw new Error("an input has no value of its own");
  },
};

export function placeholder(spec: Spec, name: string, kind: InputKind): Tensor {
  const plain: Spec = { shape: [...spec.shape], dtype: spec.dtype };
  return apply(placeholderOp, [], { spec: plain, name, kind })[0];
}

/** A tree of specs → the same tree of tensors. */
export type Traced<T> = T extends Spec ? Tensor : { readonly [K in keyof T]: Traced<T[K]> };

/**
 * Calls `step(state, batch)` with placeholders shaped like the given trees. The returned `state`
 * may leave out parts that do not change; every leaf that it has must keep its shape and type.
 * `outputs` are handed to the caller of a run.
 */
export function trace<S, B>(
  step: (
    state: Traced<S>,
    batch: Traced<B>,
  ) => { state?: unknown; outputs?: Readonly<Record<string, Tensor>> },
  specs: { state: S; batch: B },
): Graph {
  const inputs: GraphInput[] = [];
  const open = (tree: unknown, kind: InputKind) =>
    mapTree(tree, (leaf: Spec, name) => {
      const tensor = placeholder(leaf, name, kind);
      inputs.push({ name, kind, tensor });
      return tensor;
    });
  const state = open(specs.state, "state") as Traced<S>;
  const batch = open(specs.batch, "upload") as Traced<B>;
  const result = step(state, batch);

  const old = new Map(leavesOf<Tensor>(state).map(({ path, leaf }) => [path, leaf]));
  const updates: Graph["updates"][number][] = [];
  for (const { path, leaf } of leavesOf<Tensor>(result.state ?? {})) {
    const input = old.get(path);
    if (!input) throw new Error(`the step returned state ${path}, which it was not given`);
    if (leaf === input) continue;
    if (leaf.dtype !== input.dtype || leaf.shape.join() !== input.shape.join()) {
      throw new Error(
        `state ${path} changed from ${input.dtype}[${input.shape}] to ${leaf.dtype}[${leaf.shape}] in a step`,
      );
    }
    updates.push({ name: path, input, value: leaf });
  }
  const outputs = Object.entries(result.outputs ?? {}).map(([name, value]) => ({ name, value }));
  return { inputs, updates, outputs };
}

/** The nodes that `roots` depend on, inputs before users, in the order in which they were made. */
export function nodesOf(roots: readonly Tensor[]): Node[] {
  const seen = new Set<Node>(), stack = roots.map((root) => root.node);
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) stack.push(input.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}
