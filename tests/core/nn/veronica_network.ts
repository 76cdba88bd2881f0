/** The network of the Veronica vectors, and its parameters by the names that they have there. */

import type { Tensor } from "../../../core/graph/mod.ts";
import {
  importTables,
  originsOf,
  paramsFrom,
  partFrom,
  rearranged,
} from "../../../core/import/mod.ts";
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
  type Applied,
  applyRouted,
  bindFrom,
  branches,
  type Dims,
  type PolymorphicConfig,
  type RoutingSettings,
  type RowContext,
  type SoftRouter,
  type TensorTree,
} from "../../../core/nn/mod.ts";
import * as k from "../../../kernels/mod.ts";
import { bySuffix } from "../../original_names.ts";
import type { Tensors, VectorCase } from "../../vectors.ts";

type Params = ModelTree<TensorTree>;

const table = importTables.veronica;

export function polymorphicConfig(
  hidden: number,
  router_size: number,
  rest: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    kind: "polymorphic",
    branches: [
      { kind: "swiglu", intermediate_size: hidden },
      { kind: "glu", intermediate_size: hidden },
      { kind: "depthwise_conv", intermediate_size: hidden, conv_bias: true },
    ],
    router_size,
    ...rest,
  };
}

export function modelOf({ config }: Pick<VectorCase, "config">): Model {
  const c = config as Record<string, number>;
  const parsed = modelConfig.parse({
    hidden_size: c.n_embd,
    blocks: [{
      repeat: c.n_layer,
      mixer: { kind: "attention", num_attention_heads: c.n_head },
      mlp: polymorphicConfig(c.hidden, c.router_hidden),
      residual: { kind: "pre_norm", norm: { kind: "layer_norm" } },
    }],
    norm: { kind: "layer_norm" },
    head: { kind: "linear", tie_word_embeddings: false },
  });
  return buildModel(
    completeModel(parsed, { vocab_size: c.vocab_size, max_position_embeddings: c.T }),
  );
}

/** Our parameters from recorded numbers of the original, with the names there. */
export function valuesOf(
  model: Model,
  read: (name: string) => { shape: readonly number[]; values: ArrayLike<number> },
): { path: string; theirs: string; values: Float32Array }[] {
  return originsOf(table, model).map(({ param: { path }, theirs, steps }) => {
    const { shape, values } = read(theirs);
    return {
      path,
      theirs,
      values: rearranged({ shape, data: Float32Array.from(values) }, steps).data,
    };
  });
}

export function paramsOf(model: Model, inputs: Tensors): Params {
  return paramsFrom(table, model, (name) => inputs[name]);
}

/** An mlp's parameters, or those of one of its branches. */
export function partParams(mlp: PolymorphicConfig, inputs: Tensors, branch?: number): TensorTree {
  const model = buildModel(
    completeModel(
      modelConfig.parse({
        hidden_size: 32,
        blocks: [{ mixer: { kind: "attention", num_attention_heads: 1 }, mlp }],
      }),
      { vocab_size: 1, max_position_embeddings: 1 },
    ),
  );
  const at = `layers.0.mlp${branch === undefined ? "" : `.branches.${branch}`}`;
  return partFrom(table, model, at, bySuffix(inputs));
}

export const dimsOf = (hidden_size: number): Dims => ({
  hidden_size,
  vocab_size: 1,
  max_position_embeddings: 16,
  depth: 1,
  initializer_range: 0.02,
  output_initializer_range: 0.02,
  layer: 0,
});

export function contextOf({ shape: [batch, time] }: Tensor): RowContext {
  const values = Int32Array.from({ length: batch * time }, (_, i) => i % time);
  const positions = k.constant(`positions ${batch} ${time}`, [batch, time], values);
  return {
    ids: positions,
    positions,
    segment_ids: undefined,
    scalars: {},
    noise: undefined,
    streams: {},
    isReplay: false,
  };
}

/** A polymorphic mlp whose forced branches are given: the part's own pieces, but for what it draws. */
export function applyForced(
  config: PolymorphicConfig,
  tree: TensorTree,
  x: Tensor,
  { entropy_of = config.entropy_of, ...settings }: RoutingSettings & {
    entropy_of?: "token" | "mean";
  },
): Applied {
  const p = tree as unknown as { router: SoftRouter<Tensor>; branches: TensorTree[] };
  const run = () =>
    config.branches.map((branch, i) =>
      bindFrom(branches, branch, dimsOf(x.shape[2]) as Dims).apply(p.branches[i], x, contextOf(x))
        .out
    );
  return applyRouted(p.router, x, run, {
    ...settings,
    config: { entropy_of, aux_over_layers: "mean" },
    layer: 0,
  });
}

/** i32 branches by number as `applyRouted` takes them. */
export function forcedOf(force: Tensor): Tensor {
  return k.toFloat(k.reshape(force, [...force.shape, 1]));
}

export interface Trail {
  /** Into each block, and out of the last. */
  readonly hidden: readonly Tensor[];
  readonly mlps: readonly Applied[];
  readonly aux: Tensor;
}

/** The model layer by layer, with given choices i32 [batch, time] of each. */
export function trailOf(
  model: Model,
  params: Params,
  { ids }: Pick<LabelledRows, "ids">,
  settings: { tau: k.Value; auxWeight: k.Value; forced?: readonly Tensor[] },
): Trail {
  const parts = bindParts(model.config), hidden: Tensor[] = [], mlps: Applied[] = [];
  const context = contextOf(ids);
  const input = parts.input.apply(params.input, ids, context);
  if (!("blocks" in model.config)) throw new Error("the flat form has no polymorphic mlp");
  const config = model.config.blocks[0].mlp as PolymorphicConfig;
  const { x, aux } = passLayers(input, parts, params, {
    around: (run) => (streams) => {
      hidden.push(streams.x);
      return run(streams);
    },
    run(half, { layer }, p, x, streams) {
      if (half === "mixer") {
        return parts.layers[layer].mixer.apply(p.mixer, x, { ...context, streams });
      }
      const forced = settings.forced && forcedOf(settings.forced[layer]);
      const applied = applyForced(config, p.mlp, x, { ...settings, forced });
      mlps.push(applied);
      return applied;
    },
  });
  return { hidden: [...hidden, x], mlps, aux: aux.router_entropy };
}

/** The model with given choices, as far as its loss. */
export function withForcedLayers(
  model: Model,
  settings: { tau: k.Value; auxWeight: k.Value; forced?: readonly Tensor[] },
): Model {
  const params = (p: Params) => p.norm as { gain: Tensor; bias: Tensor };
  return {
    ...model,
    apply(p, rows) {
      const { hidden, aux } = trailOf(model, p, rows, settings), { gain, bias } = params(p);
      return {
        hidden: k.layerNorm(hidden.at(-1)!, gain, bias, { eps: 1e-5 }),
        aux: { router_entropy: aux },
        metrics: {},
      };
    },
  };
}
