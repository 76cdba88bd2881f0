/**
 * A decoder built from its config: descriptions of its parameters, and pure functions of their
 * values.
 */

import {
  add,
  less,
  linearCrossEntropy,
  mul,
  positionsFrom,
  reshape,
  sub,
  sumAll,
  sumLeading,
  toFloat,
} from "../../kernels/mod.ts";
import { remat, scope, ShapeError, type Tensor } from "../graph/mod.ts";
import type {
  Applied,
  Dims,
  NoiseUse,
  ParamTree,
  Room,
  RunContext,
  SpecTree,
  TensorTree,
} from "../nn/mod.ts";
import { bindParts, type Parts } from "./bind.ts";
import type { CompleteModelConfig } from "./config.ts";
import { passLayers, type StepRunner } from "./passes.ts";
import { repetitionLoss } from "./repetition.ts";
import { readScalars, scalarsOf, type ScheduledScalar } from "./scalars.ts";

/** What changes over a run. */
export interface RunValues {
  /** f32 [n]: the values of `Model.scalars`, in their order; left out of models without. */
  readonly scalars?: Tensor | undefined;
  /** Keys u32 [batch, 3] of each row's random numbers, where `Model.noise` asks for them. */
  readonly noise?: Tensor | undefined;
}

/** Whole rows: all i32 [batch, time]. */
export interface Rows extends RunValues {
  readonly ids: Tensor;
  readonly positions: Tensor;
  /** Tokens of different segments do not see each other. */
  readonly segment_ids?: Tensor | undefined;
}

/** Rows with what should follow each token; a negative target counts for nothing. */
export interface LabelledRows extends Rows {
  readonly targets: Tensor;
  /** f32: how much each target counts; left out: 1. */
  readonly weights?: Tensor | undefined;
}

/** New tokens of each row, after others. */
export interface NewTokens extends RunValues {
  /** i32 [batch, time] */
  readonly ids: Tensor;
  /** i32 [batch]: how many came before. */
  readonly start: Tensor;
  /** i32 [batch]: how many of them are a row's own, the rest being padding; left out: all. */
  readonly lengths?: Tensor | undefined;
}

/** A model's parameters, or anything shaped like them. */
export interface ModelTree<T> {
  readonly input: T;
  readonly layers: readonly { readonly residual: T; readonly mixer: T; readonly mlp: T }[];
  /** Scale and shift before a modulated pass, in the order of passes. */
  readonly modulations: readonly T[];
  /** The factors of each skip. */
  readonly skips: readonly T[];
  readonly norm: T;
  readonly head: T;
}

/**
 * The state of the input, and of the layers a token passes, in that order: a replayed layer has one
 * for each pass.
 */
export interface ModelState<T> {
  readonly input: T;
  readonly layers: readonly { readonly mixer: T; readonly mlp: T }[];
}

/** The loss over rows, in nats. */
export interface Loss {
  /** What training minimizes: `sum` and the parts' further losses. */
  readonly objective: Tensor;
  /** Over all targets, each times its weight. */
  readonly sum: Tensor;
  /** [batch · time], without weights. */
  readonly losses: Tensor;
  /** What the parts watch, summed over the targets as their losses are: each f32 [] or [n]. */
  readonly metrics: Readonly<Record<string, Tensor>>;
}

export interface LossOptions {
  readonly label_smoothing?: number;
  readonly z_loss?: number;
  /** Weight of `repetitionLoss`. */
  readonly repetition?: number;
  /** With weights rounded to levels where the model is to learn to bear it: see `withQat`. */
  readonly qat?: boolean;
}

export interface Model {
  readonly config: CompleteModelConfig;
  readonly dims: Dims;
  readonly params: ModelTree<ParamTree>;
  /** Values that follow a schedule; rows bring them in this order. */
  readonly scalars: readonly ScheduledScalar[];
  /** When rows must bring keys of random numbers. */
  readonly noise: NoiseUse;
  /** Whether a token's hidden state may depend on tokens that come with it, or later in its row. */
  readonly looksAhead: boolean;
  /**
   * → hidden states [batch, time, channels], after the last norm, and what the parts tell of each
   * token besides, [batch, time, …].
   */
  apply(params: ModelTree<TensorTree>, rows: Rows): { hidden: Tensor } & Told;
  loss(params: ModelTree<TensorTree>, rows: LabelledRows, options?: LossOptions): Loss;
  state(room: Room): ModelState<SpecTree>;
  /** → the new tokens' hidden states, and the next state. */
  step(
    params: ModelTree<TensorTree>,
    tokens: NewTokens,
    state: ModelState<TensorTree>,
  ): { hidden: Tensor; state: ModelState<TensorTree> };
  /** Hidden states [..., channels] → logits [..., vocab]. */
  logits(params: ModelTree<TensorTree>, hidden: Tensor): Tensor;
}

/** Further losses and metrics by name, of one name the mean over the passes that tell it. */
export type Told = Required<Pick<Applied, "aux" | "metrics">>;

export function buildModel(config: CompleteModelConfig): Model {
  const parts = bindParts(config), { dims, input, layers, norm, head, passes } = parts;
  const scalars = scalarsOf(parts);
  const finish = (params: ModelTree<TensorTree>, x: Tensor) =>
    scope("norm", () => norm.at(params.norm, x));
  const headWeight = (params: ModelTree<TensorTree>) =>
    head.weight(params.head, (params.input as { embedding: Tensor }).embedding);
  /** What a part is told of the run. */
  const runAt = (path: string, run: RunValues): Omit<RunContext, "streams" | "isReplay"> => ({
    scalars: readScalars(scalars, path, run.scalars),
    noise: run.noise,
  });

  const apply: Model["apply"] = (params, rows) => {
    const { ids, positions, segment_ids } = rows;
    const first = scope("input", () =>
      input.apply(params.input, ids, {
        ids,
        positions,
        segment_ids,
        ...runAt("input", rows),
        streams: {},
        isReplay: false,
      }));
    const last = passLayers(first, parts, params, {
      around: config.remat ? remat : (run) => run,
      run: (half, { layer, isReplay }, p, x, streams) =>
        layers[layer][half].apply(p[half], x, {
          ids,
          positions,
          segment_ids,
          ...runAt(`layers.${layer}.${half}`, rows),
          streams,
          isReplay,
        }),
    });
    return { hidden: finish(params, last.x), aux: last.aux, metrics: last.metrics };
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
      modulations: parts.modulations,
      skips: parts.skips,
      norm: norm.params,
      head: head.params,
    },
    scalars,
    noise: noiseOf(parts),
    looksAhead: allOf(parts).some(({ looksAhead }) => looksAhead),
    apply,
    loss(params, rows, options = {}) {
      const { hidden, aux, metrics } = apply(params, rows);
      const { repetition = 0, qat: _, ...plain } = options, { softcap } = head;
      const x = reshape(hidden, [-1, dims.hidden_size]), weight = headWeight(params);
      const [targets, ids] = [rows.targets, rows.ids].map((each) => reshape(each, [-1]));
      const weights = rows.weights && reshape(rows.weights, [-1]);
      const { sum, losses } = scope(
        "head",
        () => linearCrossEntropy(x, weight, targets, weights, { softcap, ...plain }),
      );
      const isTarget = sub(1, less(toFloat(rows.targets), 0));
      const counted = rows.weights ? mul(isTarget, rows.weights) : isTarget;
      const further = Object.values(aux).map((x) => sumAll(mul(x, counted)));
      if (repetition > 0) {
        const loss = scope(
          "head",
          () => repetitionLoss(x, weight, { ids, targets, weights, softcap }),
        );
        further.push(mul(loss, repetition));
      }
      return {
        objective: further.reduce(add, sum),
        sum,
        losses,
        metrics: mapValues(metrics, (x) => overTokens(x, counted)),
      };
    },
    state: (room) => ({
      input: input.state(room),
      layers: passes.map(({ layer }) => ({
        mixer: layers[layer].mixer.state(room),
        mlp: layers[layer].mlp.state(room),
      })),
    }),
    step(params, tokens, state) {
      const { ids, start, lengths } = tokens;
      const told = { ids, start, lengths, positions: positionsFrom(start, ids.shape[1]) };
      const first = scope("input", () =>
        input.step(
          params.input,
          ids,
          { ...told, ...runAt("input", tokens), streams: {}, isReplay: false },
          state.input,
        ));
      // taken up one after another, so that a state that is made for a step is made where it is read
      const next: Record<"mixer" | "mlp", TensorTree>[] = state.layers.map(() => ({
        mixer: {},
        mlp: {},
      }));
      const run: StepRunner = (half, { layer, isReplay }, p, x, streams, pass) => {
        const stepped = layers[layer][half].step(p[half], x, {
          ...told,
          ...runAt(`layers.${layer}.${half}`, tokens),
          streams,
          isReplay,
        }, state.layers[pass][half]);
        next[pass][half] = stepped.state;
        return stepped;
      };
      const last = passLayers(first, parts, params, { around: (run) => run, run });
      return { hidden: finish(params, last.x), state: { input: first.state, layers: next } };
    },
    logits: (params, hidden) => scope("head", () => head.logits(headWeight(params), hidden)),
  };
}

/** The parts that see more than one token. */
function allOf({ input, layers }: Parts) {
  return [input, ...layers.flatMap(({ mixer, mlp }) => [mixer, mlp])];
}

/** What the most demanding part asks for. */
function noiseOf(parts: Parts): NoiseUse {
  const asked = allOf(parts).map(({ noise }) => noise);
  if (asked.includes("always") && asked.includes("training")) {
    // keys alone tell a part that it is in training
    throw new ShapeError(
      "some parts draw random numbers always, others (dropout, say) in training alone: not both in one model",
    );
  }
  return asked.includes("always") ? "always" : asked.includes("training") ? "training" : "never";
}

/** [batch, time] or [batch, time, n] → the sum over the tokens that count, [] or [n]. */
function overTokens(x: Tensor, counted: Tensor): Tensor {
  if (x.shape.length === 2) return sumAll(mul(x, counted));
  return sumLeading(mul(x, reshape(counted, [...counted.shape, 1])));
}

function mapValues<T, R>(record: Readonly<Record<string, T>>, f: (value: T) => R) {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value)]));
}
