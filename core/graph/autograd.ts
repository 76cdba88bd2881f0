/**
 * Reverse mode on the graph: a fold over the nodes in reverse order that adds more nodes. Computes
 * nothing. Backward kernels have no `vjp` of their own: second derivatives are out of scope.
 */

import { apply, type Attrs, isHalf, type Node, type Op, type Tensor } from "./tensor.ts";
import { leavesOf, mapTree } from "./tree.ts";
import { nodesOf } from "./trace.ts";

/** What differentiation needs of arithmetic; `kernels/` supplies it, as ops live there. */
export interface Arithmetic {
  add(a: Tensor, b: Tensor): Tensor;
  fill(shape: readonly number[], value: number): Tensor;
  /** x, stored as f32. */
  widen(x: Tensor): Tensor;
}

/** A part of the graph whose values are rebuilt in the backward pass instead of being kept. */
interface Region {
  readonly nodes: readonly Node[];
  readonly clones: Map<Tensor, Tensor>;
  readonly version: number;
  /** Tensors that it reads are kept as `keepAs` says; else as they are, to rebuild the same bits. */
  readonly takesKept: boolean;
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

const keptAs = new WeakMap<Tensor, Tensor>();

/** The backward pass reads `stored` in x's place, so that x need not be kept. */
export function keepAs(x: Tensor, stored: Tensor): void {
  keptAs.set(x, stored);
}

/**
 * `f`, whose intermediate values are computed again for the backward pass. Inside another `remat`
 * it changes nothing.
 */
export function remat<A extends unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    const before = apply(marker, [])[0].node.id;
    const result = f(...args);
    const region = makeRegion(
      nodesOf(tensorsIn(result)).filter(({ id, op }) => id > before && !op.placeholder),
      false,
    );
    for (const node of region.nodes) regionOf.set(node, region);
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

function makeRegion(nodes: readonly Node[], takesKept: boolean): Region {
  return { nodes, clones: new Map(), version: nextVersion++, takesKept };
}

/**
 * Work that is cheaper to do again than to keep, outside of `remat`: what no other op reads. A cast
 * to 16 bits only stores what it reads; one from 16 bits is done again whoever reads it.
 */
function cheapRegion(nodes: readonly Node[]): Region {
  const stored = new Set<Node>();
  const isCheap = ({ op, outputs }: Node) =>
    (op.cheap || op.alias) && !outputs.some(({ dtype }) => isHalf(dtype));
  for (const node of nodes.toReversed()) {
    if (node.op.alias ? !stored.has(node) : node.op.cheap) continue;
    for (const input of node.inputs) stored.add(input.node);
  }
  const isStored = (node: Node) =>
    stored.has(node) && !(node.op.name === "cast" && isHalf(node.inputs[0].dtype));
  return makeRegion(
    nodes.filter((node) => isCheap(node) && !isStored(node) && !regionOf.has(node)),
    true,
  );
}

/** What the backward pass reads instead of a tensor. */
function rebuilt(region: Region, tensor: Tensor): Tensor {
  const { clones, nodes, takesKept } = region;
  if (clones.size === 0) { for (const node of nodes) cloneInto(region, node); }
  const kept = keptAs.get(tensor);
  if (takesKept || !kept) return clones.get(tensor) ?? kept ?? tensor;
  if (!clones.has(kept)) cloneInto(region, kept.node);
  return clones.get(kept)!;
}

function cloneInto({ clones, version, takesKept }: Region, node: Node): void {
  const read = (input: Tensor) =>
    clones.get(input) ?? (takesKept ? keptAs.get(input) : undefined) ?? input;
  const outputs = apply(node.op, node.inputs.map(read), node.attrs);
  if (!node.op.constant) versionOf.set(outputs[0].node, version);
  node.outputs.forEach((out, i) => clones.set(out, outputs[i]));
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
  { add, fill, widen }: Arithmetic,
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
  const cotangents = new Map<Tensor, Tensor>([[loss, fill([], 1)]]), cheap = cheapRegion(nodes);
  for (const node of nodes.reverse()) {
    if (!dependent.has(node) || node.op.placeholder) continue;
    const incoming = node.outputs.map((out) => cotangents.get(out));
    if (incoming.every((dy) => dy === undefined)) continue;
    const { cheap: isCheap, alias, halves } = node.op;
    const known = incoming.map((dy, i) =>
      !dy || isCheap || alias || halves?.makes?.includes(i) ? dy : widen(dy)
    );
    vjpOf(node, regionOf.get(node) ?? cheap, known).forEach((dx, i) => {
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
  region: Region,
  cotangents: readonly (Tensor | undefined)[],
): readonly (Tensor | undefined)[] {
  const { op, attrs, path } = node;
  if (!op.vjp) throw new Error(`${op.name} cannot be differentiated${path ? ` (at ${path})` : ""}`);
  const kept = (tensor: Tensor) => rebuilt(region, tensor);
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
