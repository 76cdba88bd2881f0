/**
 * The attention mixer: grouped query heads, rotary positions, optional QK-norm, window, softcap, output gates; values
 * that are mixed or embedded.
 */

import { z } from "zod";
import {
  add,
  attention as attend,
  cachedAttention,
  cacheWrite,
  linear,
  mul,
  reshape,
  rmsNorm,
  sigmoid,
} from "../../kernels/mod.ts";
import { currentPath, reveal, scope, ShapeError, type Spec, type Tensor } from "../graph/mod.ts";
import { dropoutNoise, dropoutOption, dropped } from "./dropout.ts";
import { fanBefore, fanConfig, type FanParams, throughFan } from "./fan.ts";
import {
  bias,
  constantBias,
  constantMatrix,
  gain as plainGain,
  matrix,
  outputMatrix,
  zeroCentredGain,
} from "./params.ts";
import { definePart, type Dims, type ParamDescription, type RunContext } from "./part.ts";
import { rotaryOptions, rowPositions, turned } from "./rotary.ts";
import { placesFor } from "./state.ts";
import {
  mixedValues,
  valueOptions,
  type ValueParams,
  valueParams,
  withoutOwnValue,
} from "./values.ts";

const config = z.strictObject({
  kind: z.literal("attention"),
  num_attention_heads: z.int().positive(),
  /** Query heads share key heads in groups; left out, each has its own. */
  num_key_value_heads: z.int().positive().optional(),
  /** Left out: hidden_size / num_attention_heads. */
  head_dim: z.int().positive().optional(),
  ...rotaryOptions,
  /** RMSNorm with a gain on queries and keys, before they turn. */
  qk_norm: z.boolean().default(false),
  qk_norm_eps: z.number().positive().default(1e-6),
  /** The gain of that norm is 1 + the weight, which starts at 0. */
  qk_norm_zero_centered: z.boolean().default(false),
  /** `false`: it has no gain. */
  qk_norm_weight: z.boolean().default(true),
  /** Queries that have turned are multiplied by a factor a head that is learned; it begins at this. */
  query_gain: z.number().optional(),
  ...valueOptions,
  /** Tokens that a query sees, itself included; 0 is no limit. */
  window: z.int().nonnegative().default(0),
  /** Scores become cap · tanh(score / cap); 0 leaves them. */
  softcap: z.number().nonnegative().default(0),
  /**
   * `channel`: what is seen is multiplied by the sigmoid of one more projection as wide as the queries. `head`: by that of
   * one number a head, with a bias; it begins at sigmoid(4), nearly open (Qiu et al. 2025, arXiv 2505.06708).
   */
  output_gate: z.enum(["none", "channel", "head"]).default("none"),
  /** Biases on the projections of queries, keys and values. */
  attention_bias: z.boolean().default(false),
  /** Makes of x what the projections read. */
  fan: fanConfig.optional(),
  /** Of what the mixer gives; the weights of tokens are not dropped. */
  ...dropoutOption,
}).check((ctx) => {
  const { num_attention_heads: heads, num_key_value_heads: shared = heads } = ctx.value;
  const fault = (field: keyof typeof ctx.value, message: string) =>
    ctx.issues.push({ code: "custom", input: ctx.value, path: [field], message });
  if (heads % shared !== 0) {
    fault("num_key_value_heads", `${heads} query heads cannot share ${shared} key heads evenly`);
  }
  if (ctx.value.qk_norm_zero_centered && !ctx.value.qk_norm_weight) {
    fault(
      "qk_norm_zero_centered",
      "there is no weight that could be centred: qk_norm_weight is false",
    );
  }
});

type Config = z.output<typeof config>;

interface Heads {
  readonly heads: number;
  readonly shared: number;
  readonly width: number;
  /** Channels that turn: even. */
  readonly rotary: number;
}

function headsOf(c: Config, { hidden_size }: Dims): Heads {
  const heads = c.num_attention_heads, width = c.head_dim ?? hidden_size / heads;
  const at = () => currentPath() && ` at ${currentPath()}`;
  if (!Number.isInteger(width)) {
    throw new ShapeError(
      `${heads} heads do not divide hidden_size ${hidden_size}; give head_dim${at()}`,
    );
  }
  const shared = c.num_key_value_heads ?? heads;
  if (heads % shared !== 0) {
    throw new ShapeError(`${heads} query heads cannot share ${shared} key heads evenly${at()}`);
  }
  return {
    heads,
    shared,
    width,
    rotary: 2 * Math.floor(width * c.partial_rotary_factor / 2),
  };
}

interface Projections<T> extends ValueParams<T> {
  readonly q: T;
  readonly k: T;
  readonly v: T;
  readonly o: T;
  readonly q_bias?: T | undefined;
  readonly k_bias?: T | undefined;
  readonly v_bias?: T | undefined;
  readonly q_norm?: T | undefined;
  readonly k_norm?: T | undefined;
  readonly query_gain?: T | undefined;
  readonly gate?: T | undefined;
  readonly gate_bias?: T | undefined;
  readonly fan?: FanParams<T> | undefined;
}

/** What attention reads of new tokens, and what its result is multiplied by. */
interface Projected {
  /** Normed and turned, as the keys are: all [batch, time, heads, width]. */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** [batch, time, heads, width or 1] */
  readonly gate: Tensor | undefined;
  /** For later layers. */
  readonly streams: Readonly<Record<string, Tensor>>;
}

function project(
  p: Projections<Tensor>,
  input: Tensor,
  ctx: Pick<RunContext, "streams" | "isReplay"> & {
    config: Config;
    dims: Dims;
    positions: Tensor;
  },
): Projected {
  const { config: c, dims, positions } = ctx;
  const x = throughFan(p.fan, input, c.fan, dims);
  const { heads, shared, width, rotary } = headsOf(c, dims);
  const [batch, time] = x.shape;
  const projected = (name: "q" | "k" | "v", count: number) =>
    scope(name, () => {
      const flat = linear(x, p[name]), shift = p[`${name}_bias`];
      return reshape(shift ? add(flat, shift) : flat, [batch, time, count, width]);
    });
  const placed = (y: Tensor, norm: Tensor | undefined) => {
    const gain = norm && c.qk_norm_zero_centered ? add(norm, 1) : norm;
    const normed = c.qk_norm ? rmsNorm(y, gain, { eps: c.qk_norm_eps }) : y;
    return turned(normed, positions, rotary, c, dims);
  };
  // The three products first: they depend on nothing of each other, so a device need not wait
  // between them.
  const q = projected("q", heads), k = projected("k", shared), v = projected("v", shared);
  const opened = p.gate && openedGate(p.gate, p.gate_bias, x, heads);
  const turnedQ = placed(q, p.q_norm), { query_gain } = p;
  return {
    q: query_gain ? mul(turnedQ, reshape(query_gain, [heads, 1])) : turnedQ,
    k: placed(k, p.k_norm),
    gate: opened,
    ...mixedValues(p, v, ctx),
  };
}

/** → [batch, time, heads, width or 1] */
function openedGate(gate: Tensor, bias: Tensor | undefined, x: Tensor, heads: number): Tensor {
  const [batch, time] = x.shape;
  return scope("gate", () => {
    const product = linear(x, gate), open = sigmoid(bias ? add(product, bias) : product);
    reveal("output", { kind: "gate", over: "tokens" }, () => open);
    return reshape(open, [batch, time, heads, -1]);
  });
}

/** What the heads saw, less what is their own, gated, joined and projected back. */
function join(
  p: Projections<Tensor>,
  seen: Tensor,
  { v, gate }: Projected,
  { config: { exclusive, dropout }, noise }: { config: Config; noise: Tensor | undefined },
): Tensor {
  const [batch, time, heads, width] = seen.shape;
  const y = exclusive ? withoutOwnValue(seen, v) : seen;
  const joined = reshape(gate ? mul(y, gate) : y, [batch, time, heads * width]);
  return dropped(scope("o", () => linear(joined, p.o)), dropout, noise);
}

export const attention = definePart({
  config,
  noise: dropoutNoise,
  params(
    c,
    dims,
  ):
    & Projections<ParamDescription>
    & Record<string, ParamDescription | Record<string, ParamDescription>> {
    const { heads, shared, width } = headsOf(c, dims), read = fanBefore(c.fan, dims);
    const gain = c.qk_norm_zero_centered ? zeroCentredGain : plainGain;
    return {
      ...read.params,
      q: matrix(heads * width, read.width, dims),
      k: matrix(shared * width, read.width, dims),
      v: matrix(shared * width, read.width, dims),
      o: outputMatrix(dims.hidden_size, heads * width, dims),
      ...valueParams(c),
      ...(c.query_gain === undefined
        ? {}
        : { query_gain: { ...plainGain(heads), init: { kind: "constant", value: c.query_gain } } }),
      ...(c.output_gate === "channel" ? { gate: matrix(heads * width, read.width, dims) } : {}),
      ...(c.output_gate === "head"
        ? { gate: constantMatrix(heads, read.width, 0), gate_bias: constantBias(heads, 4) }
        : {}),
      ...(c.attention_bias
        ? {
          q_bias: bias(heads * width),
          k_bias: bias(shared * width),
          v_bias: bias(shared * width),
        }
        : {}),
      ...(c.qk_norm && c.qk_norm_weight ? { q_norm: gain(width), k_norm: gain(width) } : {}),
    };
  },
  apply(p, x, ctx) {
    const positions = ctx.config.positions === "row" ? rowPositions(x) : ctx.positions;
    const projected = project(p, x, { ...ctx, positions }), { q, k, v, streams } = projected;
    const { window, softcap } = ctx.config;
    const seen = attend(q, k, v, ctx.segment_ids, { window, softcap });
    return { out: join(p, seen, projected, ctx), streams };
  },
  /** Keys and values of all positions so far. */
  state(c, dims, room): { keys: Spec; values: Spec } {
    const { shared, width } = headsOf(c, dims);
    const cache = placesFor(room, [shared, width]);
    return { keys: cache, values: cache };
  },
  step(p, x, ctx, state) {
    const projected = project(p, x, ctx), { q, k, v, streams } = projected;
    const { window, softcap } = ctx.config;
    const keys = cacheWrite(state.keys, k, ctx.start),
      values = cacheWrite(state.values, v, ctx.start);
    const seen = cachedAttention(q, keys, values, ctx.start, { window, softcap });
    return { out: join(p, seen, projected, ctx), state: { keys, values }, streams };
  },
});
