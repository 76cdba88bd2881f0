/** A config's parts, bound to the model's sizes, and the order in which a token passes them. */

import { scope, ShapeError } from "../graph/mod.ts";
import {
  bias,
  bindFrom,
  type BoundHead,
  type BoundPart,
  type BoundPositionwise,
  type BoundResidual,
  type Dims,
  gain,
  heads,
  inputs,
  mixers,
  mlps,
  norms,
  type ParamTree,
  residuals,
} from "../nn/mod.ts";
import { type BlocksConfig, blocksOf, type CompleteModelConfig } from "./config.ts";

export interface Layer {
  readonly residual: BoundResidual;
  readonly mixer: BoundPart;
  readonly mlp: BoundPart;
}

/** One application of a layer. */
export interface Pass {
  /** Index into the layers. */
  readonly layer: number;
  /** Whether the layer was passed before. */
  readonly isReplay: boolean;
  /** Index of the scale and shift that stand before it. */
  readonly modulation: number | undefined;
  /** Skips that end before it: the pass whose output is added, and the index of its weights. */
  readonly skips: readonly { readonly from: number; readonly weights: number }[];
}

export interface Parts {
  readonly dims: Dims;
  readonly input: BoundPart;
  readonly layers: readonly Layer[];
  readonly norm: BoundPositionwise;
  readonly head: BoundHead;
  /** As a token passes them. */
  readonly passes: readonly Pass[];
  readonly modulations: readonly ParamTree[];
  readonly skips: readonly ParamTree[];
}

/**
 * Binds every part to its config; sizes that do not fit each other are said here, with the part's
 * path.
 */
export function bindParts(config: CompleteModelConfig): Parts {
  const tree = blocksOf(config);
  const blocks = tree.blocks.flatMap((block) => Array<typeof block>(block.repeat).fill(block));
  const passes = passesOf(tree, blocks.length);
  const { initializer, initializer_range, output_initializer_range } = config;
  const dims: Dims = {
    hidden_size: config.hidden_size,
    vocab_size: config.vocab_size,
    max_position_embeddings: config.max_position_embeddings,
    depth: passes.length,
    initializer,
    initializer_range,
    output_initializer_range: output_initializer_range ??
      initializer_range / Math.sqrt(2 * passes.length),
    layer: 0,
  };
  const layers = blocks.map((block, layer) =>
    scope(`layers.${layer}`, () => {
      const own = { ...dims, layer };
      return {
        residual: residuals[block.residual.kind].bind(block.residual as never, own),
        mixer: scope("mixer", () => bindFrom(mixers, block.mixer, own)),
        mlp: scope("mlp", () => bindFrom(mlps, block.mlp, own)),
      };
    })
  );
  const { hidden_size } = config;
  for (const [at, norm] of [["norm", tree.norm], ["input.norm", tree.input.norm]] as const) {
    if (!norm?.layernorm_scaling) continue;
    throw new ShapeError(`${at}: layernorm_scaling is for the norms of layers`);
  }
  return {
    dims,
    input: scope("input", () => bindFrom(inputs, tree.input, dims)),
    layers,
    norm: bindFrom(norms, tree.norm, dims),
    head: heads[tree.head.kind].bind(tree.head, dims),
    passes,
    modulations: passes.filter(({ modulation }) => modulation !== undefined)
      .map(() => ({ scale: gain(hidden_size), shift: bias(hidden_size) })),
    skips: tree.skips.map(() => ({ weight: gain(hidden_size) })),
  };
}

function passesOf({ order: given, skips }: BlocksConfig, count: number): Pass[] {
  const order = (given ?? Array.from({ length: count }, (_, layer) => layer))
    .map((pass) => typeof pass === "number" ? { layer: pass, modulated: false } : pass);
  for (const { layer } of order) {
    if (layer < count) continue;
    throw new ShapeError(`order: there is no layer ${layer} among ${count}, from 0`);
  }
  const unused = Array.from({ length: count }, (_, layer) => layer)
    .find((wanted) => !order.some(({ layer }) => layer === wanted));
  if (unused !== undefined) throw new ShapeError(`order: layer ${unused} is never passed`);
  for (const { from, to } of skips) {
    if (from < to && to < order.length) continue;
    throw new ShapeError(
      `skips: from pass ${from} to pass ${to} does not go forward among ${order.length} passes`,
    );
  }
  let modulations = 0;
  return order.map(({ layer, modulated }, at) => ({
    layer,
    isReplay: order.slice(0, at).some((before) => before.layer === layer),
    modulation: modulated ? modulations++ : undefined,
    skips: skips.flatMap(({ from, to }, weights) => to === at ? [{ from, weights }] : []),
  }));
}
