/**
 * Matrix products: NN, NT and TN natively (nothing is transposed through memory), batched, with a
 * fused epilogue. One row of A is the GEMV form of decoding.
 */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  type Numbers,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { type FusedProgram, runProgram } from "./fused.ts";
import { reshape } from "./layout.ts";
import { fromLevels } from "./levels.ts";
import { bytesPerElement, defineOp, type Kernel } from "./lowering.ts";
import { matmulSizes } from "./sizes.ts";
import { matmulWasm } from "./wasm/matmul.ts";
import { matmulKernels } from "./webgpu/matmul.ts";

export { type MatmulSizes, matmulSizes } from "./sizes.ts";

export interface MatmulAttrs {
  readonly transA: boolean;
  readonly transB: boolean;
  /**
   * Applied to the product while it is stored; set by the planner. Input 0 of the program is the
   * product, the others are the node's inputs from 2 on; its shape is [batch, m, n].
   */
  readonly epilogue?: FusedProgram;
}

export const matmulOp: Kernel = defineOp({
  name: "matmul",
  halves: { reads: [0, 1], makes: [0] },
  check(inputs: readonly Spec[], attrs: Attrs) {
    const [a, b] = inputs, { transA, transB, epilogue } = attrs as unknown as MatmulAttrs;
    expect(isFloat(a.dtype) && isFloat(b.dtype), "takes float tensors");
    expect(
      a.shape.length >= 2 && a.shape.length === b.shape.length,
      "takes two tensors of the same number of axes, at least 2",
    );
    expect(a.shape.slice(0, -2).join() === b.shape.slice(0, -2).join(), "batches differ");
    const inner = a.shape.at(transA ? -2 : -1), outer = b.shape.at(transB ? -1 : -2);
    expect(
      inner === outer,
      `inner sizes ${inner} and ${outer} differ${transA ? ", A transposed" : ""}${
        transB ? ", B transposed" : ""
      }`,
    );
    if (epilogue) return epilogue.outputs.map(({ spec }) => spec);
    const { m, n } = matmulSizes(inputs, attrs);
    return [{ shape: [...a.shape.slice(0, -2), m, n], dtype: "f32" }];
  },
  reference([a, b, ...rest], outputs, { inputs, attrs }) {
    const { transA, transB, epilogue } = attrs as unknown as MatmulAttrs;
    const { batch, m, n, k } = matmulSizes(inputs, attrs);
    const Storage = outputs[0] instanceof Float64Array ? Float64Array : Float32Array;
    const product: Numbers = epilogue ? new Storage(batch * m * n) : outputs[0];
    const [aRow, aColumn] = transA ? [1, m] : [k, 1], [bRow, bColumn] = transB ? [1, k] : [n, 1];
    for (let at = 0; at < batch; at++) {
      const a0 = at * m * k, b0 = at * k * n, c0 = at * m * n;
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let l = 0; l < k; l++) {
            sum += a[a0 + i * aRow + l * aColumn] * b[b0 + l * bRow + j * bColumn];
          }
          product[c0 + i * n + j] = sum;
        }
      }
    }
    if (epilogue) runProgram(epilogue, [product, ...rest], outputs);
  },
  kernels: matmulKernels,
  wasm: matmulWasm,
  vjp([a, b], _y, [dy], attrs) {
    const { transA, transB } = attrs as unknown as MatmulAttrs;
    const da = transA ? product(b, dy!, transB, true) : product(dy!, b, false, !transB);
    const db = transB ? product(dy!, a, true, transA) : product(a, dy!, !transA, false);
    return [da, db];
  },
  cost({ inputs, outputs, attrs }) {
    const { batch, m, n, k } = matmulSizes(inputs, attrs);
    return {
      flops: 2 * batch * m * n * k,
      bytes: [...inputs, ...outputs].reduce(
        (sum, x) => sum + sizeOf(x.shape) * bytesPerElement(x.dtype),
        0,
      ),
    };
  },
});

const product = (a: Tensor, b: Tensor, transA: boolean, transB: boolean): Tensor => {
  const read = transB && !transA ? fromLevels(a, b) : undefined;
  return read ?? apply(matmulOp, [a, b], { transA, transB })[0];
};

/**
 * op(a) op(b) over the last two axes. With a two-axis `b` (a weight), leading axes of `a` are rows:
 * [..., k] × [k, n] → [..., n]. `transA` reads a as [..., k, m], `transB` reads b as [..., n, k].
 */
export function matmul(a: Tensor, b: Tensor, { transA = false, transB = false } = {}): Tensor {
  if (b.shape.length === 2 && a.shape.length > 2 && !transA) {
    const rows = a.shape.slice(0, -1), width = a.shape.at(-1)!;
    const flat = product(reshape(a, [sizeOf(rows), width]), b, false, transB);
    return reshape(flat, [...rows, flat.shape[1]]);
  }
  return product(a, b, transA, transB);
}

/** x Wᵀ for a weight stored as [out, in]: [..., in] → [..., out]. */
export function linear(x: Tensor, weight: Tensor): Tensor {
  return matmul(x, weight, { transB: true });
}
