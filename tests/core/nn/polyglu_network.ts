/** The network of the PolyGLU vectors, and its parameters by the names that they have there. */

import { mapTree, type Spec, type Tensor } from "../../../core/graph/mod.ts";
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
import type { Tensors, VectorCase } from "../../vectors.ts";

type Params = ModelTree<TensorTree>;

/** A case's model, as published: the mean of whole rows, positions of rows. */
export function modelOf({ config }: VectorCase, rest: Partial<PolygluConfig> = {}): Model {
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

const mlpNames: Readonly<Record<string, string>> = {
  gate: "W_gate.weight",
  up: "W_up.weight",
  down: "W_down.weight",
  "router.alpha": "alpha",
  "router.beta": "beta",
  "router.hidden": "gate_net.0.weight",
  "router.hidden_bias": "gate_net.0.bias",
  "router.out": "gate_net.2.weight",
  "router.out_bias": "gate_net.2.bias",
};

/** A parameter's name in the original. */
export function originalName(path: string): string {
  if (path === "input.embedding") return "embeddings.weight";
  if (path === "norm.gain") return "rmsnorm.gama";
  const [, layer, half, rest] = path.match(/^layers\.(\d+)\.(\w+)\.(.+)$/)!;
  const block = `model_core.${layer}`;
  if (half === "residual") return `${block}.rmsnorm_${rest.startsWith("mixer") ? 1 : 2}.gama`;
  if (half === "mlp") return `${block}.polyglu.${mlpNames[rest]}`;
  const [, of] = rest.match(/^([qk])_norm$/) ?? [];
  return of ? `${block}.gqa.rmsnorm_${of}.gama` : `${block}.gqa.W_${rest}.weight`;
}

export function paramsOf(model: Model, inputs: Tensors): Params {
  return mapTree(model.params, (_: Spec, path) => inputs[originalName(path)]) as Params;
}

/** An mlp's parameters of a layer's case. */
export function layerParams(inputs: Tensors): PolygluParams {
  const at = (path: string) => inputs[mlpNames[path]];
  return {
    gate: at("gate"),
    up: at("up"),
    down: at("down"),
    router: {
      alpha: at("router.alpha"),
      beta: at("router.beta"),
      hidden: at("router.hidden"),
      hidden_bias: at("router.hidden_bias"),
      out: at("router.out"),
      out_bias: at("router.out_bias"),
    },
  };
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
