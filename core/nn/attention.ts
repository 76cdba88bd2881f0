/**
 * The attention mixer: grouped query heads, rotary positions, optional QK-norm, window and softcap.
 */

import { z } from "zod";
import {
  add,
  attention as attend,
  cachedAttention,
  cacheWrite,
  linear,
  reshape,
  rmsNorm,
  rope,
  ropeTables,
} from "../../kernels/mod.ts";
import { currentPath, scope, ShapeError, type Spec, type Tensor } from "../graph/mod.ts";
import { bias, gain, matrix, outputMatrix } from "./params.ts";
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
  /** RMSNorm with a gain on queries and keys, before they turn. */
  qk_norm: z.boolean().default(false),
  qk_norm_eps: z.number().positive().default(1e-6),
  /** Tokens that a query sees, itself included; 0 is no limit. */
  window: z.int().nonnegative().default(0),
  /** Scores become cap · tanh(score / cap); 0 leaves them. */
  softcap: z.number().nonnegative().default(0),
  /** Biases on the projections of queries, keys and values. */
  attention_bias: z.boolean().default(false),
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

/** Queries, keys and values of new tokens, normed and turned: [batch, time, heads, width]. */
function project(
  p: Projections<Tensor>,
  x: Tensor,
  { config: c, dims, positions }: { config: Config; dims: Dims; positions: Tensor },
): [Tensor, Tensor, Tensor] {
  const { heads, shared, width, rotary } = headsOf(c, dims);
  const [batch, time] = x.shape;
  const projected = (name: "q" | "k" | "v", count: number) =>
    scope(name, () => {
      const flat = linear(x, p[name]), shift = p[`${name}_bias`];
      return reshape(shift ? add(flat, shift) : flat, [batch, time, count, width]);
    });
  const placed = (y: Tensor, norm: Tensor | undefined) => {
    const normed = norm ? rmsNorm(y, norm, { eps: c.qk_norm_eps }) : y;
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
  return [placed(q, p.q_norm), placed(k, p.k_norm), v];
}

/** The heads' results joined and projected back. */
function join(p: Projections<Tensor>, y: Tensor): Tensor {
  const [batch, time, heads, width] = y.shape;
  return scope("o", () => linear(reshape(y, [batch, time, heads * width]), p.o));
}

export const attention = definePart({
  config,
  params(c, dims): Projections<ParamDescription> & Record<string, ParamDescription> {
    const { heads, shared, width } = headsOf(c, dims), { hidden_size } = dims;
    return {
      q: matrix(heads * width, hidden_size, dims),
      k: matrix(shared * width, hidden_size, dims),
      v: matrix(shared * width, hidden_size, dims),
      o: outputMatrix(hidden_size, heads * width, dims),
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
    const [q, k, v] = project(p, x, ctx), { window, softcap } = ctx.config;
    return { out: join(p, attend(q, k, v, ctx.segment_ids, { window, softcap })) };
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
    const [q, k, v] = project(p, x, ctx), { window, softcap } = ctx.config;
    const keys = cacheWrite(state.keys, k, ctx.start),
      values = cacheWrite(state.values, v, ctx.start);
    const seen = cachedAttention(q, keys, values, ctx.start, { window, softcap });
    return { out: join(p, seen), state: { keys, values } };
  },
});

export const mixers = { attention };
export const mixerConfig = z.discriminatedUnion("kind", [attention.config]);
