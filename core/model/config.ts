/**
 * A decoder as data. Two forms: `blocks`, whose tree has the shape of the model, and a flat one
 * with the field names of Hugging Face's Llama, which stands for one common tree.
 */

import { z } from "zod";
import { ShapeError } from "../graph/mod.ts";
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
  /** Standard deviation of first weights. */
  initializer_range: z.number().positive().default(0.02),
  /** `orthogonal`: weights that read begin as orthogonal matrices; initializer_range is then for tables alone. */
  initializer: z.enum(["normal", "orthogonal"]).default("normal"),
  /**
   * That of projections that write to the residual stream. Left out: initializer_range / √(2 · layers), so that the
   * stream's variance does not grow with the number of layers, two writes each (Radford et al. 2019, section 2.3).
   */
  output_initializer_range: z.number().nonnegative().optional(),
  /**
   * Rebuild each layer's values in the backward pass instead of keeping them: less memory, a third
   * more work.
   */
  remat: z.boolean().default(false),
};

/** Each is described on its own: a number from a broken file is no reason to take all memory. */
const layers = size.max(4096);

const llamaConfig = z.strictObject({
  ...shared,
  num_hidden_layers: layers,
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
  repeat: layers.default(1),
  mixer: mixerConfig,
  mlp: mlpConfig,
  residual: residualConfig.prefault({ kind: "pre_norm" }),
});

const index = z.int().nonnegative();

const passConfig = z.strictObject({
  layer: index,
  /** A scale and a shift a channel of this pass alone stand before it. */
  modulated: z.boolean().default(false),
});

const blocksConfig = z.strictObject({
  ...shared,
  input: inputConfig.prefault({ kind: "token" }),
  blocks: z.array(blockConfig).min(1),
  /**
   * Which layers a token passes, by number from 0; a number that comes twice is a replayed layer.
   * Left out: each once.
   */
  order: z.array(z.union([index, passConfig])).min(1).optional(),
  /** Before pass `to` (its place in the order, from 0) the output of pass `from` is added, times a factor a channel. */
  skips: z.array(z.strictObject({ from: index, to: index })).default([]),
  norm: normConfig.prefault({ kind: "rms_norm" }),
  head: headConfig.prefault({ kind: "linear" }),
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

/** The tree that a config stands for. Sizes that do not fit each other are a `ShapeError`. */
export function blocksOf(config: ModelConfig): BlocksConfig {
  if ("blocks" in config) return config;
  const { num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, ...rest } = config;
  const { rope_theta, partial_rotary_factor, qk_norm, rms_norm_eps, ...others } = rest;
  const { intermediate_size, tie_word_embeddings, ...shared } = others;
  const norm = { kind: "rms_norm", eps: rms_norm_eps } as const;
  const attention = { num_attention_heads, num_key_value_heads, head_dim };
  const rotary = { rope_theta, partial_rotary_factor };
  const { data, error } = blocksConfig.safeParse({
    ...shared,
    blocks: [{
      repeat: num_hidden_layers,
      mixer: { kind: "attention", ...attention, ...rotary, qk_norm, qk_norm_eps: rms_norm_eps },
      mlp: { kind: "swiglu", intermediate_size },
      residual: { kind: "pre_norm", norm },
    }],
    norm,
    head: { kind: "linear", tie_word_embeddings },
  });
  if (error) throw new ShapeError(error.issues[0].message);
  return data;
}
