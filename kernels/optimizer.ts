/** The optimizer's own kernels. Parameters and moments are updated in place. */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { each } from "./webgpu/each.ts";
import { globalNormKernel } from "./webgpu/global_norm.ts";
import { defineOp, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { adamWWasm, globalNormWasm } from "./wasm/optimizer.ts";
import { decayWord } from "./hyper.ts";
import adamWWgsl from "./adamw.wgsl" with { type: "text" };

/**
 * (count, max_norm, gradients…) → norm, and gate [2] = (scale, finite).
 *
 * Gradients are of a *sum* of losses over `count` tokens. norm = ‖gradients‖₂ / count; scale =
 * min(1, max_norm / (norm + 1e-6)) / count, so that scale · gradient is the clipped mean gradient
 * (max_norm ≤ 0: no limit); finite is 1 where the norm is a number, else 0, and then scale is 0.
 * Non-finite is told by the exponent's bits, as shader compilers may assume that NaN does not
 * occur.
 */
export const globalNormOp: Kernel = defineOp({
  name: "global_norm",
  kernels: [globalNormKernel],
  check([count, max_norm, ...grads]: readonly Spec[]) {
    expect(
      count.shape.length === 0 && max_norm.shape.length === 0 && grads.length > 0,
      "takes count, max_norm (scalars) and gradients",
    );
    expect(grads.every((g) => g.dtype === "f32"), "takes f32 gradients");
    return [{ shape: [], dtype: "f32" }, { shape: [2], dtype: "f32" }];
  },
  reference([count, max_norm, ...grads], [norm, gate]) {
    let sum = 0;
    for (const grad of grads) for (const g of grad) sum += g * g;
    const mean = Math.sqrt(sum) / Math.max(count[0], 1),
      finite = Number.isFinite(Math.fround(mean)) && Number.isFinite(Math.fround(sum));
    norm[0] = mean;
    const limited = max_norm[0] > 0 ? Math.min(1, max_norm[0] / (mean + 1e-6)) : 1;
    gate[0] = finite ? limited / Math.max(count[0], 1) : 0;
    gate[1] = finite ? 1 : 0;
  },
  cost: ({ inputs }) => {
    const n = inputs.reduce((sum, x) => sum + sizeOf(x.shape), 0);
    return { flops: 2 * n, bytes: 4 * n };
  },
  wasm: globalNormWasm,
});

export interface AdamWAttrs {
  readonly eps: number;
  /** Which of the decays in `hyper` is the parameter's. */
  readonly decay: number;
}

/**
 * AdamW (Loshchilov & Hutter 2019), as PyTorch computes it: (param, gradient, m, v, hyper, gate [2])
 * → param, m, v. hyper = (lr, c1, c2, b1, 1 − b1, b2, 1 − b2, weight decays…), as from `packHyper`;
 * gate as from `global_norm`. Where the gate's second word is 0 nothing changes. p −= lr·wd·p; m =
 * b1·m + (1−b1)·g; v = b2·v + (1−b2)·g²; p −= lr/c1 · m / (√v/√c2 + eps).
 */
export const adamWOp: Kernel = defineOp({
  name: "adamw",
  kernels: [{ name: "each", passes: (node) => [adamWPass(node)] }],
  inplace: { 0: 0, 1: 2, 2: 3 },
  check([param, grad, m, v, hyper, gate]: readonly Spec[], attrs) {
    for (const x of [grad, m, v]) {
      expect(
        x.shape.join() === param.shape.join() && x.dtype === "f32",
        "wants gradient and moments of the parameter's shape",
      );
    }
    expect(
      param.dtype === "f32" && hyper.shape.length === 1 && gate.shape.join() === "2",
      "wants f32 parameters, hyper [n], gate [2]",
    );
    const { decay } = attrs as unknown as AdamWAttrs;
    expect(decay >= 0 && decayWord(decay) < hyper.shape[0], `finds no decay ${decay} in hyper`);
    return [param, m, v].map(({ shape }) => ({ shape, dtype: "f32" }));
  },
  reference([param, grad, m, v, hyper, [scale, finite]], [newParam, newM, newV], { attrs }) {
    const { eps, decay } = attrs as unknown as AdamWAttrs;
    const [lr, c1, c2, beta1, rest1, beta2, rest2] = hyper, weightDecay = hyper[decayWord(decay)];
    for (let i = 0; i < param.length; i++) {
      if (finite === 0) {
        [newParam[i], newM[i], newV[i]] = [param[i], m[i], v[i]];
        continue;
      }
      const g = grad[i] * scale,
        first = beta1 * m[i] + rest1 * g,
        second = beta2 * v[i] + rest2 * g * g;
      const decayed = param[i] * (1 - lr * weightDecay);
      newM[i] = first;
      newV[i] = second;
      newParam[i] = decayed - lr / c1 * first / (Math.sqrt(second) / Math.sqrt(c2) + eps);
    }
  },
  cost: ({ inputs: [param] }) => ({
    flops: 14 * sizeOf(param.shape),
    bytes: 28 * sizeOf(param.shape),
  }),
  wasm: adamWWasm,
});

function adamWPass({ inputs: [param], attrs }: OpContext): GpuPass {
  const { eps, decay } = attrs as unknown as AdamWAttrs;
  const bindings = {
    grad: input(1),
    hyper: input(4),
    gate: input(5),
    param: output(0),
    m: output(1),
    v: output(2),
  };
  const numbers = { uints: { decay: decayWord(decay) }, floats: { eps } };
  return each(sizeOf(param.shape), adamWWgsl, bindings, numbers);
}

export function globalNorm(
  grads: readonly Tensor[],
  count: Tensor,
  max_norm: Tensor,
): { norm: Tensor; gate: Tensor } {
  const [norm, gate] = apply(globalNormOp, [count, max_norm, ...grads]);
  return { norm, gate };
}

export function adamW(
  param: Tensor,
  grad: Tensor,
  m: Tensor,
  v: Tensor,
  hyper: Tensor,
  gate: Tensor,
  attrs: AdamWAttrs & Attrs,
): { param: Tensor; m: Tensor; v: Tensor } {
  const [newParam, newM, newV] = apply(adamWOp, [param, grad, m, v, hyper, gate], attrs);
  return { param: newParam, m: newM, v: newV };
}
