/** The network of the PolyGLU vectors, and its parameters by the names that they have there. */

import type { Tensor } from "../../../core/graph/mod.ts";
import { importTables, originsOf, paramsFrom, partFrom } from "../../../core/import/mod.ts";
import { bindParts } from "../../../core/model/bind.ts";
import {
  buildModel,
  completeModel,
  type LabelledRows,
  type Model,
  modelConfig,
  type ModelTree,
} from "../../../core/model/mod.ts";
import { passLayers } from "../../../core/model/passes.ts";
import {
  applyPolyglu,
  type PolygluConfig,
  type PolygluParams,
  type TensorTree,
} from "../../../core/nn/mod.ts";
import * as k from "../../../kernels/mod.ts";
import { bySuffix } from "../../original_names.ts";
import type { Tensors, VectorCase } from "../../vectors.ts";

type Params = ModelTree<TensorTree>;

const table = importTables.polyglu;

/** A case's model, as published: the mean of whole rows, positions of rows. */
export function modelOf(
  { config }: Pick<VectorCase, "config">,
  rest: Partial<PolygluConfig> = {},
): Model {
  const c = config as Record<string, number>;
  const parsed = modelConfig.parse({
    hidden_size: c.d_model,
    blocks: [{
      repeat: c.n_layers,
      mixer: {
        kind: "attention",
        num_attention_heads: c.n_q_heads,
        num_key_value_heads: c.n_kv_heads,
        head_dim: c.head_dim,
        qk_norm: true,
        positions: "row",
      },
      mlp: {
        kind: "polyglu",
        intermediate_size: c.d_ff,
        pooling: "sequence",
        routing_noise: "never",
        ...rest,
      },
    }],
  });
  return buildModel(
    completeModel(parsed, { vocab_size: c.vocab_size, max_position_embeddings: c.seq_length }),
  );
}

/** The names that a model's parameters have in the original, by path. */
export function originalNames(model: Model): ReadonlyMap<string, string> {
  return new Map(originsOf(table, model).map(({ param, theirs }) => [param.path, theirs]));
}

export function paramsOf(model: Model, inputs: Tensors): Params {
  return paramsFrom(table, model, (name) => inputs[name]);
}

/** An mlp's parameters of a layer's case. */
export function layerParams(inputs: Tensors): PolygluParams {
  const [d_ff, d_model] = inputs["W_gate.weight"].shape;
  const others = { n_layers: 1, n_q_heads: 1, n_kv_heads: 1, head_dim: 2, vocab_size: 1 };
  const model = modelOf({ config: { ...others, d_ff, d_model, seq_length: 1 } });
  return partFrom(table, model, "layers.0.mlp", bySuffix(inputs)) as unknown as PolygluParams;
}

/** Numbers as the tensor that a model is told its scheduled values by. */
export function scalar(value: number): Tensor {
  return k.constant(`scalar ${value}`, [1], Float32Array.of(value));
}

/** The segments that cumulative lengths of rows laid end to end cut. */
export function segmentsOf({ tensors }: VectorCase): Tensor {
  const starts = tensors.get("in/cu_seqlens")!.values, { shape } = tensors.get("in/ids")!;
  const values = Int32Array.from(
    { length: shape[0] * shape[1] },
    (_, at) => starts.findIndex((start) => start > at),
  );
  return k.constant("segments", shape, values);
}

export interface Trail {
  /** Into each block, and out of the last. */
  readonly hidden: readonly Tensor[];
  readonly mixers: readonly Tensor[];
  readonly mlps: readonly Tensor[];
}

/** The model layer by layer, with recorded noise [batch, units, kinds] for each. */
export function trailOf(
  model: Model,
  params: Params,
  { ids, positions, segment_ids }: Omit<LabelledRows, "targets">,
  { tau, noise = [] }: { tau: k.Value; noise?: readonly Tensor[] },
): Trail {
  const parts = bindParts(model.config), hidden: Tensor[] = [];
  const halves = { mixer: [] as Tensor[], mlp: [] as Tensor[] };
  const rows = { ids, positions, segment_ids, scalars: {}, noise: undefined, isReplay: false };
  const input = parts.input.apply(params.input, ids, { ...rows, streams: {} });
  const config = "blocks" in model.config && model.config.blocks[0].mlp as PolygluConfig;
  if (!config) throw new Error("the flat form has no polyglu");
  const { x } = passLayers(input, parts, params, {
    around: (run) => (streams) => {
      hidden.push(streams.x);
      return run(streams);
    },
    run(half, { layer }, p, x, streams) {
      const applied = half === "mixer"
        ? parts.layers[layer].mixer.apply(p.mixer, x, { ...rows, streams })
        : applyPolyglu(p.mlp as unknown as PolygluParams, x, {
          config,
          segment_ids,
          layer,
          tau,
          noise: noise[layer],
        });
      halves[half].push(applied.out);
      return applied;
    },
  });
  return { hidden: [...hidden, x], mixers: halves.mixer, mlps: halves.mlp };
}

/** The model whose layers get recorded noise, as far as its loss. */
export function withNoise(model: Model, tau: k.Value, noise: readonly Tensor[]): Model {
  return {
    ...model,
    apply(params, rows) {
      const last = trailOf(model, params, rows, { tau, noise }).hidden.at(-1)!;
      const { gain } = params.norm as { gain: Tensor };
      return { hidden: k.rmsNorm(last, gain, { eps: 1e-6 }), aux: {}, metrics: {} };
    },
  };
}
