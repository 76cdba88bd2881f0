/**
 * A decoder as data. Two forms: `blocks`, whose tree has the shape of the model, and a flat one
 * with the field names of Hugging Face's Llama, which stands for one common tree.
 */

import { z } from "zod";
import {
  headConfig,
  inputConfig,
  mixerConfig,
  mlpConfig,
  normConfig,
  residualConfig,
} from "../nn/mod.ts";

const size = z.int().positive();

const shared = {
  hidden_size: size,
  /** Left out: the tokenizer's. */
  vocab_size: size.optional(),
  /**
   * Positions that the model has, and the longest text it generates from. Left out: the training
   * rows' length.
   */
  max_position_embeddings: size.optional(),
  /** Standard deviation of first weights; output projections get it divided by √(2 · layers). */
  initializer_range: z.number().positive().default(0.02),
  /**
   * Rebuild each layer's values in the backward pass instead of keeping them: less memory, a third
   * more work.
   */
  remat: z.boolean().default(false),
};

const llamaConfig = z.strictObject({
  ...shared,
  num_hidden_layers: size,
  num_attention_heads: size,
  /** Left out: each query head has its own. */
  num_key_value_heads: size.optional(),
  /** Left out: hidden_size / num_attention_heads. */
  head_dim: size.optional(),
  intermediate_size: size,
  rope_theta: z.number().positive().default(10000),
  partial_rotary_factor: z.number().min(0).max(1).default(1),
  rms_norm_eps: z.number().positive().default(1e-6),
  qk_norm: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
});

const blockConfig = z.strictObject({
  /** So many layers alike, each with its own weights. */
  repeat: size.default(1),
  mixer: mixerConfig,
  mlp: mlpConfig,
  residual: residualConfig.default({
    kind: "pre_norm",
    norm: { kind: "rms_norm", eps: 1e-6 },
  }),
});

const index = z.int().nonnegative();

const passConfig = z.strictObject({
  layer: index,
  /** A scale and a shift a channel of this pass alone stand before it. */
  modulated: z.boolean().default(false),
});

const blocksConfig = z.strictObject({
  ...shared,
  input: inputConfig.default({ kind: "token" }),
  blocks: z.array(blockConfig).min(1),
  /**
   * Which layers a token passes, by number from 0; a number that comes twice is a replayed layer.
   * Left out: each once.
   */
  order: z.array(z.union([index, passConfig])).min(1).optional(),
  /** Before pass `to` (its place in the order, from 0) the output of pass `from` is added, times a factor a channel. */
  skips: z.array(z.strictObject({ from: index, to: index })).default([]),
  norm: normConfig.default({ kind: "rms_norm", eps: 1e-6 }),
  head: headConfig.default({ kind: "linear", tie_word_embeddings: true, softcap: 0 }),
});

/** Either form, before its sizes are held against each other: see `modelConfig`. */
export const modelForms = z.union([llamaConfig, blocksConfig]);
export type ModelConfig = z.output<typeof modelForms>;
export type BlocksConfig = z.output<typeof blocksConfig>;

/** Sizes that come from elsewhere when a config leaves them out. */
export interface OuterSizes {
  readonly vocab_size: number;
  readonly max_position_embeddings: number;
}

export type CompleteModelConfig = ModelConfig & OuterSizes;

/** The config with the sizes that it left out. What it says itself stands. */
export function completeModel(config: ModelConfig, outer: OuterSizes): CompleteModelConfig {
  return {
    ...config,
    vocab_size: config.vocab_size ?? outer.vocab_size,
    max_position_embeddings: config.max_position_embeddings ?? outer.max_position_embeddings,
  };
}

/** The tree that a config stands for. */
export function blocksOf(config: ModelConfig): BlocksConfig {
  if ("blocks" in config) return config;
  const norm = { kind: "rms_norm", eps: config.rms_norm_eps } as const;
  const mixer = {
    kind: "attention",
    num_attention_heads: config.num_attention_heads,
    num_key_value_heads: config.num_key_value_heads,
    head_dim: config.head_dim,
    rope_theta: config.rope_theta,
    partial_rotary_factor: config.partial_rotary_factor,
    qk_norm: config.qk_norm,
    qk_norm_eps: config.rms_norm_eps,
    window: 0,
    softcap: 0,
    attention_bias: false,
  } as const;
  return {
    hidden_size: config.hidden_size,
    vocab_size: config.vocab_size,
    max_position_embeddings: config.max_position_embeddings,
    initializer_range: config.initializer_range,
    remat: config.remat,
    input: { kind: "token" },
    blocks: [{
      repeat: config.num_hidden_layers,
      mixer,
      mlp: { kind: "swiglu", intermediate_size: config.intermediate_size },
      residual: { kind: "pre_norm", norm },
    }],
    skips: [],
    norm,
    head: { kind: "linear", tie_word_embeddings: config.tie_word_embeddings, softcap: 0 },
  };
}
