/**
 * Recycled-core as our parts have it: its config by its sizes, and its parameters from the original's, as graph, so that
 * gradients come back under the original's names.
 */

import * as k from "../../kernels/mod.ts";
import type { Tensor } from "../../core/graph/mod.ts";
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

/** A tensor by the names of the worked examples; layers' names begin with `b<layer>.`. */
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

export function modelParams(
  of: Named,
  { layers, recycled, embedded }: Sizes,
): ModelTree<TensorTree> {
  const table = (name: string) => ({
    embedding: of(`${name}.table`),
    projection: of(`${name}.proj`),
    scale: of(`${name}.scale`),
  });
  const half = Math.floor(layers / 2);
  return {
    input: {
      embedding: of("E"),
      bigram: table("bigram"),
      norm: {},
      smear: of("smear.gate"),
      value_embedding: table("ve"),
    },
    layers: Array.from({ length: layers }, (_, i) => {
      const own: Named = (name) => of(`b${i}.${name}`), scale = embedded.indexOf(i);
      return {
        residual: residualParams(own),
        mixer: {
          ...mixerParams(own),
          ...(scale < 0 ? {} : { value_embedding_scale: rowOf(of("ve.layer_scale"), scale, [1]) }),
        },
        mlp: { up: own("Wup"), down: own("Wdown") },
      };
    }),
    modulations: recycled.map((_, i) => ({
      scale: of(`recycle${i}.scale`),
      shift: of(`recycle${i}.bias`),
    })),
    skips: Array.from({ length: half }, (_, i) => ({ weight: rowOf(of("skip"), i) })),
    norm: {},
    head: {},
  };
}

/** Entry `at` of x's first axis. */
function rowOf(x: Tensor, at: number, shape = x.shape.slice(1)): Tensor {
  return k.reshape(k.slice(x, 0, at, 1), shape);
}

/** The script's names of what a layer has of its own. */
const layerNames: Readonly<Record<string, string>> = {
  q_gain: "attn.q_gain",
  lam: "attn.vr_lambda",
  "gate.w": "attn.attn_gate.weight",
  "gate.b": "attn.attn_gate.bias",
  attn_scale: "attn_scale",
  mlp_scale: "mlp_scale",
};

/** Finds tensors in the script's state, whose matrices lie in banks of all layers. */
export function scriptNames(
  state: Readonly<Record<string, Tensor>>,
  { layers }: Pick<Sizes, "layers">,
): Named {
  const banks: Readonly<Record<string, [string, number]>> = {
    Wq: ["qo_bank", 0],
    Wo: ["qo_bank", layers],
    Wk: ["kv_bank", 0],
    Wv: ["kv_bank", layers],
    Wup: ["mlp_up_bank", 0],
    Wdown: ["mlp_down_bank", 0],
  };
  const tables: Readonly<Record<string, string>> = {
    E: "tok_emb.weight",
    skip: "skip_weights",
    "ve.table": "ve_shared.embed.weight",
    "ve.proj": "ve_shared.proj.weight",
    "ve.scale": "ve_shared.scale",
    "bigram.table": "bigram.embed.weight",
    "bigram.proj": "bigram.proj.weight",
  };
  return (name) => {
    const [, layer, own] = name.match(/^b(\d+)\.(.+)$/) ?? [];
    if (own in banks) {
      const [bank, first] = banks[own];
      return rowOf(state[bank], first + Number(layer));
    }
    if (own?.startsWith("mix")) return rowOf(state[`blocks.${layer}.resid_mix`], Number(own[3]));
    if (own) return state[`blocks.${layer}.${layerNames[own]}`];
    if (name === "ve.layer_scale") {
      const scales = Object.keys(state).filter((key) => key.startsWith("ve_layer_scales."));
      return k.concat(scales.toSorted().map((key) => k.reshape(state[key], [1])), 0);
    }
    return state[tables[name] ?? name.replace(/^recycle(\d)/, "recycle_mods.$1")];
  };
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
