/** Dropout (Srivastava et al. 2014): in training, some numbers become 0 and the others grow by as much. */

import { z } from "zod";
import { less, mul, uniform, where } from "../../kernels/mod.ts";
import { currentPath, remat, type Tensor } from "../graph/mod.ts";
import type { NoiseUse } from "./part.ts";

export const dropoutOption = {
  /** The share of numbers that training sets to 0, drawn anew for each row and update; measuring and generating drop none. */
  dropout: z.number().min(0).lt(1).default(0),
};

/** When a part with such an option draws. */
export function dropoutNoise({ dropout }: { readonly dropout: number }): NoiseUse {
  return dropout > 0 ? "training" : "never";
}

/** x [batch, …] with a share dropped; as it is where there are no keys: outside of training. */
export function dropped(x: Tensor, share: number, keys: Tensor | undefined): Tensor {
  if (share === 0 || !keys) return x;
  const purpose = `${currentPath()}.dropout`;
  // for the backward pass they are drawn again, not kept
  return remat(() => {
    const isDropped = less(uniform(keys, purpose, x.shape), share);
    return mul(x, where(isDropped, 0, 1 / (1 - share)));
  })();
}
