/** RMSNorm and LayerNorm over the last axis, with or without gain (and bias). */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { defineOp, type Kernel } from "./lowering.ts";
import {
  writeLayerNorm,
  writeLayerNormGrad,
  writeRmsNorm,
  writeRmsNormGrad,
} from "./norm_programs.ts";
import { normWasm } from "./wasm/norm.ts";
import { layerNormTerms, normGradKernel, normKernel, rmsNormTerms } from "./webgpu/norm.ts";

/** Whether rows are whole words of two halves. */
const isInPairs = ([x]: readonly Spec[]) => x.shape.at(-1)! % 2 === 0;

const costOf = (flops: number) =>
(
  { inputs, outputs }: { inputs: readonly Spec[]; outputs: readonly Spec[] },
) => ({
  flops: flops * sizeOf(inputs[0].shape),
  bytes: [...inputs, ...outputs].reduce((sum, x) => sum + 4 * sizeOf(x.shape), 0),
});

/**
 * out = gain · x / √(mean(x²) + eps). Zhang & Sennrich 2019, eq. 4. The gain is left out by giving
 * x alone.
 */
export const rmsNormOp: Kernel = defineOp({
  name: "rms_norm",
  halves: { keeps: [0], makes: [0], stores: isInPairs },
  kernels: [normKernel(writeRmsNorm)],
  check([x, gain]: readonly Spec[]) {
    expect(isFloat(x.dtype) && x.shape.length > 0, "takes a float tensor with at least one axis");
    if (gain) {
      expect(
        gain.shape.length === 1 && gain.shape[0] === x.shape.at(-1),
        "wants one gain for each channel",
      );
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference([x, gain], [out], { inputs, attrs }) {
    const n = inputs[0].shape.at(-1)!;
    for (let row = 0; row < x.length; row += n) {
      let sum = 0;
      for (let i = row; i < row + n; i++) sum += x[i] * x[i];
      const inverse = 1 / Math.sqrt(sum / n + (attrs.eps as number));
      for (let i = 0; i < n; i++) out[row + i] = x[row + i] * inverse * (gain ? gain[i] : 1);
    }
  },
  vjp([x, gain], _y, [dy], attrs) {
    return apply(rmsNormGradOp, gain ? [x, dy!, gain] : [x, dy!], attrs);
  },
  cost: costOf(4),
  wasm: normWasm(writeRmsNorm),
});

/** (x, dy[, gain]) → dx[, dgain]. dgain is summed over rows in a fixed order. */
export const rmsNormGradOp: Kernel = defineOp({
  name: "rms_norm_grad",
  halves: { makes: [0], stores: isInPairs },
  kernels: [normGradKernel(writeRmsNormGrad, ["inverse"], rmsNormTerms)],
  check([x, , gain]: readonly Spec[]) {
    const dx: Spec = { shape: x.shape, dtype: "f32" };
    return gain ? [dx, { shape: gain.shape, dtype: "f32" }] : [dx];
  },
  reference([x, dy, gain], [dx, dgain], { inputs, attrs }) {
    const n = inputs[0].shape.at(-1)!, sums = new Float64Array(n);
    for (let row = 0; row < x.length; row += n) {
      let squares = 0, dot = 0;
      for (let i = 0; i < n; i++) {
        squares += x[row + i] * x[row + i];
        dot += x[row + i] * dy[row + i] * (gain ? gain[i] : 1);
      }
      const inverse = 1 / Math.sqrt(squares / n + (attrs.eps as number)),
        pull = dot * inverse ** 3 / n;
      for (let i = 0; i < n; i++) {
        dx[row + i] = dy[row + i] * (gain ? gain[i] : 1) * inverse - x[row + i] * pull;
        sums[i] += dy[row + i] * x[row + i] * inverse;
      }
    }
    dgain?.set(sums as never);
  },
  cost: costOf(9),
  wasm: normWasm(writeRmsNormGrad),
});

/** out = gain · (x − mean) / √(var + eps) + bias. Ba et al. 2016. */
export const layerNormOp: Kernel = defineOp({
  name: "layer_norm",
  halves: { keeps: [0], makes: [0], stores: isInPairs },
  kernels: [normKernel(writeLayerNorm)],
  check([x, gain, bias]: readonly Spec[]) {
    expect(isFloat(x.dtype) && x.shape.length > 0, "takes a float tensor with at least one axis");
    for (const p of [gain, bias]) {
      if (p) {
        expect(
          p.shape.length === 1 && p.shape[0] === x.shape.at(-1),
          "wants one gain and one bias for each channel",
        );
      }
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference([x, gain, bias], [out], { inputs, attrs }) {
    const n = inputs[0].shape.at(-1)!;
    for (let row = 0; row < x.length; row += n) {
      const { mean, inverse } = moments(x, row, n, attrs.eps as number);
      for (let i = 0; i < n; i++) {
        out[row + i] = (x[row + i] - mean) * inverse * (gain ? gain[i] : 1) + (bias ? bias[i] : 0);
      }
    }
  },
  vjp([x, gain, bias], _y, [dy], attrs) {
    const [dx, dgain, dbias] = apply(layerNormGradOp, gain ? [x, dy!, gain] : [x, dy!], attrs);
    return [dx, gain && dgain, bias && dbias];
  },
  cost: costOf(7),
  wasm: normWasm(writeLayerNorm),
});

/** (x, dy[, gain]) → dx, dgain, dbias. */
export const layerNormGradOp: Kernel = defineOp({
  name: "layer_norm_grad",
  halves: { makes: [0], stores: isInPairs },
  kernels: [normGradKernel(writeLayerNormGrad, ["mean", "inverse"], layerNormTerms)],
  check([x]: readonly Spec[]) {
    const channel: Spec = { shape: [x.shape.at(-1)!], dtype: "f32" };
    return [{ shape: x.shape, dtype: "f32" }, channel, channel];
  },
  reference([x, dy, gain], [dx, dgain, dbias], { inputs, attrs }) {
    const n = inputs[0].shape.at(-1)!, gains = new Float64Array(n), biases = new Float64Array(n);
    for (let row = 0; row < x.length; row += n) {
      const { mean, inverse } = moments(x, row, n, attrs.eps as number);
      let sum = 0, dot = 0;
      for (let i = 0; i < n; i++) {
        const g = dy[row + i] * (gain ? gain[i] : 1), unit = (x[row + i] - mean) * inverse;
        sum += g;
        dot += g * unit;
        gains[i] += dy[row + i] * unit;
        biases[i] += dy[row + i];
      }
      for (let i = 0; i < n; i++) {
        const g = dy[row + i] * (gain ? gain[i] : 1), unit = (x[row + i] - mean) * inverse;
        dx[row + i] = inverse * (g - sum / n - unit * dot / n);
      }
    }
    dgain.set(gains as never);
    dbias.set(biases as never);
  },
  cost: costOf(14),
  wasm: normWasm(writeLayerNormGrad),
});

function moments(
  x: ArrayLike<number>,
  row: number,
  n: number,
  eps: number,
): { mean: number; inverse: number } {
  let mean = 0, square = 0;
  for (let i = row; i < row + n; i++) mean += x[i] / n;
  for (let i = row; i < row + n; i++) square += (x[i] - mean) ** 2 / n;
  return { mean, inverse: 1 / Math.sqrt(square + eps) };
}

export function rmsNorm(
  x: Tensor,
  gain: Tensor | undefined,
  attrs: { eps: number } & Attrs,
): Tensor {
  return apply(rmsNormOp, gain ? [x, gain] : [x], attrs)[0];
}

/** A bias needs a gain beside it. */
export function layerNorm(
  x: Tensor,
  gain: Tensor | undefined,
  bias: Tensor | undefined,
  attrs: { eps: number } & Attrs,
): Tensor {
  return apply(
    layerNormOp,
    [x, ...(gain ? [gain] : []), ...(gain && bias ? [bias] : [])],
    attrs,
  )[0];
}
