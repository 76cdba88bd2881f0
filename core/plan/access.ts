/**
 * Shapes as ways to walk over storage: views through permute, slice and expand, and shapes that
 * refine one another.
 */

import { type Access, denseStrides, joinAxes } from "../../kernels/mod.ts";
import { sizeOf } from "../graph/mod.ts";
import type { Use } from "./simplify.ts";

/**
 * A use read through the views above it: the stored value below, and the strides over the use's own
 * shape.
 */
export interface View {
  readonly base: Use;
  readonly shape: readonly number[];
  readonly access: Access;
}

/**
 * Follows permute, slice and expand down to what is stored. Stops where a reshape of a view is in
 * the way.
 */
export function viewOf(use: Use): View {
  const { producer } = use.value, shape = use.spec.shape, own = use.value.spec.shape;
  const dense: View = { base: use, shape, access: { strides: denseStrides(shape), offset: 0 } };
  if (!["permute", "slice", "expand"].includes(producer.op.name)) return dense;
  const below = viewOf(producer.inputs[0]), { strides, offset } = below.access;
  let seen: Access;
  if (producer.op.name === "permute") {
    seen = { strides: (producer.attrs.order as number[]).map((axis) => strides[axis]), offset };
  } else if (producer.op.name === "slice") {
    seen = {
      strides,
      offset: offset + (producer.attrs.start as number) * strides[producer.attrs.axis as number],
    };
  } else seen = { strides: broadcastAccess(below.shape, strides, own), offset };
  if (shape.join() === own.join()) return { base: below.base, shape, access: seen };
  const refined = refineStrides(own, seen.strides, shape);
  return refined
    ? { base: below.base, shape, access: { strides: refined, offset: seen.offset } }
    : dense;
}

/** Strides of something of shape `from` when it is broadcast to `to`. */
export function broadcastAccess(
  from: readonly number[],
  strides: readonly number[],
  to: readonly number[],
): number[] {
  return to.map((n, axis) => {
    const own = axis - to.length + from.length;
    return own < 0 || (from[own] === 1 && n !== 1) ? 0 : strides[own];
  });
}

/**
 * The strides of `shape` seen as `finer`, where every axis of `shape` is a product of axes of
 * `finer` (or equal to it); `undefined` where `finer` cuts across axes whose strides do not join.
 */
export function refineStrides(
  shape: readonly number[],
  strides: readonly number[],
  finer: readonly number[],
): number[] | undefined {
  const result = new Array<number>(finer.length).fill(0);
  // Walk both shapes from the last axis, in pieces that divide both.
  const source = joinAxes(shape, [strides]);
  let axis = source.shape.length - 1,
    left = axis >= 0 ? source.shape[axis] : 1,
    step = axis >= 0 ? source.strides[0][axis] : 0;
  for (let at = finer.length - 1; at >= 0; at--) {
    const size = finer[at];
    if (size === 1) continue;
    while (left === 1 && axis > 0) {
      axis--;
      left = source.shape[axis];
      step = source.strides[0][axis];
    }
    if (left % size !== 0) return undefined;
    result[at] = step;
    left /= size;
    step *= size;
  }
  return result;
}

/**
 * The coarsest shape that both refine to, or `undefined` where their axes cut across each other.
 */
export function commonRefinement(a: readonly number[], b: readonly number[]): number[] | undefined {
  if (sizeOf(a) !== sizeOf(b)) return undefined;
  const edges = (shape: readonly number[]) => {
    const found = [1];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      found.push(found[found.length - 1] * shape[axis]);
    }
    return found;
  };
  const all = [...new Set([...edges(a), ...edges(b)])].sort((x, y) => x - y), result: number[] = [];
  for (let i = 1; i < all.length; i++) {
    if (all[i] % all[i - 1] !== 0) return undefined;
    result.unshift(all[i] / all[i - 1]);
  }
  return result;
}
