/**
 * Which nodes run as one kernel: greedy groups of element-wise work and row reductions, kept free
 * of cycles.
 */

import { broadcastAccess, commonRefinement, refineStrides, type View, viewOf } from "./access.ts";
import { type Access, denseStrides, isElementwise, isRowReduce } from "../../kernels/mod.ts";
import { sizeOf } from "../graph/mod.ts";
import type { PlanNode, Use, Value } from "./simplify.ts";

export interface Group {
  readonly nodes: readonly PlanNode[];
  /**
   * Iteration space that every member's own shape can be cut into. With reductions its last axis is
   * the row.
   */
  readonly shape: readonly number[];
  /** Width of a row, where the group reduces. */
  readonly width: number | undefined;
  readonly levels: ReadonlyMap<PlanNode, "element" | "row">;
}

/** A GPU holds each reduction's partial sums in workgroup memory, of which 16 KiB are certain. */
const MAX_REDUCTIONS = 8;

export function isFusable(node: PlanNode): boolean {
  return isElementwise(node.op) || isRowReduce(node.op) || node.op.name === "cast";
}

/**
 * Nodes that are only read through, or known numbers: they need no kernel unless somebody wants
 * them stored.
 */
export function isFree(node: PlanNode): boolean {
  return ["permute", "slice", "expand", "fill"].includes(node.op.name);
}

/** What a device allows a kernel. */
export interface GroupLimits {
  readonly maxOperands: number;
  readonly maxMembers: number;
}

/** Who reads whom; of what is read through views, what is below them. */
interface Edges {
  readonly readers: ReadonlyMap<PlanNode, readonly PlanNode[]>;
  readonly bases: ReadonlyMap<PlanNode, readonly Value[]>;
}

function edgesOf(nodes: readonly PlanNode[]): Edges {
  const readers = new Map<PlanNode, PlanNode[]>(), bases = new Map<PlanNode, Value[]>();
  for (const node of nodes) {
    for (const { value } of node.inputs) {
      readers.set(value.producer, [...(readers.get(value.producer) ?? []), node]);
    }
    bases.set(node, node.inputs.map((use) => viewOf(use).base.value));
  }
  return { readers, bases };
}

/** Groups in which each fusable node takes part; others are alone and not listed. */
export function groupNodes(
  nodes: readonly PlanNode[],
  limits: GroupLimits,
): Map<PlanNode, Group> {
  const edges = edgesOf(nodes);
  // A value whose readers come later may stay inside, as they may join. Where in the end too many did
  // not, the group is made again of nodes that count on nothing.
  const cautious = new Set<PlanNode>();
  for (;;) {
    const groups = growGroups(nodes, limits, edges, cautious);
    const over = new Set(
      groups.values().filter((group) =>
        !group.nodes.some((node) => cautious.has(node)) &&
        operandsOf(group, edges) > limits.maxOperands
      ),
    );
    if (over.size === 0) return groups;
    for (const { nodes } of over) for (const node of nodes) cautious.add(node);
  }
}

function growGroups(
  nodes: readonly PlanNode[],
  { maxOperands, maxMembers }: GroupLimits,
  edges: Edges,
  cautious: ReadonlySet<PlanNode>,
): Map<PlanNode, Group> {
  const place = new Map(nodes.map((node, i) => [node, i])), groups = new Map<PlanNode, Group>();
  const spans: Span[] = [];
  const mayJoin = (reader: PlanNode) =>
    isFree(reader) || (isFusable(reader) && !groups.has(reader));
  const fits = (group: Group) => {
    const hopes = group.nodes.some((node) => cautious.has(node)) ? undefined : mayJoin;
    return operandsOf(group, edges, hopes) <= maxOperands &&
      !hasCycle(group, groups, spans, { place, bases: edges.bases });
  };
  for (const node of nodes) {
    if (!isFusable(node)) continue;
    const alone = makeGroup([node])!;
    const candidates = [
      ...new Set(
        edges.bases.get(node)!.map(({ producer }) => groups.get(producer))
          .filter((g) => g !== undefined),
      ),
    ];
    // All neighbours at once if possible, then the latest alone.
    const trials = candidates.length > 1
      ? [candidates, ...candidates.reverse().map((g) => [g])]
      : candidates.map((g) => [g]);
    const joined = trials.values().map((parts) => join(parts, node, place, { maxMembers, fits }))
      .find((g) => g !== undefined);
    const group = joined ?? alone;
    for (const member of group.nodes) groups.set(member, group);
    spans.push(spanOf(group.nodes, place));
  }
  return groups;
}

function join(
  parts: readonly Group[],
  node: PlanNode,
  place: ReadonlyMap<PlanNode, number>,
  { maxMembers, fits }: { maxMembers: number; fits: (group: Group) => boolean },
): Group | undefined {
  const members = [...parts.flatMap((part) => part.nodes), node].sort((a, b) =>
    place.get(a)! - place.get(b)!
  );
  const reductions = members.filter(({ op }) => isRowReduce(op)).length;
  if (members.length > maxMembers || reductions > MAX_REDUCTIONS) return undefined;
  const group = makeGroup(members);
  return group && fits(group) ? group : undefined;
}

/** The space in which a node works: its output's shape, or the shape that it reduces. */
export function spaceOf(node: PlanNode): readonly number[] {
  return isRowReduce(node.op) ? node.inputs[0].spec.shape : node.outputs[0].spec.shape;
}

/**
 * The group of these nodes (in order), or `undefined` where they do not walk over one space
 * together.
 */
function makeGroup(nodes: readonly PlanNode[]): Group | undefined {
  const points = Math.max(...nodes.map((node) => sizeOf(spaceOf(node))));
  const widths = new Set(
    nodes.filter((node) => isRowReduce(node.op)).map((node) => spaceOf(node).at(-1)!),
  );
  if (widths.size > 1) return undefined;
  const [width] = widths,
    rows = width ? points / width : undefined,
    levels = new Map<PlanNode, "element" | "row">();
  let shape: readonly number[] = [points];
  for (const node of nodes) {
    const space = spaceOf(node), size = sizeOf(space);
    if (size !== points && size !== rows) return undefined;
    // With rows of one element the two are the same; all is element-wise then.
    const level = size === points ? "element" : "row";
    if (level === "row" && isRowReduce(node.op)) return undefined;
    levels.set(node, level === "element" && isRowReduce(node.op) && width !== 1 ? "row" : level);
    const refined = commonRefinement(shape, level === "row" ? [...space, width!] : space);
    if (!refined) return undefined;
    shape = refined;
  }
  // Refinement drops axes of size 1, a row of one element among them.
  if (width === 1) shape = [...shape, 1];
  if (shape.length === 0) shape = [1];
  if (width !== undefined && shape.at(-1) !== width) return undefined;
  const group: Group = { nodes, shape, width, levels };
  return edgesFit(group) ? group : undefined;
}

/**
 * Every value made inside is read inside at the point where it is made: along the row for elements,
 * once a row for the rest.
 */
function edgesFit(group: Group): boolean {
  const members = new Set(group.nodes);
  return group.nodes.every((node) =>
    node.inputs.every((use) => {
      const { base, access } = accessIn(group, node, use);
      if (!access) return false;
      if (!members.has(base.value.producer)) return true;
      const level = group.levels.get(base.value.producer)!;
      if (level === "element") return isDense(group.shape, access);
      const rows = group.shape.slice(0, -1);
      return access.strides.at(-1) === 0 &&
        isDense(rows, { ...access, strides: access.strides.slice(0, -1) });
    })
  );
}

function isDense(shape: readonly number[], { strides, offset }: Access): boolean {
  const dense = denseStrides(shape);
  return offset === 0 && shape.every((n, axis) => n === 1 || strides[axis] === dense[axis]);
}

/** How a member's operand is walked over in the group's space, and what it is stored as. */
export function accessIn(
  group: Group,
  node: PlanNode,
  use: Use,
): { base: Use; access: Access | undefined } {
  const view: View = viewOf(use), space = spaceOf(node);
  const own = broadcastAccess(view.shape, view.access.strides, space);
  const isRow = sizeOf(space) !== sizeOf(group.shape);
  const target = isRow ? group.shape.slice(0, -1) : group.shape;
  const strides = refineStrides(space, own, target);
  const access = strides &&
    { strides: isRow ? [...strides, 0] : strides, offset: view.access.offset };
  // A value made once a row, read along the row: whatever the last axis said, it repeats.
  return { base: view.base, access };
}

/**
 * Buffers that the kernel would bind: distinct operands from outside, and members' values that
 * others read, but for others that may join.
 */
function operandsOf(
  group: Group,
  { readers, bases }: Edges,
  mayJoin: (reader: PlanNode) => boolean = () => false,
): number {
  const members = new Set(group.nodes), outside = new Set<Value>();
  for (const node of group.nodes) {
    for (const value of bases.get(node)!) {
      const { producer } = value;
      if (!members.has(producer) && producer.op.name !== "fill") outside.add(value);
    }
  }
  const leaving = group.nodes.filter((node) =>
    readers.get(node)?.some((reader) => !members.has(reader) && !mayJoin(reader)) ?? true
  );
  return outside.size + leaving.length;
}

/**
 * Whether something outside depends on the group and the group on it. Other groups count as one
 * node each, as they will run.
 */
function hasCycle(
  group: Group,
  groups: ReadonlyMap<PlanNode, Group>,
  spans: readonly Span[],
  { place, bases }: { readonly place: ReadonlyMap<PlanNode, number>; bases: Edges["bases"] },
): boolean {
  const members = new Set(group.nodes), floor = floorOf(spanOf(group.nodes, place), spans);
  const seen = new Set<PlanNode>();
  const stack: PlanNode[] = [];
  const visit = (node: PlanNode) => {
    if (!seen.has(node) && !members.has(node)) stack.push(node);
  };
  // Views are read through: what counts is what they look at.
  for (const node of group.nodes) {
    for (const { producer } of bases.get(node)!) visit(producer);
  }
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    // A group that is wholly a part of the trial has been looked at already.
    const unit = groups.get(node)?.nodes ?? [node];
    if (unit.some((part) => members.has(part))) continue;
    if (spanOf(unit, place).last < floor) continue;
    for (const part of unit) {
      seen.add(part);
      for (const { producer } of bases.get(part)!) {
        if (members.has(producer)) return true;
        visit(producer);
      }
    }
  }
  return false;
}

/** Places of the first and the last of some nodes. */
interface Span {
  readonly first: number;
  readonly last: number;
}

function spanOf(nodes: readonly PlanNode[], place: ReadonlyMap<PlanNode, number>): Span {
  let first = Infinity, last = -Infinity;
  for (const node of nodes) {
    const at = place.get(node)!;
    first = Math.min(first, at);
    last = Math.max(last, at);
  }
  return { first, last };
}

/**
 * A place that nothing before depends on anything behind: the first of the trial's, unless a group stands on both sides of it,
 * which waits for its last member and is waited for by what reads its first. `spans` are all groups', the last of each at its
 * end, in that order.
 */
function floorOf({ first }: Span, spans: readonly Span[]): number {
  let floor = first;
  for (let i = spans.length - 1; i >= 0 && spans[i].last >= floor; i--) {
    floor = Math.min(floor, spans[i].first);
  }
  return floor;
}
