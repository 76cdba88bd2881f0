/**
 * A decoder built from its config: descriptions of its parameters, and pure functions of their
 * values.
 */

import { linearCrossEntropy, positionsFrom, reshape } from "../../kernels/mod.ts";
import { remat, scope, ShapeError, type Tensor } from "../graph/mod.ts";
import {
  bindFrom,
  type BoundHead,
  type BoundPart,
  type BoundPositionwise,
  type BoundResidual,
  type Branches,
  type Dims,
  heads,
  inputs,
  mixers,
  mlps,
  norms,
  type ParamTree,
  residuals,
  type Room,
  type RowContext,
  type SpecTree,
  type StepContext,
  type Streams,
  type TensorTree,
} from "../nn/mod.ts";
import { blocksOf, type CompleteModelConfig } from "./config.ts";

/** Whole rows: all i32 [batch, time]. */
export interface Rows {
  readonly ids: Tensor;
  readonly positions: Tensor;
  /** Tokens of different segments do not see each other. */
  readonly segment_ids?: Tensor | undefined;
}

/** Rows with what should follow each token; a negative target counts for nothing. */
export interface LabelledRows extends Rows {
  readonly targets: Tensor;
}

/** A model's parameters, or anything shaped like them. */
export interface ModelTree<T> {
  readonly input: T;
  readonly layers: readonly { readonly residual: T; readonly mixer: T; readonly mlp: T }[];
  readonly norm: T;
  readonly head: T;
}

/**
 * The states of the layers a token passes, in that order: a replayed layer has one for each pass.
 */
export type LayerStates<T> = readonly { readonly mixer: T; readonly mlp: T }[];

export interface Model {
  readonly config: CompleteModelConfig;
  readonly dims: Dims;
  readonly params: ModelTree<ParamTree>;
  /** → hidden states [batch, time, channels], after the last norm. */
  apply(params: ModelTree<TensorTree>, rows: Rows): Tensor;
  /** → the sum of the tokens' losses in nats, and each token's own [batch · time]. */
  loss(params: ModelTree<TensorTree>, rows: LabelledRows): { sum: Tensor; losses: Tensor };
  state(room: Room): LayerStates<SpecTree>;
  /**
   * New tokens, ids i32 [batch, time], after `start` i32 [batch] earlier ones → their hidden states
   * and the next state.
   */
  step(
    params: ModelTree<TensorTree>,
    ids: Tensor,
    start: Tensor,
    state: LayerStates<TensorTree>,
  ): { hidden: Tensor; state: LayerStates<TensorTree> };
  /** Hidden states [..., channels] → logits [..., vocab]. */
  logits(params: ModelTree<TensorTree>, hidden: Tensor): Tensor;
}

interface Layer {
  readonly residual: BoundResidual;
  readonly mixer: BoundPart;
  readonly mlp: BoundPart;
}

interface Parts {
  readonly input: BoundPositionwise;
  readonly layers: readonly Layer[];
  readonly norm: BoundPositionwise;
  readonly head: BoundHead;
  /** Indices into `layers`, as a token passes them. */
  readonly order: readonly number[];
}

export function buildModel(config: CompleteModelConfig): Model {
  const { dims, parts } = bindParts(config);
  const { input, layers, norm, head, order } = parts;
  const finish = (params: ModelTree<TensorTree>, x: Tensor) =>
    scope("norm", () => norm.at(params.norm, x));
  const headWeight = (params: ModelTree<TensorTree>) =>
    head.weight(params.head, (params.input as { embedding: Tensor }).embedding);

  const apply: Model["apply"] = (params, rows) => {
    const ctx: RowContext = { positions: rows.positions, segment_ids: rows.segment_ids };
    const x = scope("input", () => input.at(params.input, rows.ids));
    const last = passLayers({ x }, parts, params, {
      around: config.remat ? remat : (run) => run,
      branches: (layer, p) => ({
        mixer: (x) => layer.mixer.apply(p.mixer, x, ctx).out,
        mlp: (x) => layer.mlp.apply(p.mlp, x, ctx).out,
      }),
    });
    return finish(params, last);
  };

  return {
    config,
    dims,
    params: {
      input: input.params,
      layers: layers.map(({ residual, mixer, mlp }) => ({
        residual: residual.params,
        mixer: mixer.params,
        mlp: mlp.params,
      })),
      norm: norm.params,
      head: head.params,
    },
    apply,
    loss(params, rows) {
      const hidden = reshape(apply(params, rows), [-1, dims.hidden_size]);
      const targets = reshape(rows.targets, [-1]);
      return scope(
        "head",
        () =>
          linearCrossEntropy(hidden, headWeight(params), targets, undefined, {
            softcap: head.softcap,
          }),
      );
    },
    state: (room) =>
      order.map((index) => ({
        mixer: layers[index].mixer.state(room),
        mlp: layers[index].mlp.state(room),
      })),
    step(params, ids, start, state) {
      const ctx: StepContext = { positions: positionsFrom(start, ids.shape[1]), start };
      const next = state.map((layer) => ({ ...layer }));
      const x = scope("input", () => input.at(params.input, ids));
      const stepping =
        (half: "mixer" | "mlp", layer: Layer, p: TensorTree, pass: number) => (x: Tensor) => {
          const stepped = layer[half].step(p, x, ctx, state[pass][half]);
          next[pass][half] = stepped.state;
          return stepped.out;
        };
      const last = passLayers({ x }, parts, params, {
        around: (run) => run,
        branches: (layer, p, pass) => ({
          mixer: stepping("mixer", layer, p.mixer, pass),
          mlp: stepping("mlp", layer, p.mlp, pass),
        }),
      });
      return { hidden: finish(params, last), state: next };
    },
    logits: (params, hidden) => scope("head", () => head.logits(headWeight(params), hidden)),
  };
}

type LayerParams = ModelTree<TensorTree>["layers"][number];

/** How layers are passed: whole rows or new tokens, kept or rebuilt. */
interface Passage {
  around(run: (streams: Streams) => Streams): (streams: Streams) => Streams;
  branches(layer: Layer, p: LayerParams, pass: number): Branches;
}

function passLayers(
  streams: Streams,
  { layers, order }: Parts,
  params: ModelTree<TensorTree>,
  { around, branches }: Passage,
): Tensor {
  order.forEach((index, pass) => {
    const layer = layers[index], p = params.layers[index];
    const run = around((streams) =>
      scope(`layers.${index}`, () => {
        const { mixer, mlp } = branches(layer, p, pass);
        return layer.residual.run(p.residual, streams, {
          mixer: (x) => scope("mixer", () => mixer(x)),
          mlp: (x) => scope("mlp", () => mlp(x)),
        });
      })
    );
    streams = run(streams);
  });
  return streams.x;
}

/**
 * Binds every part to its config; sizes that do not fit each other are said here, with the part's
 * path.
 */
function bindParts(config: CompleteModelConfig): { dims: Dims; parts: Parts } {
  const tree = blocksOf(config);
  const blocks = tree.blocks.flatMap((block) => Array<typeof block>(block.repeat).fill(block));
  const order = tree.order ?? blocks.map((_, index) => index);
  for (const index of order) {
    if (index < blocks.length) continue;
    throw new ShapeError(`order: there is no layer ${index} among ${blocks.length}, from 0`);
  }
  const unused = blocks.findIndex((_, index) => !order.includes(index));
  if (unused >= 0) throw new ShapeError(`order: layer ${unused} is never passed`);
  const dims: Dims = {
    hidden_size: config.hidden_size,
    vocab_size: config.vocab_size,
    max_position_embeddings: config.max_position_embeddings,
    depth: order.length,
    initializer_range: config.initializer_range,
  };
  const layers = blocks.map((block, index) =>
    scope(`layers.${index}`, () => ({
      residual: residuals[block.residual.kind].bind(block.residual, dims),
      mixer: scope("mixer", () => bindFrom(mixers, block.mixer, dims)),
      mlp: scope("mlp", () => bindFrom(mlps, block.mlp, dims)),
    }))
  );
  return {
    dims,
    parts: {
      input: bindFrom(inputs, tree.input, dims),
      layers,
      norm: bindFrom(norms, tree.norm, dims),
      head: heads[tree.head.kind].bind(tree.head, dims),
      order,
    },
  };
}
