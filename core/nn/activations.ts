/** Scalar functions that hidden units may use, by the name that a config gives them. */

import { z } from "zod";
import { gelu, geluTanh, mul, relu, sigmoid, softplus, square, tanh } from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";

export const activations = {
  relu,
  tanh,
  /** As a product: what slopes need of it, the sigmoid, is then computed once. */
  silu: (x: Tensor) => mul(x, sigmoid(x)),
  /** With erf. */
  gelu,
  gelu_tanh: geluTanh,
  sigmoid,
  softplus,
  relu_squared: (x: Tensor) => square(relu(x)),
} as const satisfies Readonly<Record<string, (x: Tensor) => Tensor>>;

export type ActivationName = keyof typeof activations;

export const activationName = z.enum(Object.keys(activations) as [ActivationName]);
