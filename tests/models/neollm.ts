/**
 * NeoLLM as our parts have it: its config by its sizes, and its parameters from the originals' files, as graph, so that
 * gradients come back under the originals' names.
 */

import * as k from "../../kernels/mod.ts";
import type { Tensor } from "../../core/graph/mod.ts";
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

export function neollm(sizes: Sizes): Model {
  const norm = { kind: "rms_norm", zero_centered: true };
  const config = {
    hidden_size: sizes.hidden_size,
    blocks: sizes.layers.map((kind) => ({
      mixer: mixerOf(sizes, kind),
      mlp: { kind: "polynorm", intermediate_size: sizes.intermediate_size },
      residual: { kind: "gpas", norm: { ...norm, layernorm_scaling: true } },
    })),
    norm,
  };
  return buildModel(completeModel(modelConfig.parse(config), {
    vocab_size: sizes.vocab_size,
    max_position_embeddings: sizes.positions,
  }));
}

/** A layer's tensors by names of the test's own; `[out, in]`, grouped as the originals group them. */
export type Named = (name: string) => Tensor;

/**
 * Rows of the originals' joint projections lie by key head, [q | k | v | z] and [b | a] in each; the convolution's by
 * channel.
 */
export function gatedDeltaParams(of: Named, sizes: Sizes): Record<string, Tensor> {
  const { num_key_heads: groups, key_head_dim: dk, value_head_dim: dv } = sizes;
  const each = sizes.num_value_heads / groups;
  const parts = (x: Tensor, lengths: number[]) => {
    const width = x.shape[1], grouped = k.reshape(x, [groups, -1, width]);
    let at = 0;
    return lengths.map((length) =>
      k.reshape(k.slice(grouped, 1, (at += length) - length, length), [-1, width])
    );
  };
  const [q, key, v, z] = parts(of("Win"), [dk, dk, each * dv, each * dv]);
  const [b, a] = parts(of("Wba"), [each, each]);
  return {
    qkv: k.concat([q, key, v], 0),
    z,
    ba: k.concat([b, a], 0),
    conv: k.permute(k.reshape(of("conv"), [q.shape[0] * 2 + v.shape[0], -1]), [1, 0]),
    A_log: of("A_log"),
    dt_bias: of("dt_bias"),
    norm: of("gnorm"),
    o: of("Wo"),
  };
}

/** The originals' query projection has the gate of a head behind its query. */
export function attentionParams(of: Named, sizes: Sizes): Record<string, Tensor> {
  const { num_attention_heads: heads, head_dim: width } = sizes;
  const both = k.reshape(of("Wq"), [heads, -1, sizes.hidden_size]);
  const half = (at: number) => k.reshape(k.slice(both, 1, at, width), [heads * width, -1]);
  return {
    q: half(0),
    ...(sizes.output_gate ? { gate: half(width) } : {}),
    k: of("Wk"),
    v: of("Wv"),
    o: of("Wo"),
    q_norm: of("qn"),
    k_norm: of("kn"),
  };
}

export function mlpParams(of: Named): Record<string, TensorTree> {
  return {
    gate: of("Wgate"),
    up: of("Wup"),
    down: of("Wdown"),
    polynorm: { weight: of("poly.w"), bias: k.reshape(of("poly.b"), [1]) },
  };
}

export function layerParams(of: Named, sizes: Sizes, kind: "linear" | "full") {
  const own = kind === "linear" ? gatedDeltaParams(of, sizes) : attentionParams(of, sizes);
  return {
    residual: {
      mixer_norm: { gain: of("in_norm") },
      mlp_norm: { gain: of("post_norm") },
      mixer_gate: of("gpasA"),
      mlp_gate: of("gpasB"),
    },
    mixer: { ...own, fan: { weight: of("fan.W"), bias: of("fan.b") } },
    mlp: mlpParams(of),
  };
}

/** All parameters; `of` is asked for `E`, `final_norm` and `b<layer>.<name>`. */
export function modelParams(of: Named, sizes: Sizes): ModelTree<TensorTree> {
  return {
    input: { embedding: of("E") },
    layers: sizes.layers.map((kind, i) => layerParams((name) => of(`b${i}.${name}`), sizes, kind)),
    modulations: [],
    skips: [],
    norm: { gain: of("final_norm") },
    head: {},
  };
}
