/**
 * NeoLLM as our parts have it: its config by its sizes, and its parameters from the originals', as graph, so that
 * gradients come back under the originals' names.
 */

import type { Tensor } from "../../core/graph/mod.ts";
import { importTables, paramsFrom, partFrom } from "../../core/import/mod.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  type ModelTree,
} from "../../core/model/mod.ts";
import type { TensorTree } from "../../core/nn/mod.ts";

export interface Sizes {
  readonly hidden_size: number;
  readonly vocab_size: number;
  readonly positions: number;
  /** `full` is attention. */
  readonly layers: readonly ("linear" | "full")[];
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly partial_rotary_factor: number;
  readonly output_gate: boolean;
  readonly num_key_heads: number;
  readonly num_value_heads: number;
  readonly key_head_dim: number;
  readonly value_head_dim: number;
  readonly fan_ratio: number;
  readonly intermediate_size: number;
}

export function mixerOf(sizes: Sizes, kind: "linear" | "full"): Record<string, unknown> {
  const fan = { ratio: sizes.fan_ratio };
  const { num_key_heads, num_value_heads, key_head_dim, value_head_dim } = sizes;
  const linear = { num_key_heads, num_value_heads, key_head_dim, value_head_dim, fan };
  if (kind === "linear") return { kind: "gated_delta", ...linear };
  const { num_attention_heads, num_key_value_heads, head_dim, partial_rotary_factor } = sizes;
  return {
    kind: "attention",
    num_attention_heads,
    num_key_value_heads,
    head_dim,
    partial_rotary_factor,
    qk_norm: true,
    qk_norm_zero_centered: true,
    output_gate: sizes.output_gate ? "channel" : "none",
    fan,
  };
}

/** The configs of a layer's halves. */
export interface LayerConfig {
  readonly mixer: object;
  readonly mlp: object;
}

export const layerOf = (sizes: Sizes, kind: "linear" | "full"): LayerConfig => ({
  mixer: mixerOf(sizes, kind),
  mlp: { kind: "polynorm", intermediate_size: sizes.intermediate_size },
});

export function neollm(sizes: Sizes): Model {
  return modelOf(sizes, sizes.layers.map((kind) => layerOf(sizes, kind)));
}

function modelOf(
  sizes: Pick<Sizes, "hidden_size" | "vocab_size" | "positions">,
  layers: readonly LayerConfig[],
): Model {
  const norm = { kind: "rms_norm", zero_centered: true };
  const config = {
    hidden_size: sizes.hidden_size,
    blocks: layers.map((layer) => ({
      ...layer,
      residual: { kind: "gpas", norm: { ...norm, layernorm_scaling: true } },
    })),
    norm,
  };
  return buildModel(completeModel(modelConfig.parse(config), {
    vocab_size: sizes.vocab_size,
    max_position_embeddings: sizes.positions,
  }));
}

/** Finds a tensor of the originals by the name that it has in a whole checkpoint. */
export type Named = (name: string) => Tensor;

export function modelParams(model: Model, of: Named): ModelTree<TensorTree> {
  return paramsFrom(importTables.neollm, model, of);
}

/** Of a model's first layer: `""` for all of it, `.mixer`, `.mlp`. */
export function layerParams(sizes: Sizes, layer: LayerConfig, part: string, of: Named): TensorTree {
  const model = modelOf({ ...sizes, vocab_size: 1, positions: 1 }, [layer]);
  return partFrom(importTables.neollm, model, `layers.0${part}`, of);
}
