/** The inverse of a unit lower triangular matrix: what the chunked delta rule needs. */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { constant } from "./constant.ts";
import { mul } from "./elementwise.ts";
import { defineOp, foldGrid, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { matmul } from "./matmul.ts";
import { unitLowerInverseWasm } from "./wasm/triangular.ts";
import unitLowerInverseWgsl from "./unit_lower_inverse.wgsl" with { type: "text" };

/**
 * a [..., n, n] → (I − a)⁻¹ by forward substitution, of which only what is below a's diagonal is read.
 * With M the result and dM its cotangent, da = Mᵀ dM Mᵀ below the diagonal.
 */
export const unitLowerInverseOp: Kernel = defineOp({
  name: "unit_lower_inverse",
  kernels: [{ name: "columns", passes: (node) => [pass(node)] }],
  check([a]: readonly Spec[], _: Attrs) {
    expect(
      a.dtype === "f32" && a.shape.length >= 2 && a.shape.at(-1) === a.shape.at(-2),
      "takes f32 [..., n, n]",
    );
    return [{ shape: a.shape, dtype: "f32" }];
  },
  reference([a], [out], { inputs: [{ shape }] }) {
    const n = shape.at(-1)!;
    out.fill(0);
    for (let from = 0; from < out.length; from += n * n) {
      for (let i = 0; i < n; i++) {
        out[from + i * n + i] = 1;
        for (let k = 0; k < i; k++) {
          const factor = a[from + i * n + k];
          for (let j = 0; j <= k; j++) out[from + i * n + j] += factor * out[from + k * n + j];
        }
      }
    }
  },
  vjp(_inputs, [m], [dm]) {
    const full = matmul(matmul(m, dm!, { transA: true }), m, { transB: true });
    return [mul(full, strictlyLower(m.shape.at(-1)!))];
  },
  cost: ({ inputs: [a] }) => ({
    flops: sizeOf(a.shape) * a.shape.at(-1)! / 3,
    bytes: 8 * sizeOf(a.shape),
  }),
  wasm: unitLowerInverseWasm,
});

/** A thread a column, which depends on no other: no barrier is needed. */
function pass({ inputs: [{ shape }] }: OpContext): GpuPass {
  const n = shape.at(-1)!, columns = sizeOf(shape) / n;
  return {
    wgsl: unitLowerInverseWgsl,
    bindings: { a: input(0), out: output(0) },
    uints: { n, columns },
    grid: foldGrid(Math.ceil(columns / 64)),
  };
}

/** 1 below the diagonal of an n × n matrix, else 0. */
export function strictlyLower(n: number): Tensor {
  const values = Float32Array.from({ length: n * n }, (_, i) => i % n < Math.floor(i / n) ? 1 : 0);
  return constant(`strictly lower ${n}`, [n, n], values);
}

/** See `unit_lower_inverse`. */
export function unitLowerInverse(a: Tensor): Tensor {
  return apply(unitLowerInverseOp, [a])[0];
}
