/**
 * The attention mixer: grouped query heads, rotary positions, optional QK-norm, window and softcap.
 */

import { z } from "zod";
import {
  add,
  attention as attend,
  cachedAttention,
  cacheWrite,
  constant,
  linear,
  mul,
  reshape,
  rmsNorm,
  rope,
  ropeTables,
  sigmoid,
} from "../../kernels/mod.ts";
import { currentPath, scope, ShapeError, type Spec, type Tensor } from "../graph/mod.ts";
import { fanBefore, fanConfig, type FanParams, throughFan } from "./fan.ts";
import { bias, gain as plainGain, matrix, outputMatrix, zeroCentredGain } from "./params.ts";
import { definePart, type Dims, type ParamDescription } from "./part.ts";

const config = z.strictObject({
  kind: z.literal("attention"),
  num_attention_heads: z.int().positive(),
  /** Query heads share key heads in groups; left out, each has its own. */
  num_key_value_heads: z.int().positive().optional(),
  /** Left out: hidden_size / num_attention_heads. */
  head_dim: z.int().positive().optional(),
  rope_theta: z.number().positive().default(10000),
  /** The part of a head's channels that turns with the position; 0 turns none. */
  partial_rotary_factor: z.number().min(0).max(1).default(1),
  /** What angles are counted from: the start of a token's segment, or of the row that it is packed in. */
  positions: z.enum(["segment", "row"]).default("segment"),
  /** RMSNorm with a gain on queries and keys, before they turn. */
  qk_norm: z.boolean().default(false),
  qk_norm_eps: z.number().positive().default(1e-6),
  /** The gain of that norm is 1 + the weight, which starts at 0. */
  qk_norm_zero_centered: z.boolean().default(false),
  /** Tokens that a query sees, itself included; 0 is no limit. */
  window: z.int().nonnegative().default(0),
  /** Scores become cap · tanh(score / cap); 0 leaves them. */
  softcap: z.number().nonnegative().default(0),
  /** `channel`: what is seen is multiplied by the sigmoid of one more projection as wide as the queries. */
  output_gate: z.enum(["none", "channel"]).default("none"),
  /** Biases on the projections of queries, keys and values. */
  attention_bias: z.boolean().default(false),
  /** Makes of x what the projections read. */
  fan: fanConfig.optional(),
}).check((ctx) => {
  const { num_attention_heads: heads, num_key_value_heads: shared = heads } = ctx.value;
  if (heads % shared === 0) return;
  ctx.issues.push({
    code: "custom",
    input: ctx.value,
    path: ["num_key_value_heads"],
    message: `${heads} query heads cannot share ${shared} key heads evenly`,
  });
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

interface Projections<T> {
  readonly q: T;
  readonly k: T;
  readonly v: T;
  readonly o: T;
  readonly q_bias?: T | undefined;
  readonly k_bias?: T | undefined;
  readonly v_bias?: T | undefined;
  readonly q_norm?: T | undefined;
  readonly k_norm?: T | undefined;
  readonly gate?: T | undefined;
  readonly fan?: FanParams<T> | undefined;
}

/** What attention reads of new tokens, and what its result is multiplied by. */
interface Projected {
  /** Normed and turned, as the keys are: all [batch, time, heads, width]. */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly gate: Tensor | undefined;
}

/** Angles depend on these three numbers alone; all layers and steps of a model share the tables. */
const tables = new Map<string, [Tensor, Tensor]>();

function rotaryTables(positions: number, rotary: number, theta: number): [Tensor, Tensor] {
  const key = `${positions}:${rotary}:${theta}`, known = tables.get(key);
  if (known) return known;
  const made = ropeTables(positions, rotary, theta);
  tables.set(key, made);
  return made;
}

function project(
  p: Projections<Tensor>,
  input: Tensor,
  { config: c, dims, positions }: { config: Config; dims: Dims; positions: Tensor },
): Projected {
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
    const normed = gain ? rmsNorm(y, gain, { eps: c.qk_norm_eps }) : y;
    if (rotary === 0) return normed;
    return rope(
      normed,
      positions,
      rotaryTables(dims.max_position_embeddings, rotary, c.rope_theta),
    );
  };
  // The three products first: they depend on nothing of each other, so a device need not wait
  // between them.
  const q = projected("q", heads), k = projected("k", shared), v = projected("v", shared);
  const { gate } = p, opened = gate && scope("gate", () => sigmoid(linear(x, gate)));
  return { q: placed(q, p.q_norm), k: placed(k, p.k_norm), v, gate: opened };
}

/** i32 [batch, time]: 0, 1, … in each row. */
function rowPositions({ shape: [batch, time] }: Tensor): Tensor {
  const values = Int32Array.from({ length: batch * time }, (_, i) => i % time);
  return constant(`row positions ${batch} ${time}`, [batch, time], values);
}

/** The heads' results joined, gated and projected back. */
function join(p: Projections<Tensor>, y: Tensor, gate: Tensor | undefined): Tensor {
  const [batch, time, heads, width] = y.shape;
  const joined = reshape(y, [batch, time, heads * width]);
  return scope("o", () => linear(gate ? mul(joined, gate) : joined, p.o));
}

export const attention = definePart({
  config,
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
      ...(c.output_gate === "channel" ? { gate: matrix(heads * width, read.width, dims) } : {}),
      ...(c.attention_bias
        ? {
          q_bias: bias(heads * width),
          k_bias: bias(shared * width),
          v_bias: bias(shared * width),
        }
        : {}),
      ...(c.qk_norm ? { q_norm: gain(width), k_norm: gain(width) } : {}),
    };
  },
  apply(p, x, ctx) {
    const positions = ctx.config.positions === "row" ? rowPositions(x) : ctx.positions;
    const { q, k, v, gate } = project(p, x, { ...ctx, positions }),
      { window, softcap } = ctx.config;
    return { out: join(p, attend(q, k, v, ctx.segment_ids, { window, softcap }), gate) };
  },
  /**
   * Keys and values of all positions so far. Rows beyond a row's length are stale, unseen, and
   * overwritten in time.
   */
  state(c, dims, { batch, capacity }): { keys: Spec; values: Spec } {
    const { shared, width } = headsOf(c, dims);
    const cache: Spec = { shape: [batch, capacity, shared, width], dtype: "f32" };
    return { keys: cache, values: cache };
  },
  step(p, x, ctx, state) {
    const { q, k, v, gate } = project(p, x, ctx), { window, softcap } = ctx.config;
    const keys = cacheWrite(state.keys, k, ctx.start),
      values = cacheWrite(state.values, v, ctx.start);
    const seen = cachedAttention(q, keys, values, ctx.start, { window, softcap });
    return { out: join(p, seen, gate), state: { keys, values } };
  },
});
