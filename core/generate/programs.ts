/** The graphs of generation: reading a prompt in chunks, and one token after another. Nothing here runs anything. */

import { addInteger, embedding, reshape, sample } from "../../kernels/mod.ts";
import { type Graph, type Spec, spec, type Tensor, trace } from "../graph/mod.ts";
import {
  type Model,
  type ModelState,
  type ModelTree,
  type NewTokens,
  runSpecs,
} from "../model/mod.ts";
import type { Room, TensorTree } from "../nn/mod.ts";
import { penaltyNames, type PenaltyTensors, samplePenalized } from "./penalties.ts";
import { storedParams, storedSpecs, type WeightType } from "./weights.ts";

/** What each step of decoding tells the host: `logits` also tells all of those. */
export type DecodeOutputs = "tokens" | "logits";

/** What a model's state has room for, how its weights are kept, what its steps tell. */
export interface Layout extends Room {
  readonly weights: WeightType;
  /** Tokens unless given. */
  readonly outputs?: DecodeOutputs;
  /** `counted` keeps count of tokens, so that they may be penalized; `none` unless given. */
  readonly penalties?: PenaltyState;
}

export type PenaltyState = "none" | "counted";

/** The parameters and the model's state before a step. */
interface Weights {
  readonly params: ModelTree<TensorTree>;
  readonly before: ModelState<TensorTree>;
}

function weightSpecs(model: Model, layout: Layout) {
  return {
    params: storedSpecs(model, layout.weights),
    model: model.state(layout),
  } as unknown as Record<"params" | "model", Spec>;
}

function weightsIn(state: unknown, model: Model, { weights }: Layout): Weights {
  const { params, model: before } = state as { params: unknown; model: ModelState<TensorTree> };
  return { params: storedParams(model, params, weights), before };
}

/** `length` tokens of each row into the model's state, of which the first `lengths` are the row's own. */
export function tracePrefill(model: Model, room: Layout, length: number): Graph {
  return trace((state, tokens) => {
    const { params, before } = weightsIn(state, model, room);
    return { state: { model: model.step(params, tokens as NewTokens, before).state } };
  }, {
    state: weightSpecs(model, room),
    batch: {
      ids: spec([room.batch, length], "i32"),
      start: spec([room.batch], "i32"),
      lengths: spec([room.batch], "i32"),
      ...runSpecs(model, room.batch, "measuring"),
    },
  });
}

/**
 * One token for each row, from the last one to the next, all on the device. `randoms` has a row of uniform numbers for each token that may
 * be generated. Outputs: `token` and its log-probability `logprob`, both [batch]; where the layout says so also `logits` [batch, vocab].
 */
export function traceDecode(model: Model, room: Layout): Graph {
  const { batch, capacity, outputs = "tokens", penalties = "none" } = room;
  const vocab = model.dims.vocab_size, isCounted = penalties === "counted";
  return trace((state, { settings, ...others }) => {
    const { params, before } = weightsIn(state, model, room);
    const { start, last, generated, randoms, ...rest } = state as unknown as Record<string, Tensor>;
    const ids = reshape(last, [batch, 1]), { scalars, noise } = others as NewTokens;
    const step = model.step(params, { ids, start, scalars, noise }, before);
    const logits = reshape(model.logits(params, step.hidden), [batch, vocab]);
    const uniform = reshape(embedding(randoms, generated), [batch]);
    const { token, logprob, ...counted } = isCounted
      ? samplePenalized(logits, rest.counts, others as PenaltyTensors, [uniform, settings])
      : sample(logits, uniform, settings);
    return {
      state: {
        model: step.state,
        start: addInteger(start, 1),
        last: token,
        generated: addInteger(generated, 1),
        ...counted,
      },
      outputs: { token, logprob, ...(outputs === "logits" && { logits }) },
    };
  }, {
    state: {
      ...weightSpecs(model, room),
      start: spec([batch], "i32"),
      last: spec([batch], "i32"),
      generated: spec([1], "i32"),
      randoms: spec([capacity, batch]),
      ...(isCounted && { counts: spec([batch, vocab]) }),
    },
    batch: {
      settings: spec([4]),
      ...runSpecs(model, batch, "measuring"),
      ...(isCounted && Object.fromEntries(penaltyNames.map((name) => [name, spec([])]))),
    },
  });
}
