/** The network of the Veronica vectors, and its parameters by the names that they have there. */

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
  type Applied,
  applyRouted,
  bindFrom,
  type BoundPart,
  branches,
  type Dims,
  type PolymorphicConfig,
  type RoutingSettings,
  type RowContext,
  type SoftRouter,
  type TensorTree,
} from "../../../core/nn/mod.ts";
import * as k from "../../../kernels/mod.ts";
import type { Tensors, VectorCase } from "../../vectors.ts";

type Params = ModelTree<TensorTree>;

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

/** Of a layer's mlp: the name there, and where a matrix holds gate and up which half is ours. */
function mlpPlace(path: string): { name: string; half?: "gate" | "up" } {
  const router = path.match(/^router\.(hidden|out)(_bias)?$/);
  if (router) {
    const [, layer, bias] = router;
    return { name: `router.${layer === "hidden" ? 0 : 2}.${bias ? "bias" : "weight"}` };
  }
  const [, branch, what] = path.match(/^branches\.(\d+)\.(\w+)$/)!, at = `branches.${branch}`;
  if (what === "conv") return { name: `${at}.conv.weight` };
  if (what === "conv_bias") return { name: `${at}.conv.bias` };
  if (what === "gate") return { name: `${at}.up.weight`, half: "gate" };
  return { name: `${at}.${what}.weight`, ...(what === "up" && branch !== "2" && { half: "up" }) };
}

/** A parameter's place there. */
function placeOf(path: string): { name: string; half?: "gate" | "up" } {
  if (path === "input.embedding") return { name: "wte.weight" };
  if (path === "head.weight") return { name: "lm_head.weight" };
  const norm = (name: string, what: string) => ({
    name: `${name}.${what === "gain" ? "weight" : "bias"}`,
  });
  if (path.startsWith("norm.")) return norm("ln_f", path.slice(5));
  const [, layer, half, rest] = path.match(/^layers\.(\d+)\.(\w+)\.(.+)$/)!;
  const block = `blocks.${layer}`;
  if (half === "residual") {
    const [, which, what] = rest.match(/^(mixer|mlp)_norm\.(\w+)$/)!;
    return norm(`${block}.ln${which === "mixer" ? 1 : 2}`, what);
  }
  if (half === "mixer") return { name: `${block}.attn.${rest}_proj.weight` };
  const place = mlpPlace(rest);
  return { ...place, name: `${block}.mlp.${place.name}` };
}

/** A tensor there as ours: a half of two matrices in one, or taps first. */
function asOurs(x: Tensor, half: "gate" | "up" | undefined): Tensor {
  if (half) {
    const units = x.shape[0] / 2;
    return k.slice(x, 0, half === "gate" ? 0 : units, units);
  }
  if (x.shape.length < 3) return x;
  return k.permute(k.reshape(x, [x.shape[0], x.shape[2]]), [1, 0]);
}

/** The same of plain numbers. */
export function valuesOf(
  path: string,
  read: (name: string) => { shape: readonly number[]; values: ArrayLike<number> },
): number[] {
  const { name, half } = placeOf(path), { shape, values } = read(name), all = Array.from(values);
  if (half) return half === "gate" ? all.slice(0, all.length / 2) : all.slice(all.length / 2);
  if (shape.length < 3) return all;
  const [channels, , taps] = shape;
  return all.map((_, i) => all[(i % channels) * taps + Math.floor(i / channels)]);
}

export const originalName = (path: string): string => placeOf(path).name;

export function paramsOf(model: Model, inputs: Tensors): Params {
  return mapTree(model.params, (_: Spec, path) => {
    const { name, half } = placeOf(path);
    return asOurs(inputs[name], half);
  }) as Params;
}

/** An mlp's or branch's parameters; `prefix` stands before our paths. */
export function partParams(part: BoundPart, inputs: Tensors, prefix = ""): TensorTree {
  return mapTree(part.params, (_: Spec, path) => {
    const { name, half } = mlpPlace(prefix + path);
    return asOurs(inputs[prefix ? name.replace(/^branches\.\d+\./, "") : name], half);
  }) as TensorTree;
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
