/** Inputs: from token ids to the residual stream. */

import { z } from "zod";
import { add, embedding } from "../../kernels/mod.ts";
import { scope, type Spec, type Tensor } from "../graph/mod.ts";
import { normConfig, norms } from "./norms.ts";
import { table } from "./params.ts";
import {
  bindFrom,
  type BoundPositionwise,
  definePart,
  type Dims,
  type ParamDescription,
  type TensorTree,
} from "./part.ts";
import {
  bigram,
  bigramConfig,
  bigramOfNew,
  bigramParams,
  bigramState,
  smeared,
  smearedNew,
  smearGate,
  smearState,
  valueEmbedding,
  valueEmbeddingConfig,
  valueEmbeddingParams,
} from "./token_parts.ts";

const config = z.strictObject({
  kind: z.literal("token"),
  /** Adds an embedding of each token's pair with the one before it, which many pairs share by a hash. */
  bigram: bigramConfig.optional(),
  /** Of the sum. */
  norm: normConfig.optional(),
  /** Mixes each token's channels with those of the one before it, by a gate a channel. */
  smear: z.boolean().default(false),
  /** One more table, whose rows layers with `value_embedding` add to their values. */
  value_embedding: valueEmbeddingConfig.optional(),
});
type Config = z.output<typeof config>;

const normOf = ({ norm }: Config, dims: Dims): BoundPositionwise | undefined =>
  norm && bindFrom(norms, norm, dims);

function normed(c: Config, dims: Dims, p: TensorTree | undefined, x: Tensor): Tensor {
  const norm = normOf(c, dims);
  return norm ? scope("norm", () => norm.at(p!, x)) : x;
}

/**
 * A row of a table for each token: ids i32 [batch, time] → [batch, time, channels], and what the config has on top.
 * What comes before a token is of its own segment, so where rows are one segment it may be of another document.
 */
export const tokenInput = definePart({
  config,
  params: (c, dims) => ({
    embedding: table(dims.vocab_size, dims.hidden_size, dims),
    ...(c.bigram ? { bigram: bigramParams(c.bigram, dims) } : {}),
    ...(c.norm ? { norm: normOf(c, dims)!.params as Record<string, ParamDescription> } : {}),
    ...(c.smear ? { smear: smearGate(dims) } : {}),
    ...(c.value_embedding
      ? { value_embedding: valueEmbeddingParams(c.value_embedding, dims) }
      : {}),
  }),
  apply(p, ids, ctx) {
    const rows = embedding(p.embedding, ids);
    const sum = p.bigram ? add(rows, bigram(p.bigram, ctx)) : rows;
    const x = normed(ctx.config, ctx.dims, p.norm, sum);
    return {
      out: p.smear ? smeared(p.smear, x, ctx.segment_ids) : x,
      streams: streamsOf(p, ids),
    };
  },
  state: (c, dims, { batch }): { bigram?: Spec; smear?: Spec } => ({
    ...(c.bigram ? { bigram: bigramState(batch) } : {}),
    ...(c.smear ? { smear: smearState(batch, dims) } : {}),
  }),
  step(p, ids, ctx, state) {
    const rows = embedding(p.embedding, ids);
    const pairs = p.bigram && bigramOfNew(p.bigram, ctx, state.bigram!);
    const x = normed(ctx.config, ctx.dims, p.norm, pairs ? add(rows, pairs.out) : rows);
    const mixed = p.smear && smearedNew(p.smear, x, ctx, state.smear!);
    return {
      out: mixed ? mixed.out : x,
      state: {
        ...(pairs ? { bigram: pairs.state } : {}),
        ...(mixed ? { smear: mixed.state } : {}),
      },
      streams: streamsOf(p, ids),
    };
  },
});

function streamsOf(
  p: { readonly value_embedding?: Parameters<typeof valueEmbedding>[0] | undefined },
  ids: Tensor,
): Readonly<Record<string, Tensor>> {
  return p.value_embedding ? { value_embedding: valueEmbedding(p.value_embedding, ids) } : {};
}

export const inputs = { token: tokenInput };
export const inputConfig = z.discriminatedUnion("kind", [tokenInput.config]);
