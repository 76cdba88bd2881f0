/**
 * Ops that only move elements. `reshape` is free; `permute` and `slice` are read with strides by
 * the fuser.
 */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { fill, forEachStrided } from "./elementwise.ts";
import { each } from "./webgpu/each.ts";
import { defineOp, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { concatWasm } from "./wasm/copies.ts";
import concatWgsl from "./concat.wgsl" with { type: "text" };
import { programOf } from "./program_of.ts";
import { programWasm } from "./wasm/fused.ts";

/** Element strides of a dense row-major tensor. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    strides[axis] = strides[axis + 1] * shape[axis + 1];
  }
  return strides;
}

/**
 * Joins neighbouring axes that all the given strides cross as one, and drops axes of size 1. The
 * last `keep` axes stay as they are.
 */
export function joinAxes(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  keep = 0,
): { shape: number[]; strides: number[][] } {
  const sizes: number[] = [], walks: number[][] = strides.map(() => []);
  const fixed = shape.length - keep;
  shape.forEach((n, axis) => {
    if (axis < fixed && n === 1) return;
    const last = sizes.length - 1;
    const joins = axis < fixed && last >= 0 &&
      walks.every((walk, i) => walk[last] === strides[i][axis] * n);
    if (joins) {
      sizes[last] *= n;
      walks.forEach((walk, i) => walk[last] = strides[i][axis]);
    } else {
      sizes.push(n);
      walks.forEach((walk, i) => walk.push(strides[i][axis]));
    }
  });
  return { shape: sizes, strides: walks };
}

export const reshapeOp: Kernel = defineOp({
  name: "reshape",
  alias: true,
  check([x]: readonly Spec[], attrs: Attrs) {
    const shape = attrs.shape as number[];
    expect(sizeOf(shape) === sizeOf(x.shape), `cannot be seen as [${shape.join(", ")}]`);
    return [{ shape, dtype: x.dtype }];
  },
  reference: ([x], [out]) => void out.set(x),
  vjp: ([x], _y, [dy]) => [reshape(dy!, x.shape)],
});

/** The same elements in another shape; one size may be -1. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const known = shape.reduce((product, n) => n === -1 ? product : product * n, 1);
  const full = shape.map((n) => n === -1 ? sizeOf(x.shape) / known : n);
  return full.join() === x.shape.join() ? x : apply(reshapeOp, [x], { shape: full })[0];
}

/** Axes in another order: output axis i is input axis order[i]. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  return apply(permuteOp, [x], { order: [...order] })[0];
}

export const permuteOp: Kernel = defineOp({
  name: "permute",
  cheap: true,
  check([x]: readonly Spec[], attrs: Attrs) {
    const order = attrs.order as number[];
    expect(
      [...order].sort((a, b) => a - b).every((axis, i) => axis === i) &&
        order.length === x.shape.length,
      `[${order}] is not an order of its axes`,
    );
    return [{ shape: order.map((axis) => x.shape[axis]), dtype: x.dtype }];
  },
  reference([x], [out], { inputs, outputs: [{ shape }], attrs }) {
    const strides = denseStrides(inputs[0].shape);
    forEachStrided(
      shape,
      [(attrs.order as number[]).map((axis) => strides[axis])],
      ([from], i) => out[i] = x[from],
    );
  },
  vjp(_x, _y, [dy], attrs) {
    const order = attrs.order as number[];
    return [permute(dy!, order.map((_, axis) => order.indexOf(axis)))];
  },
  wasm: (node, target) => programWasm(programOf(permuteOp, node), node, target),
});

/** x[..., start : start + length, ...] along one axis. */
export function slice(x: Tensor, axis: number, start: number, length: number): Tensor {
  return apply(sliceOp, [x], { axis: axis < 0 ? axis + x.shape.length : axis, start, length })[0];
}

/** x[index] of a vector, as a number []. */
export function element(x: Tensor, index: number): Tensor {
  return reshape(slice(x, 0, index, 1), []);
}

export const sliceOp: Kernel = defineOp({
  name: "slice",
  cheap: true,
  check([x]: readonly Spec[], attrs: Attrs) {
    const { axis, start, length } = attrs as { axis: number; start: number; length: number };
    expect(
      axis < x.shape.length && start >= 0 && length > 0 && start + length <= x.shape[axis],
      `has no ${start}..${start + length} on axis ${axis}`,
    );
    return [{ shape: x.shape.with(axis, length), dtype: x.dtype }];
  },
  reference([x], [out], { inputs, outputs: [{ shape }], attrs }) {
    const strides = denseStrides(inputs[0].shape),
      first = (attrs.start as number) * strides[attrs.axis as number];
    forEachStrided(shape, [strides], ([from], i) => out[i] = x[first + from]);
  },
  vjp([x], _y, [dy], attrs) {
    const { axis, start, length } = attrs as { axis: number; start: number; length: number };
    const parts: Tensor[] = [dy!], rest = x.shape[axis] - start - length;
    if (start > 0) parts.unshift(fill(x.shape.with(axis, start), 0));
    if (rest > 0) parts.push(fill(x.shape.with(axis, rest), 0));
    return [parts.length === 1 ? dy : concat(parts, axis)];
  },
  wasm: (node, target) => programWasm(programOf(sliceOp, node), node, target),
});

function concatPasses({ inputs, outputs: [out], attrs }: OpContext): GpuPass[] {
  const axis = attrs.axis as number, whole = sizeOf(out.shape.slice(axis));
  let first = 0;
  return inputs.flatMap(({ shape }, i) => {
    const width = sizeOf(shape.slice(axis)), size = sizeOf(shape);
    const uints = { width, whole, first };
    first += width;
    return size === 0
      ? []
      : [each(size, concatWgsl, { part: input(i), out: output(0) }, { uints })];
  });
}

/** Joined along one axis. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  return apply(concatOp, parts, { axis: axis < 0 ? axis + parts[0].shape.length : axis })[0];
}

export const concatOp: Kernel = defineOp({
  name: "concat",
  kernels: [{ name: "part by part", passes: concatPasses }],
  check(parts: readonly Spec[], attrs: Attrs) {
    const axis = attrs.axis as number, first = parts[0];
    for (const part of parts) {
      expect(
        part.dtype === "f32" && part.shape.length === first.shape.length &&
          part.shape.every((n, i) => i === axis || n === first.shape[i]),
        `parts differ outside axis ${axis}`,
      );
    }
    return [{
      shape: first.shape.with(axis, parts.reduce((sum, part) => sum + part.shape[axis], 0)),
      dtype: "f32",
    }];
  },
  reference(parts, [out], { inputs, outputs, attrs }) {
    const axis = attrs.axis as number,
      inner = sizeOf(outputs[0].shape.slice(axis)),
      outer = sizeOf(outputs[0].shape.slice(0, axis));
    let column = 0;
    parts.forEach((part, p) => {
      const width = sizeOf(inputs[p].shape.slice(axis));
      for (let row = 0; row < outer; row++) {
        out.set(part.subarray(row * width, (row + 1) * width) as never, row * inner + column);
      }
      column += width;
    });
  },
  vjp(parts, _y, [dy], attrs) {
    const axis = attrs.axis as number;
    let start = 0;
    return parts.map((part) =>
      slice(dy!, axis, (start += part.shape[axis]) - part.shape[axis], part.shape[axis])
    );
  },
  cost: ({ outputs: [y] }) => ({ flops: 0, bytes: 8 * sizeOf(y.shape) }),
  wasm: concatWasm,
});
