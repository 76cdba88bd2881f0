/** The graphs of scoring. Nothing here runs anything. */

import {
  add,
  embedding,
  fill,
  logSumExpLast,
  reshape,
  sample,
  slice,
  sub,
} from "../../../kernels/mod.ts";
import {
  type Graph,
  leavesOf,
  mapTree,
  type Spec,
  spec,
  type Tensor,
  trace,
} from "../../graph/mod.ts";
import {
  type Model,
  type ModelState,
  type ModelTree,
  type NewTokens,
  runSpecs,
  type RunValues,
} from "../../model/mod.ts";
import type { SpecTree, TensorTree } from "../../nn/mod.ts";
import type { ScoreShape } from "./batches.ts";

/** The weights, and the state after the base: of one row, with all positions that the model has. */
export function stateSpecs(model: Model) {
  return {
    params: mapTree(model.params, ({ shape, dtype }: Spec) => ({ shape, dtype })),
    base: model.state({ batch: 1, capacity: model.dims.max_position_embeddings }),
  } as unknown as Record<string, Spec>;
}

interface State {
  readonly params: ModelTree<TensorTree>;
  readonly base: ModelState<TensorTree>;
}

/** `length` tokens into the base, of which the first `lengths` count. */
export function traceBase(model: Model, length: number): Graph {
  return trace((state, tokens) => {
    const { params, base } = state as unknown as State;
    return { state: { base: model.step(params, tokens as unknown as NewTokens, base).state } };
  }, { state: stateSpecs(model), batch: tokenSpecs(model, [1, length]) });
}

function tokenSpecs(model: Model, [rows, time]: readonly [number, number]): Record<string, Spec> {
  return {
    ids: spec([rows, time], "i32"),
    start: spec([rows], "i32"),
    lengths: spec([rows], "i32"),
    ...runSpecs(model, rows, "measuring"),
  };
}

/** What new rows take over from rows before: whole ones, and of those that have a place for each position which. */
interface Taken {
  /** i32 [rows] */
  readonly rows: Tensor;
  /** i32 [rows · capacity]: places among all rows' positions; −1 where nothing was. */
  readonly places: Tensor;
}

type Tokens = Required<Pick<NewTokens, "ids" | "start" | "lengths">> & RunValues & {
  readonly taken: Taken;
};

/**
 * Scores of a batch: trunks go on from the base, branches from the trunks, each a row of its own. Outputs: of each place its
 * target's log-probability `logprob` f32 [places], and the likeliest token `best` i32 [places] (the first among equals).
 */
export function traceScores(model: Model, shape: ScoreShape): Graph {
  const { trunks, trunkTime, branches, branchTime, places } = shape;
  const takenSpecs = (rows: number) => ({
    rows: spec([rows], "i32"),
    places: spec([rows * shape.capacity], "i32"),
  });
  return trace((state, batch) => {
    const { params, base } = state as unknown as State;
    const { trunk, branch, ...asked } = batch as unknown as Batch;
    const first = model.step(params, trunk, takeState(model, base, trunk.taken, shape));
    const hidden = pick(first.hidden, asked.inTrunks);
    const all = branch
      ? add(
        hidden,
        pick(
          model.step(params, branch, takeState(model, first.state, branch.taken, shape)).hidden,
          asked.inBranches!,
        ),
      )
      : hidden;
    return { outputs: scoresOf(model, params, all, asked) };
  }, {
    state: stateSpecs(model),
    batch: {
      trunk: { ...tokenSpecs(model, [trunks, trunkTime]), taken: takenSpecs(trunks) },
      inTrunks: spec([places], "i32"),
      targets: spec([places], "i32"),
      ...(branches > 0 && {
        branch: { ...tokenSpecs(model, [branches, branchTime]), taken: takenSpecs(branches) },
        inBranches: spec([places], "i32"),
      }),
    } as unknown as Record<string, Spec>,
  });
}

interface Batch extends Asked {
  readonly trunk: Tokens;
  readonly branch?: Tokens;
}

/** i32 [places]: where each is among the tokens of trunks or branches (−1: not there), and its target. */
interface Asked {
  readonly inTrunks: Tensor;
  readonly inBranches?: Tensor;
  /** Counted over the chunk's logits: place in it · vocabulary + id. */
  readonly targets: Tensor;
}

/** [rows, time, channels] → [places, channels], zeros where a place is not among them. */
function pick(hidden: Tensor, places: Tensor): Tensor {
  return embedding(reshape(hidden, [-1, hidden.shape[2]]), places);
}

/** Bytes of logits that are held at once. */
const logitBytes = 2 ** 25;

/** How many places' logits are made at once. */
export function chunkOf({ dims }: Model, { places }: Pick<ScoreShape, "places">): number {
  return Math.min(places, Math.max(1, Math.floor(logitBytes / 4 / dims.vocab_size)));
}

function scoresOf(
  model: Model,
  params: ModelTree<TensorTree>,
  hidden: Tensor,
  { targets }: Asked,
): Record<string, Tensor> {
  const [places] = hidden.shape, chunk = chunkOf(model, { places });
  const logprobs: Tensor[] = [], bests: Tensor[] = [];
  for (let from = 0; from < places; from += chunk) {
    const count = Math.min(chunk, places - from);
    const logits = model.logits(params, slice(hidden, 0, from, count));
    const chosen = embedding(reshape(logits, [-1, 1]), slice(targets, 0, from, count));
    logprobs.push(sub(reshape(chosen, [count]), reshape(logSumExpLast(logits), [count])));
    bests.push(sample(logits, fill([count], 0), fill([4], 0)).token);
  }
  return {
    ...Object.fromEntries(logprobs.map((x, i) => [`logprob.${i}`, x])),
    ...Object.fromEntries(bests.map((x, i) => [`best.${i}`, x])),
  };
}

/**
 * The state of new rows, taken from one of other rows. What a part keeps for each position stands on its second axis, and is
 * taken position by position, so that rows may have other capacities.
 */
function takeState(
  model: Model,
  from: ModelState<TensorTree>,
  taken: Taken,
  { capacity }: ScoreShape,
): ModelState<TensorTree> {
  const [rows] = taken.rows.shape, specs = model.state({ batch: rows, capacity });
  const longer = model.state({ batch: rows, capacity: capacity + 1 });
  const take = (at: (state: ModelState<unknown>) => unknown) => {
    const leaves = leavesOf<Tensor>(at(from)), grown = leavesOf<Spec>(at(longer));
    let next = 0;
    return mapTree(at(specs), ({ shape }: Spec) => {
      const i = next++, x = leaves[i].leaf;
      const isByPosition = grown[i].leaf.shape.join() !== shape.join();
      if (!isByPosition) return reshape(embedding(reshape(x, [x.shape[0], -1]), taken.rows), shape);
      const table = reshape(x, [x.shape[0] * x.shape[1], -1]);
      return reshape(embedding(table, taken.places), shape);
    });
  };
  return lazily(specs, take);
}

/** A state whose parts are made when they are asked for: a step reads one layer after another, and needs no more at once. */
function lazily(
  { layers }: ModelState<SpecTree>,
  make: (at: (state: ModelState<unknown>) => unknown) => unknown,
): ModelState<TensorTree> {
  const part = (at: (state: ModelState<unknown>) => unknown) => make(at) as TensorTree;
  return {
    get input() {
      return part(({ input }) => input);
    },
    layers: layers.map((_, i) => ({
      get mixer() {
        return part(({ layers }) => layers[i].mixer);
      },
      get mlp() {
        return part(({ layers }) => layers[i].mlp);
      },
    })),
  };
}
