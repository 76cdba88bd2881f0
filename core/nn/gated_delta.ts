/**
 * Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464), as Qwen3-Next has it: a mixer whose state does not grow with the
 * text. Queries, keys and values go through a short convolution; a matrix for each value head forgets and is corrected;
 * what it answers is normed and gated.
 */

import { z } from "zod";
import {
  add,
  causalConv,
  exp,
  fill,
  inPrecision,
  linear,
  meanLast,
  mul,
  neg,
  reshape,
  rsqrt,
  sigmoid,
  silu,
  slice,
  softplus,
  square,
  sumLast,
  toFloat,
} from "../../kernels/mod.ts";
import { remat, reveal, scope, type Spec, type Tensor } from "../graph/mod.ts";
import { type DeltaInputs, gatedDelta } from "./delta_rule.ts";
import { dropoutNoise, dropoutOption, dropped } from "./dropout.ts";
import { fanBefore, fanConfig, type FanParams, throughFan } from "./fan.ts";
import { gain, matrix, outputMatrix, taps } from "./params.ts";
import { definePart, type Dims, type ParamDescription } from "./part.ts";
import { fromStart, ownTokens, tailState, withTail } from "./state.ts";

const config = z.strictObject({
  kind: z.literal("gated_delta"),
  num_key_heads: z.int().positive(),
  /** Each key head serves as many value heads next to each other. Left out: one. */
  num_value_heads: z.int().positive().optional(),
  key_head_dim: z.int().positive(),
  value_head_dim: z.int().positive(),
  /** Tokens that the convolution sees, the current one included. */
  conv_kernel_dim: z.int().min(2).default(4),
  /** Of the norm of what the state answers. */
  norm_eps: z.number().positive().default(1e-6),
  /** Makes of x what the projections read. */
  fan: fanConfig.optional(),
  /** Of what the mixer gives. */
  ...dropoutOption,
}).check((ctx) => {
  const { num_key_heads: keys, num_value_heads: values = keys } = ctx.value;
  if (values % keys === 0) return;
  ctx.issues.push({
    code: "custom",
    input: ctx.value,
    path: ["num_value_heads"],
    message: `${keys} key heads cannot serve ${values} value heads evenly`,
  });
});

type Config = z.output<typeof config>;

function sizesOf(c: Config) {
  const { num_key_heads: keyHeads, num_value_heads: valueHeads = keyHeads } = c;
  const keys = keyHeads * c.key_head_dim, values = valueHeads * c.value_head_dim;
  return { keyHeads, valueHeads, dk: c.key_head_dim, dv: c.value_head_dim, keys, values };
}

// Rows lie as the convolution's channels do: the queries of all heads, then the keys, then the values. (Qwen3-Next's
// files have the rows of each key head together; theirs are these in another order.)
interface Projections<T> {
  readonly qkv: T;
  /** The gates of the answers. */
  readonly z: T;
  /** How much is corrected and, below, how much forgotten, for each value head. */
  readonly ba: T;
  readonly conv: T;
  readonly A_log: T;
  readonly dt_bias: T;
  readonly norm: T;
  readonly o: T;
  readonly fan?: FanParams<T> | undefined;
}

/** What the new tokens say: queries, keys and values not yet convolved, and the gates. */
interface Projected {
  readonly qkv: Tensor;
  readonly z: Tensor;
  readonly g: Tensor;
  readonly beta: Tensor;
}

function project(p: Projections<Tensor>, x: Tensor, c: Config, dims: Dims): Projected {
  const f = throughFan(p.fan, x, c.fan, dims);
  const projected = (name: "qkv" | "z" | "ba") => scope(name, () => linear(f, p[name]));
  const [qkv, z, ba] = [projected("qkv"), projected("z"), projected("ba")];
  const { valueHeads } = sizesOf(c),
    [b, a] = [0, valueHeads].map((at) => slice(ba, 2, at, valueHeads));
  const g = mul(neg(exp(p.A_log)), softplus(add(a, p.dt_bias))), beta = sigmoid(b);
  reveal("state", { kind: "decay", over: "tokens" }, () => exp(g));
  reveal("correction", { kind: "gate", over: "tokens" }, () => beta);
  return { qkv, z, g, beta };
}

/** Convolved queries, keys and values as the rule reads them. */
function heads(convolved: Tensor, c: Config): Pick<DeltaInputs, "q" | "k" | "v"> {
  const { keyHeads, valueHeads, dk, dv, keys, values } = sizesOf(c);
  const [batch, time] = convolved.shape, active = silu(convolved);
  const unit = (first: number, length: number) =>
    ofLength(length, reshape(slice(active, 2, first, keys), [batch, time, keyHeads, dk]));
  return {
    q: unit(0, 1 / Math.sqrt(dk)),
    k: unit(keys, 1),
    v: reshape(slice(active, 2, 2 * keys, values), [batch, time, valueHeads, dv]),
  };
}

/** x, the last axis brought to a length. */
export function ofLength(length: number, x: Tensor): Tensor {
  return remat(() => mul(x, mul(rsqrt(add(sumLast(square(x)), 1e-6)), length)))();
}

/** gain · x / √(mean x² + eps) · silu(z): the norm first, then the gate. */
export function gatedRmsNorm(x: Tensor, gain: Tensor, z: Tensor, eps: number): Tensor {
  return remat(() => mul(mul(mul(x, rsqrt(add(meanLast(square(x)), eps))), gain), silu(z)))();
}

/** The answers [batch, time, value heads, value width], normed, gated and projected back. */
function answer(
  p: Projections<Tensor>,
  out: Tensor,
  z: Tensor,
  { config: c, noise }: { config: Config; noise: Tensor | undefined },
): Tensor {
  const [batch, time, heads, width] = out.shape;
  const gated = gatedRmsNorm(out, p.norm, reshape(z, out.shape), c.norm_eps);
  const result = scope("o", () => linear(reshape(gated, [batch, time, heads * width]), p.o));
  return dropped(result, c.dropout, noise);
}

/**
 * The rule itself is f32 in all precisions: its state sums over the whole text. The backward pass computes it again: a
 * small part of a layer's work, but more than half of what the layer would keep.
 */
const rule = (inputs: DeltaInputs, before: Tensor) =>
  scope("rule", () => inPrecision("f32", () => remat(gatedDelta)(inputs, before)));

export const gatedDeltaMixer = definePart({
  config,
  noise: dropoutNoise,
  params(
    c,
    dims,
  ):
    & Projections<ParamDescription>
    & Record<string, ParamDescription | Record<string, ParamDescription>> {
    const { valueHeads, dv, keys, values } = sizesOf(c), { hidden_size } = dims;
    const { width, params } = fanBefore(c.fan, dims);
    return {
      ...params,
      qkv: matrix(2 * keys + values, width, dims),
      z: matrix(values, width, dims),
      ba: matrix(2 * valueHeads, width, dims),
      conv: taps(c.conv_kernel_dim, 2 * keys + values),
      A_log: { ...gain(valueHeads), init: { kind: "log_of_uniform", high: 16 } },
      dt_bias: { ...gain(valueHeads), role: "bias" },
      norm: gain(dv),
      o: outputMatrix(hidden_size, values, dims),
    };
  },
  /** Each segment begins with an empty convolution and an empty state, as it would alone. */
  apply(p, x, ctx) {
    const { config: c, dims, segment_ids } = ctx;
    const { valueHeads, dk, dv } = sizesOf(c), { qkv, z, g, beta } = project(p, x, c, dims);
    const convolved = scope("conv", () => causalConv(qkv, p.conv, segment_ids));
    const segments = segment_ids && toFloat(segment_ids);
    const empty = fill([x.shape[0], valueHeads, dk, dv], 0);
    const { out } = rule({ ...heads(convolved, c), g, beta, segments }, empty);
    return { out: answer(p, out, z, ctx) };
  },
  state(c, _, { batch }): { conv: Spec; delta: Spec } {
    const { valueHeads, dk, dv, keys, values } = sizesOf(c);
    return {
      conv: tailState(c.conv_kernel_dim - 1, 2 * keys + values, batch),
      delta: { shape: [batch, valueHeads, dk, dv], dtype: "f32" },
    };
  },
  step(p, x, ctx, state) {
    const { config: c, dims } = ctx, { qkv, z, g, beta } = project(p, x, c, dims);
    const { joined, tail } = withTail(state.conv, qkv, ctx);
    const convolved = slice(causalConv(joined, p.conv), 1, c.conv_kernel_dim - 1, x.shape[1]);
    const own = ownTokens(ctx);
    // where nothing is forgotten and nothing corrected the state stays
    const kept = (gate: Tensor) => own ? mul(gate, reshape(own, [...own.shape, 1])) : gate;
    const inputs = { ...heads(convolved, c), g: kept(g), beta: kept(beta) };
    const { out, state: delta } = rule(inputs, fromStart(state.delta, ctx));
    return { out: answer(p, out, z, ctx), state: { conv: tail, delta } };
  },
});
