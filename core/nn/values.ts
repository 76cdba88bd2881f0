/** What attention's values are besides a projection, and what becomes of what is seen. */

import { z } from "zod";
import {
  add,
  div,
  element,
  maximum,
  mul,
  reshape,
  square,
  sub,
  sumLast,
} from "../../kernels/mod.ts";
import { currentPath, reveal, scope, ShapeError, type Tensor } from "../graph/mod.ts";
import type { ParamDescription, RunContext } from "./part.ts";

export const valueOptions = {
  /**
   * Values are mixed with those of the first layer that has this, by two factors that are learned, 1/2 at first
   * (Zhou et al. 2024, arXiv 2410.17897).
   */
  value_residual: z.boolean().default(false),
  /** Values get the input's value_embedding of their token, times a factor that is learned; not in a replay. */
  value_embedding: z.boolean().default(false),
  /** What a token sees loses its part along the token's own value: exclusive self-attention. */
  exclusive: z.boolean().default(false),
};
const options = z.strictObject(valueOptions);
export type ValueConfig = z.output<typeof options>;

export interface ValueParams<T> {
  /** [2]: the factors of the first layer's values, and of a layer's own. */
  readonly value_mix?: T | undefined;
  /** [1]: the factor of the value embedding. */
  readonly value_embedding_scale?: T | undefined;
}

export function valueParams(
  { value_residual, value_embedding }: ValueConfig,
): ValueParams<ParamDescription> {
  const factors = (count: number, value: number): ParamDescription => ({
    shape: [count],
    dtype: "f32",
    role: "gain",
    init: { kind: "constant", value },
  });
  return {
    ...(value_residual ? { value_mix: factors(2, 0.5) } : {}),
    ...(value_embedding ? { value_embedding_scale: factors(1, 1) } : {}),
  };
}

/** A layer's values as attention reads them, and those for later layers where it is the first. */
export function mixedValues(
  p: ValueParams<Tensor>,
  projected: Tensor,
  { streams, isReplay }: Pick<RunContext, "streams" | "isReplay">,
): { v: Tensor; streams: Readonly<Record<string, Tensor>> } {
  const own = p.value_embedding_scale && !isReplay
    ? add(projected, embedded(p.value_embedding_scale, projected, streams.value_embedding))
    : projected;
  if (!p.value_mix) return { v: own, streams: {} };
  const { first_values: first } = streams;
  if (!first) return { v: own, streams: { first_values: own } };
  if (first.shape.join() !== own.shape.join()) {
    throw new ShapeError(
      `value_residual: values [${own.shape}] cannot be mixed with the first layer's [${first.shape}] at ${currentPath()}`,
    );
  }
  const labels = ["of first values", "of own"], mix = p.value_mix;
  reveal("value mix", { kind: "factor", over: "part", labels }, () => mix);
  return {
    v: add(mul(element(p.value_mix, 0), first), mul(element(p.value_mix, 1), own)),
    streams: {},
  };
}

function embedded(scale: Tensor, like: Tensor, stream: Tensor | undefined): Tensor {
  const width = like.shape[2] * like.shape[3], given = stream?.shape[2];
  if (stream && given === width) return mul(reshape(stream, like.shape), scale);
  const found = stream ? `the input's has ${given}` : "the input has none";
  throw new ShapeError(
    `value_embedding: ${width} channels are wanted, ${found}; give input.value_embedding.channels at ${currentPath()}`,
  );
}

/**
 * y − (y · n) n for each query head of y [batch, time, heads, width], n being the value of its token and key head,
 * v [batch, time, kv_heads, width], brought to length 1 (or shorter, from 1e-12 on).
 */
export function withoutOwnValue(y: Tensor, v: Tensor): Tensor {
  const [batch, time, heads, width] = y.shape, shared = v.shape[2];
  return scope("exclusive", () => {
    const seen = reshape(y, [batch, time, shared, heads / shared, width]);
    const own = reshape(v, [batch, time, shared, 1, width]);
    const length = maximum(sumLast(square(own)), 1e-24);
    return reshape(sub(seen, mul(div(sumLast(mul(seen, own)), length), own)), y.shape);
  });
}
