/**
 * Reverse mode on the graph: a fold over the nodes in reverse order that adds more nodes. Computes
 * nothing. Backward kernels have no `vjp` of their own: second derivatives are out of scope.
 */

import { apply, type Attrs, type Node, type Op, type Tensor } from "./tensor.ts";
import { leavesOf, mapTree } from "./tree.ts";
import { nodesOf } from "./trace.ts";

/** What differentiation needs of arithmetic; `kernels/` supplies it, as ops live there. */
export interface Arithmetic {
  add(a: Tensor, b: Tensor): Tensor;
  fill(shape: readonly number[], value: number): Tensor;
}

/** A part of the graph whose values are rebuilt in the backward pass instead of being kept. */
interface Region {
  readonly nodes: Node[];
  clones?: Map<Tensor, Tensor>;
}

const regionOf = new WeakMap<Node, Region>();
// The version keeps a rebuilt node apart from the one it repeats, so that they are not merged
// again.
const versionOf = new WeakMap<Node, number>();
let nextVersion = 1;

/** Distinguishes rebuilt nodes from their originals; 0 for ordinary nodes. */
export function version(node: Node): number {
  return versionOf.get(node) ?? 0;
}

/**
 * `f`, whose intermediate values are computed again for the backward pass. Inside another `remat`
 * it changes nothing.
 */
export function remat<A extends unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    const before = apply(marker, [])[0].node.id;
    const result = f(...args);
    const region: Region = { nodes: [] };
    for (const node of nodesOf(tensorsIn(result))) {
      if (node.id > before && !node.op.placeholder) {
        region.nodes.push(node);
        regionOf.set(node, region);
      }
    }
    return result;
  };
}

const marker: Op = {
  name: "marker",
  check: () => [{ shape: [], dtype: "f32" }],
  reference: () => {},
};

function tensorsIn(value: unknown): Tensor[] {
  if (typeof value !== "object" || value === null) return [];
  if ("node" in value && "shape" in value) return [value as Tensor];
  return Object.values(value).flatMap(tensorsIn);
}

function rebuilt(region: Region, tensor: Tensor): Tensor {
  if (!region.clones) {
    const clones = region.clones = new Map<Tensor, Tensor>();
    const mark = nextVersion++;
    for (const node of region.nodes) {
      const outputs = apply(
        node.op,
        node.inputs.map((input) => clones.get(input) ?? input),
        node.attrs,
      );
      if (!node.op.constant) versionOf.set(outputs[0].node, mark);
      node.outputs.forEach((out, i) => clones.set(out, outputs[i]));
    }
  }
  return region.clones.get(tensor) ?? tensor;
}

const stopOp: Op = {
  name: "stop_gradient",
  alias: true,
  check: ([x]) => [x],
  reference: ([x], [out]) => void out.set(x),
  vjp: () => [undefined],
};

/** x, as a constant for differentiation. */
export function stopGradient(x: Tensor): Tensor {
  return apply(stopOp, [x])[0];
}

/** ∂loss/∂leaf for each leaf; zeros where the loss does not depend on it. `loss` is a scalar. */
export function gradients(
  loss: Tensor,
  leaves: readonly Tensor[],
  { add, fill }: Arithmetic,
): Tensor[] {
  if (loss.shape.length !== 0) {
    throw new Error(`only a scalar can be differentiated, not [${loss.shape}]`);
  }
  const wanted = new Set(leaves);
  if (wanted.size !== leaves.length) {
    throw new Error("the same tensor stands at two places of the tree; use it twice");
  }
  const nodes = nodesOf([loss]), dependent = new Set<Node>();
  for (const node of nodes) {
    if (
      node.inputs.some((input) => dependent.has(input.node)) ||
      node.outputs.some((out) => wanted.has(out))
    ) {
      dependent.add(node);
    }
  }
  const cotangents = new Map<Tensor, Tensor>([[loss, fill([], 1)]]);
  for (const node of nodes.reverse()) {
    if (!dependent.has(node) || node.op.placeholder) continue;
    const incoming = node.outputs.map((out) => cotangents.get(out));
    if (incoming.every((dy) => dy === undefined)) continue;
    vjpOf(node, incoming).forEach((dx, i) => {
      const input = node.inputs[i];
      if (!dx || !dependent.has(input.node)) return;
      if (dx.shape.join() !== input.shape.join()) {
        throw new Error(
          `the vjp of ${node.op.name} gave [${dx.shape}] for an input of [${input.shape}]`,
        );
      }
      const sum = cotangents.get(input);
      cotangents.set(input, sum ? add(sum, dx) : dx);
    });
  }
  return leaves.map((leaf) => cotangents.get(leaf) ?? fill(leaf.shape, 0));
}

function vjpOf(
  node: Node,
  cotangents: readonly (Tensor | undefined)[],
): readonly (Tensor | undefined)[] {
  const { op, attrs, path } = node;
  if (!op.vjp) throw new Error(`${op.name} cannot be differentiated${path ? ` (at ${path})` : ""}`);
  const region = regionOf.get(node);
  const kept = (tensor: Tensor) => region ? rebuilt(region, tensor) : tensor;
  return op.vjp(node.inputs.map(kept), node.outputs.map(kept), cotangents, attrs as Attrs);
}

/**
 * f(params, …rest) ↦ [f, ∂f/∂params]. `f` may also return `[loss, extra]`; the extra is passed
 * through.
 */
export function makeValueAndGrad(arithmetic: Arithmetic) {
  return <P, R extends unknown[], X>(f: (params: P, ...rest: R) => readonly [Tensor, X]) =>
  (params: P, ...rest: R): { value: Tensor; extra: X; grads: P } => {
    const [value, extra] = f(params, ...rest);
    const leaves = leavesOf<Tensor>(params).map(({ leaf }) => leaf);
    const found = gradients(value, leaves, arithmetic);
    let next = 0;
    const grads = mapTree(params, () => found[next++]) as P;
    return { value, extra, grads };
  };
}
