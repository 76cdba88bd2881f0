/**
 * Recycled-core as our parts have it: its config by its sizes, and its parameters from the original's, as graph, so that
 * gradients come back under the original's names.
 */

import type { Tensor } from "../../core/graph/mod.ts";
import { importTables, paramsFrom } from "../../core/import/mod.ts";
import { bindParts } from "../../core/model/bind.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  type ModelTree,
  type Rows,
} from "../../core/model/mod.ts";
import { passLayers } from "../../core/model/passes.ts";
import type { TensorTree } from "../../core/nn/mod.ts";

export interface Sizes {
  readonly hidden_size: number;
  readonly vocab_size: number;
  readonly positions: number;
  readonly layers: number;
  readonly heads: number;
  readonly kv_heads: number;
  readonly rotary: number;
  /** Positions that the base of the angles is meant for. */
  readonly nominal: number;
  readonly intermediate_size: number;
  readonly bigram: readonly [buckets: number, size: number];
  readonly value_embedding: number;
  /** Layers whose values are embedded. */
  readonly embedded: readonly number[];
  readonly exclusive: readonly number[];
  readonly recycled: readonly number[];
}

export const eps = 2 ** -23;
export const norm = { kind: "rms_norm", weight: false, eps };

/** The first half of the layers, the recycled ones so many times, the other half; skips from the first half to the last. */
export function orderOf(layers: number, recycled: readonly number[], repeats = 1) {
  const all = Array.from({ length: layers }, (_, i) => i), half = Math.floor(layers / 2);
  const again = Array.from({ length: repeats }, () => recycled.filter((i) => i < layers)).flat();
  const decoder = half + again.length;
  return {
    order: [
      ...all.slice(0, half),
      ...again.map((layer) => ({ layer, modulated: true })),
      ...all.slice(half),
    ],
    skips: all.slice(0, half).map((i) => ({ from: half - 1 - i, to: decoder + i })),
  };
}

export interface Features {
  readonly rotary: number;
  readonly nominal?: number;
  readonly exclusive?: boolean;
  readonly value_embedding?: boolean;
  readonly value_residual?: boolean;
  readonly gated?: boolean;
}

export function mixerOf(
  { hidden_size, heads, kv_heads }: Pick<Sizes, "hidden_size" | "heads" | "kv_heads">,
  { rotary, nominal, gated = true, value_residual = true, ...rest }: Features,
) {
  return {
    kind: "attention" as const,
    num_attention_heads: heads,
    num_key_value_heads: kv_heads,
    partial_rotary_factor: rotary / (hidden_size / heads),
    rope_direction: -1 as const,
    ...(nominal === undefined ? {} : { rope_original_positions: nominal }),
    qk_norm: true,
    qk_norm_weight: false,
    qk_norm_eps: eps,
    query_gain: 1.5,
    value_residual,
    output_gate: gated ? "head" as const : "none" as const,
    ...rest,
  };
}

export function recycledCore(sizes: Sizes): Model {
  const [buckets, size] = sizes.bigram;
  const channels = sizes.kv_heads * sizes.hidden_size / sizes.heads;
  const config = {
    hidden_size: sizes.hidden_size,
    input: {
      kind: "token",
      bigram: { buckets, size },
      norm,
      smear: true,
      value_embedding: { size: sizes.value_embedding, channels },
    },
    blocks: Array.from({ length: sizes.layers }, (_, i) => ({
      mixer: mixerOf(sizes, {
        rotary: sizes.rotary,
        nominal: sizes.nominal,
        value_embedding: sizes.embedded.includes(i),
        exclusive: sizes.exclusive.includes(i),
      }),
      mlp: { kind: "leaky_relu_squared", intermediate_size: sizes.intermediate_size },
      residual: { kind: "x0_mix", norm: { ...norm, layernorm_scaling: true } },
    })),
    ...orderOf(sizes.layers, sizes.recycled),
    norm,
    head: { kind: "linear", softcap: 30 },
  };
  return buildModel(completeModel(modelConfig.parse(config), {
    vocab_size: sizes.vocab_size,
    max_position_embeddings: sizes.positions,
  }));
}

/** A tensor by the names of the worked examples. */
export type Named = (name: string) => Tensor;

export function mixerParams(of: Named): Record<string, Tensor> {
  return {
    q: of("Wq"),
    k: of("Wk"),
    v: of("Wv"),
    o: of("Wo"),
    query_gain: of("q_gain"),
    value_mix: of("lam"),
    gate: of("gate.w"),
    gate_bias: of("gate.b"),
  };
}

export function residualParams(of: Named) {
  return {
    mix: { x: of("mix0"), x0: of("mix1") },
    mixer_norm: {},
    mixer_scale: of("attn_scale"),
    mlp_norm: {},
    mlp_scale: of("mlp_scale"),
  };
}

/** All parameters, from tensors by the script's names. */
export function modelParams(model: Model, state: Readonly<Record<string, Tensor>>) {
  return paramsFrom(importTables["recycled-core"], model, (name) => state[name]);
}

/** What flows between the layers: into each pass and out of it, and the first layer's values. */
export function trailOf(model: Model, params: ModelTree<TensorTree>, rows: Rows) {
  const parts = bindParts(model.config), into: Tensor[] = [], out: Tensor[] = [];
  const told = {
    ids: rows.ids,
    positions: rows.positions,
    segment_ids: undefined,
    scalars: {},
    noise: undefined,
  };
  const first = parts.input.apply(params.input, rows.ids, {
    ...told,
    streams: {},
    isReplay: false,
  });
  let values: Tensor | undefined;
  const { x } = passLayers(first, parts, params, {
    around: (run) => (streams) => {
      into.push(streams.x);
      const passed = run(streams);
      out.push(passed.streams.x);
      values ??= passed.streams.first_values;
      return passed;
    },
    run: (half, { layer, isReplay }, p, x, streams) =>
      parts.layers[layer][half].apply(p[half], x, { ...told, streams, isReplay }),
  });
  return { x0: first.out, into, out, values: values!, last: parts.norm.at(params.norm, x) };
}
