/** All operations, and differentiation bound to their arithmetic. */

import { gradients as gradientsWith, makeValueAndGrad, type Tensor } from "../core/graph/mod.ts";
import { addCotangents } from "./cotangents.ts";
import { cast, fill } from "./elementwise.ts";

export * from "./attention.ts";
export * from "./bigram.ts";
export * from "./cache.ts";
export * from "./constant.ts";
export * from "./conv.ts";
export * from "./cross_entropy.ts";
export * from "./elementwise.ts";
export * from "./embedding.ts";
export * from "./fused.ts";
export * from "./integers.ts";
export * from "./layout.ts";
export * from "./levels.ts";
export * from "./lowering.ts";
export * from "./matmul.ts";
export * from "./norm.ts";
export * from "./hyper.ts";
export * from "./optimizer.ts";
export * from "./precision.ts";
export * from "./random.ts";
export * from "./reduce.ts";
export * from "./rope.ts";
export * from "./running_sum.ts";
export * from "./sample.ts";
export * from "./triangular.ts";

const arithmetic = { add: addCotangents, fill, widen: (x: Tensor) => cast(x, "f32") };

/** f(params, …rest) ↦ [loss, extra] becomes ↦ { value, extra, grads }. */
export const valueAndGrad = makeValueAndGrad(arithmetic);

export function gradients(loss: Tensor, leaves: readonly Tensor[]): Tensor[] {
  return gradientsWith(loss, leaves, arithmetic);
}
