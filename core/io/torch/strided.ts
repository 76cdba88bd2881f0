/** Tensors that are views of numbers in a row: an element's place is the sum of its indices times their strides. */

import type { TensorData } from "../dtypes.ts";

export function numbersOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The place of the last element, from the first. */
export function lastOf(shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((sum, size, axis) => sum + (size - 1) * strides[axis], 0);
}

/** Whether the elements lie in row-major order without gaps. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let width = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== width) return false;
    width *= shape[axis];
  }
  return true;
}

/** The elements in row-major order, from `stored` into `values`. */
export function rowMajor<T extends TensorData>(
  stored: T,
  shape: readonly number[],
  strides: readonly number[],
  values: T,
): T {
  const outer = shape.slice(0, -1), width = shape.at(-1) ?? 1, step = strides.at(-1) ?? 1;
  const index = outer.map(() => 0);
  for (let at = 0, from = 0; at < values.length; at += width) {
    for (let i = 0; i < width; i++) values[at + i] = stored[from + i * step];
    for (let axis = outer.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < outer[axis]) break;
      from -= strides[axis] * outer[axis];
      index[axis] = 0;
    }
  }
  return values;
}
