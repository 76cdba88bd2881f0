/** PolyNorm (Zhuo et al. 2024, arXiv 2411.03884): an activation of normed powers, and the mlp with it. */

import { z } from "zod";
import { add, element, linear, meanLast, mul, reshape, rsqrt, square } from "../../kernels/mod.ts";
import { remat, scope, type Tensor } from "../graph/mod.ts";
import { dropoutNoise, dropoutOption, dropped } from "./dropout.ts";
import { matrix, outputMatrix } from "./params.ts";
import { definePart, type ParamDescription } from "./part.ts";

/** w₀ n(x³) + w₁ n(x²) + w₂ n(x) + b with n(v) = v / √(mean v² + eps) over the last axis; weight [3], bias [1]. */
export function polyNorm(x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-6): Tensor {
  // a power's weight and what norms it are one number a row
  const factor = (power: Tensor, i: number) =>
    mul(rsqrt(add(meanLast(square(power)), eps)), element(weight, i));
  // six tensors of x's size would be kept otherwise
  return remat(() => {
    const squared = square(x), powers = [mul(x, squared), squared, x];
    return powers.map((power, i) => mul(power, factor(power, i)))
      .reduce((sum, term) => add(sum, term), reshape(bias, []));
  })();
}

const activation: Record<"weight" | "bias", ParamDescription> = {
  weight: { shape: [3], dtype: "f32", role: "gain", init: { kind: "constant", value: 1 / 3 } },
  bias: { shape: [1], dtype: "f32", role: "bias", init: { kind: "constant", value: 0 } },
};

const config = z.strictObject({
  kind: z.literal("polynorm"),
  intermediate_size: z.int().positive(),
  /** Left out, the activation is of `up` itself: two matrices, the form of the paper. */
  gated: z.boolean().default(true),
  eps: z.number().positive().default(1e-6),
  /** Of hidden units. */
  ...dropoutOption,
});

interface Params<T> {
  readonly gate?: T | undefined;
  readonly up: T;
  readonly down: T;
  readonly polynorm: Readonly<Record<"weight" | "bias", T>>;
}

function apply(p: Params<Tensor>, x: Tensor, c: z.output<typeof config>, keys: Tensor | undefined) {
  const up = scope("up", () => linear(x, p.up)), { gate } = p;
  const driven = gate ? scope("gate", () => linear(x, gate)) : up;
  const { weight, bias } = p.polynorm;
  const active = scope("polynorm", () => polyNorm(driven, weight, bias, c.eps));
  const units = dropped(gate ? mul(active, up) : active, c.dropout, keys);
  return scope("down", () => linear(units, p.down));
}

/** down(polynorm(gate x) · up x), or down(polynorm(up x)). */
export const polyNormMlp = definePart({
  config,
  noise: dropoutNoise,
  params: (
    c,
    dims,
  ):
    & Params<ParamDescription>
    & Record<string, ParamDescription | Record<string, ParamDescription>> => ({
      ...(c.gated ? { gate: matrix(c.intermediate_size, dims.hidden_size, dims) } : {}),
      up: matrix(c.intermediate_size, dims.hidden_size, dims),
      down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
      polynorm: activation,
    }),
  apply: (p, x, { config, noise }) => ({ out: apply(p, x, config, noise) }),
  state: () => ({}),
  step: (p, x, { config, noise }) => ({ out: apply(p, x, config, noise), state: {} }),
});
