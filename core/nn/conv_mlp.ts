/** An mlp that sees a few tokens: a causal convolution of each channel alone stands before it. */

import { z } from "zod";
import { add, causalConv, gelu, linear, slice } from "../../kernels/mod.ts";
import { scope, type Spec, type Tensor } from "../graph/mod.ts";
import { bias, identityTaps, matrix, outputMatrix } from "./params.ts";
import { definePart, type Dims, type ParamDescription } from "./part.ts";
import { tailState, withTail } from "./state.ts";

const config = z.strictObject({
  kind: z.literal("depthwise_conv"),
  intermediate_size: z.int().positive(),
  /** Tokens that the convolution sees, the current one included. */
  conv_kernel_dim: z.int().min(2).default(3),
  /** Adds a bias to what is convolved. */
  conv_bias: z.boolean().default(false),
});

interface Params<T> {
  readonly conv: T;
  readonly conv_bias?: T | undefined;
  readonly up: T;
  readonly down: T;
}

/** down(gelu(up c)) of what is convolved. */
function finish(p: Params<Tensor>, convolved: Tensor): Tensor {
  const shifted = p.conv_bias ? add(convolved, p.conv_bias) : convolved;
  const up = scope("up", () => gelu(linear(shifted, p.up)));
  return scope("down", () => linear(up, p.down));
}

/** down(gelu(up c)), c being x convolved over time, a channel at a time, within a token's segment. */
export const convMlp = definePart({
  config,
  params: (
    c,
    dims: Dims,
  ): Params<ParamDescription> & Record<string, ParamDescription> => ({
    conv: identityTaps(c.conv_kernel_dim, dims.hidden_size, dims),
    ...(c.conv_bias ? { conv_bias: bias(dims.hidden_size) } : {}),
    up: matrix(c.intermediate_size, dims.hidden_size, dims),
    down: outputMatrix(dims.hidden_size, c.intermediate_size, dims),
  }),
  apply: (p, x, { segment_ids }) => ({
    out: finish(p, scope("conv", () => causalConv(x, p.conv, segment_ids))),
  }),
  state: (c, { hidden_size }, { batch }): { conv: Spec } => ({
    conv: tailState(c.conv_kernel_dim - 1, hidden_size, batch),
  }),
  step(p, x, ctx, state) {
    const { joined, tail } = withTail(state.conv, x, ctx);
    const rows = ctx.config.conv_kernel_dim - 1;
    const convolved = slice(
      scope("conv", () => causalConv(joined, p.conv)),
      1,
      rows,
      x.shape[1],
    );
    return { out: finish(p, convolved), state: { conv: tail } };
  },
});
