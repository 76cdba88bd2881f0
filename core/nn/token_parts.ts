/** What an input may add to the embedding of a token: that of the pair with the token before it, and that token itself. */

import { z } from "zod";
import {
  bigramBuckets,
  bigramStep,
  causalConv,
  concat,
  embedding,
  linear,
  mul,
  reshape,
  sigmoid,
  slice,
  sub,
} from "../../kernels/mod.ts";
import { reveal, scope, type Spec, type Tensor } from "../graph/mod.ts";
import { gain, matrix } from "./params.ts";
import type { Dims, ParamDescription, StepContext } from "./part.ts";
import { tailState, withTail } from "./state.ts";

/** A table whose rows are projected and scaled. */
interface Projected<T> {
  readonly embedding: T;
  readonly projection: T;
  /** [] */
  readonly scale: T;
}
type ProjectedParams = Projected<ParamDescription> & Record<string, ParamDescription>;

const scalar = (value: number): ParamDescription => ({
  shape: [],
  dtype: "f32",
  role: "gain",
  init: { kind: "constant", value },
});

const rowsOf = ({ embedding: table, projection, scale }: Projected<Tensor>, ids: Tensor) =>
  mul(linear(embedding(table, ids), projection), scale);

export const bigramConfig = z.strictObject({
  /** Rows of the table; the last is for tokens that none comes before. */
  buckets: z.int().min(2),
  /** Channels of the table. */
  size: z.int().positive(),
  /** The factor of what comes out, at first: it is learned. The table begins at 0. */
  scale: z.number().default(0.05),
});
export type BigramConfig = z.output<typeof bigramConfig>;

export function bigramParams({ buckets, size, scale }: BigramConfig, dims: Dims): ProjectedParams {
  return {
    embedding: {
      shape: [buckets, size],
      dtype: "f32",
      role: "embedding",
      init: { kind: "constant", value: 0 },
    },
    projection: matrix(dims.hidden_size, size, dims),
    scale: scalar(scale),
  };
}

/** Of whole rows; a token that begins a segment has none before it. */
export function bigram(
  p: Projected<Tensor>,
  { ids, segment_ids }: { readonly ids: Tensor; readonly segment_ids: Tensor | undefined },
): Tensor {
  const buckets = p.embedding.shape[0];
  return scope("bigram", () => rowsOf(p, bigramBuckets(ids, buckets, segment_ids)));
}

/** The last token's id. */
export const bigramState = (batch: number): Spec => ({ shape: [batch], dtype: "i32" });

/** Of new tokens, after the state's. */
export function bigramOfNew(
  p: Projected<Tensor>,
  ctx: StepContext,
  state: Tensor,
): { out: Tensor; state: Tensor } {
  return scope("bigram", () => {
    const { buckets, last } = bigramStep(ctx.ids, state, ctx, p.embedding.shape[0]);
    return { out: rowsOf(p, buckets), state: last };
  });
}

export const valueEmbeddingConfig = z.strictObject({
  /** Channels of the table. */
  size: z.int().positive(),
  /** Channels that come out: the layers' key heads times their width. */
  channels: z.int().positive(),
  /** The factor of what comes out, at first: it is learned. */
  scale: z.number().default(0.1),
  /** Standard deviation of the table's first values. */
  initializer_range: z.number().positive().default(0.01),
});
export type ValueEmbeddingConfig = z.output<typeof valueEmbeddingConfig>;

export function valueEmbeddingParams(
  { size, channels, scale, initializer_range: std }: ValueEmbeddingConfig,
  dims: Dims,
): ProjectedParams {
  return {
    embedding: {
      shape: [dims.vocab_size, size],
      dtype: "f32",
      role: "embedding",
      init: { kind: "normal", std },
    },
    projection: matrix(channels, size, dims),
    scale: scalar(scale),
  };
}

/** ids [batch, time] → [batch, time, channels], for the values of attention layers. */
export function valueEmbedding(p: Projected<Tensor>, ids: Tensor): Tensor {
  return scope("value_embedding", () => rowsOf(p, ids));
}

/** The smear gate's parameter; 0 takes half of each. */
export function smearGate({ hidden_size }: Dims): ParamDescription {
  return { ...gain(hidden_size), init: { kind: "constant", value: 0 } };
}

/** (1 − g) · x[t] + g · x[t − 1] with g = sigmoid(gate), a gate for each channel; before a segment is 0. */
export function smeared(gate: Tensor, x: Tensor, segment_ids: Tensor | undefined): Tensor {
  return scope("smear", () => {
    const g = reshape(sigmoid(gate), [1, gate.shape[0]]);
    reveal("previous token", { kind: "gate", over: "part" }, () => reshape(g, gate.shape));
    return causalConv(x, concat([g, sub(1, g)], 0), segment_ids);
  });
}

/** What comes before the next tokens. */
export const smearState = (batch: number, { hidden_size }: Dims): Spec =>
  tailState(1, hidden_size, batch);

export function smearedNew(
  gate: Tensor,
  x: Tensor,
  ctx: StepContext,
  state: Tensor,
): { out: Tensor; state: Tensor } {
  const { joined, tail } = withTail(state, x, ctx);
  return { out: slice(smeared(gate, joined, undefined), 1, 1, x.shape[1]), state: tail };
}
