/**
 * Sums and maxima over the last axis or over leading axes, in an order fixed by the shape alone.
 */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  sizeOf,
  type Spec,
  stopGradient,
  type Tensor,
} from "../core/graph/mod.ts";
import { add, exp, expand, log, mul, reciprocal, sub } from "./elementwise.ts";
import { permute, reshape, slice } from "./layout.ts";
import { columnSumPasses, columnSumScratch } from "./webgpu/column_sums.ts";
import { defineOp, type GpuKernel, input, type Kernel, output, scratch } from "./lowering.ts";
import { programOf } from "./program_of.ts";
import { sumLeadingWasm } from "./wasm/columns.ts";
import { programWasm } from "./wasm/fused.ts";

export type RowReduction = "sum" | "max";

/**
 * Reduces the last axis, which stays with size 1. The fuser takes it into chains of element-wise
 * work.
 */
export interface RowReduceOp extends Kernel {
  readonly reduction: RowReduction;
}

export function isRowReduce(op: object): op is RowReduceOp {
  return "reduction" in op;
}

function rowReduceOp(reduction: RowReduction, vjp: NonNullable<Kernel["vjp"]>): RowReduceOp {
  const op: RowReduceOp = defineOp<RowReduceOp>({
    reduction,
    name: `${reduction}_last`,
    check([x]: readonly Spec[]) {
      expect(
        x && isFloat(x.dtype) && x.shape.length > 0,
        "takes a float tensor with at least one axis",
      );
      expect(x.shape.at(-1)! > 0, "the last axis is empty");
      return [{ shape: [...x.shape.slice(0, -1), 1], dtype: "f32" }];
    },
    reference([x], [out], { inputs: [{ shape }] }) {
      const width = shape.at(-1)!;
      for (let row = 0; row < out.length; row++) {
        let sum = reduction === "sum" ? 0 : -Infinity;
        for (let i = row * width; i < (row + 1) * width; i++) {
          sum = reduction === "sum" ? sum + x[i] : Math.max(sum, x[i]);
        }
        out[row] = sum;
      }
    },
    vjp,
    cost: ({ inputs: [x] }) => ({ flops: sizeOf(x.shape), bytes: 4 * sizeOf(x.shape) }),
    wasm: (node, target) => programWasm(programOf(op, node), node, target),
  });
  return op;
}

export const sumLastOp = rowReduceOp("sum", ([x], _y, [dy]) => [expand(dy!, x.shape)]);
export const maxLastOp = rowReduceOp("max", ([x], _y, [dy]) => apply(maxLastGradOp, [x, dy!]));

/**
 * (x [..., n], dy [..., 1]) → dy where x is its row's maximum, else 0; among equal maxima each gets
 * it whole. An op of its own, never fused: what is compared must be one stored x, as a shader that
 * computes x twice may round it twice.
 */
export const maxLastGradOp: Kernel = defineOp({
  name: "max_last_grad",
  check: ([x]: readonly Spec[]) => [{ shape: x.shape, dtype: "f32" }],
  reference([x, dy], [dx], { inputs: [{ shape }] }) {
    const width = shape.at(-1)!;
    for (let row = 0; row < dy.length; row++) {
      const first = row * width;
      let top = -Infinity;
      for (let i = first; i < first + width; i++) top = Math.max(top, x[i]);
      for (let i = first; i < first + width; i++) dx[i] = x[i] === top ? dy[row] : 0;
    }
  },
  cost: ({ inputs: [x] }) => ({ flops: 2 * sizeOf(x.shape), bytes: 8 * sizeOf(x.shape) }),
  wasm: (node, target) => programWasm(programOf(maxLastGradOp, node), node, target),
});

/** Sums over the first axes: [R…, C…] → [C…]. */
export const sumLeadingOp: Kernel = defineOp({
  name: "sum_leading",
  kernels: [sumLeadingKernel()],
  check([x]: readonly Spec[], { axes }: Attrs) {
    expect(
      x && isFloat(x.dtype) && x.shape.length >= (axes as number),
      "has too few axes to sum over",
    );
    return [{ shape: x.shape.slice(axes as number), dtype: "f32" }];
  },
  reference([x], [out]) {
    // In double precision whatever the storage: this loop is the oracle of the tree sums of
    // devices.
    const columns = out.length, sums = new Float64Array(columns);
    for (let i = 0; i < x.length; i++) sums[i % columns] += x[i];
    out.set(sums as never);
  },
  vjp: ([x], _y, [dy]) => [expand(dy!, x.shape)],
  cost: ({ inputs: [x] }) => ({ flops: sizeOf(x.shape), bytes: 4 * sizeOf(x.shape) }),
  wasm: sumLeadingWasm,
});

function sumLeadingKernel(): GpuKernel {
  const sizes = (x: Spec, out: Spec) => {
    const columns = sizeOf(out.shape);
    return { rows: sizeOf(x.shape) / columns, columns };
  };
  return {
    name: "two stages",
    scratch({ inputs: [x], outputs: [out] }) {
      const { rows, columns } = sizes(x, out);
      return columnSumScratch(rows, columns, 1);
    },
    passes: ({ inputs: [x], outputs: [out] }) =>
      columnSumPasses({
        ...sizes(x, out),
        terms: [
          "fn term0(row: u32, column: u32) -> f32 { return load_x(row * params.columns + column); }",
        ],
        bindings: { x: input(0) },
        outputs: [output(0)],
        partials: [scratch(0)],
      }),
  };
}

/** [..., n] → [..., 1] */
export function sumLast(x: Tensor): Tensor {
  return apply(sumLastOp, [x])[0];
}

export function maxLast(x: Tensor): Tensor {
  return apply(maxLastOp, [x])[0];
}

export function meanLast(x: Tensor): Tensor {
  return mul(sumLast(x), 1 / x.shape.at(-1)!);
}

/** log Σ exp over the last axis, stable. */
export function logSumExpLast(x: Tensor): Tensor {
  const top = stopGradient(maxLast(x));
  return add(log(sumLast(exp(sub(x, top)))), top);
}

/** softmax over the last axis */
export function softmaxLast(x: Tensor): Tensor {
  const top = stopGradient(maxLast(x)), weights = exp(sub(x, top));
  return mul(weights, reciprocal(sumLast(weights)));
}

export function sumLeading(x: Tensor, axes = x.shape.length - 1): Tensor {
  return axes === 0 ? x : apply(sumLeadingOp, [x], { axes })[0];
}

/** The sum of all elements, a scalar. */
export function sumAll(x: Tensor): Tensor {
  const size = sizeOf(x.shape);
  if (x.shape.length === 0) return x;
  // Rows first, in one fused pass; then the short column.
  const width = x.shape.at(-1)!;
  return reshape(sumLeading(reshape(sumLast(x), [size / width, 1]), 1), []);
}

export function meanAll(x: Tensor): Tensor {
  return mul(sumAll(x), 1 / sizeOf(x.shape));
}

/** x and the shape that it is summed to, without axes of size 1 in x: nothing is summed there. */
function withoutOnes(x: Tensor, shape: readonly number[]): [Tensor, number[]] {
  const first = x.shape.length - shape.length, sizes = x.shape.filter((n) => n !== 1);
  const aligned = x.shape.map((_, axis) => shape[axis - first] ?? 1);
  return [reshape(x, sizes), aligned.filter((_, axis) => x.shape[axis] !== 1)];
}

/** Sums over the axes along which `shape` was broadcast to x's shape: the adjoint of `expand`. */
export function sumTo(x: Tensor, shape: readonly number[]): Tensor {
  if (x.shape.join() === shape.join()) return x;
  if (x.shape.includes(1)) return reshape(sumTo(...withoutOnes(x, shape)), shape);
  const rank = x.shape.length,
    aligned = [...new Array<number>(rank - shape.length).fill(1), ...shape];
  const summed: number[] = [], kept: number[] = [];
  x.shape.forEach((n, axis) => (n !== aligned[axis] ? summed : kept).push(axis));
  if (summed.length === 0) return reshape(x, shape);
  const keptShape = kept.map((axis) => x.shape[axis]);
  const isTail = summed.every((axis, i) => axis === rank - summed.length + i);
  if (isTail && kept.some((axis) => x.shape[axis] !== 1)) {
    const width = sizeOf(summed.map((axis) => x.shape[axis]));
    return reshape(sumLast(reshape(x, [...keptShape, width])), shape);
  }
  if (kept.every((axis) => x.shape[axis] === 1)) return reshape(sumAll(x), shape);
  if (summed.length === 1 && summed[0] > 0 && x.shape[summed[0]] <= 8) {
    // few terms in the middle: read where they lie, not moved to the front first
    const terms = Array.from({ length: x.shape[summed[0]] }, (_, i) => slice(x, summed[0], i, 1));
    return reshape(terms.reduce((sum, term) => add(sum, term)), shape);
  }
  const order = [...summed, ...kept],
    ordered = order.every((axis, i) => axis === i) ? x : permute(x, order);
  return reshape(sumLeading(ordered, summed.length), shape);
}
