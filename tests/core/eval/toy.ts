/** Models that are made by hand, opened for scoring. */

import type { ScoredModel } from "../../../core/eval/score/scorer.ts";
import { sizeOf } from "../../../core/graph/mod.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  namedParams,
  scalarValues,
} from "../../../core/model/mod.ts";
import { evenClock } from "../../../core/optim/mod.ts";

/** A model with values by path, as if read from a file. */
export function opened(
  model: Model,
  valuesOf: (path: string, shape: readonly number[]) => ArrayLike<number>,
): ScoredModel {
  const named = namedParams(model.params);
  const shapes = new Map(named.map(({ path, shape }) => [path, shape]));
  return {
    model,
    file: {
      path: "made by hand",
      tensors: new Map(
        named.map(({ path, shape }) => [path, { dtype: "F32", shape: [...shape] }]),
      ),
      read: (path) => Float32Array.from(valuesOf(path, shapes.get(path)!)),
      [Symbol.dispose]() {},
    },
    point: { scalars: scalarValues(model, evenClock(1), 0), seed: 7, step: 0 },
  };
}

/**
 * A table of bigrams as a model: embeddings are one-hot, the only layer adds nothing, and the head is the
 * table, so that logits after token i are √vocab · table[·][i] (the norm's factor).
 */
export function bigramModel(
  vocab: number,
  positions: number,
  logit: (next: number, before: number) => number,
): ScoredModel {
  const model = buildModel(
    completeModel(
      modelConfig.parse({
        hidden_size: vocab,
        num_hidden_layers: 1,
        num_attention_heads: 1,
        intermediate_size: 4,
        rms_norm_eps: 1e-12,
        tie_word_embeddings: false,
      }),
      { vocab_size: vocab, max_position_embeddings: positions },
    ),
  );
  return opened(model, (path, shape) => {
    const values = new Float64Array(sizeOf(shape));
    if (/norm/.test(path)) return values.fill(1);
    if (path === "input.embedding") {
      for (let id = 0; id < vocab; id++) values[id * vocab + id] = 1;
    } else if (path.startsWith("head")) {
      values.forEach((_, at) =>
        values[at] = logit(Math.floor(at / vocab), at % vocab) / Math.sqrt(vocab)
      );
    }
    return values;
  });
}

/** log p(next | before) of the table, in double precision. */
export function bigramLogprob(
  vocab: number,
  logit: (next: number, before: number) => number,
  [before, next]: readonly [number, number],
): number {
  const all = Array.from({ length: vocab }, (_, id) => logit(id, before));
  return logit(next, before) - Math.log(all.reduce((sum, x) => sum + Math.exp(x), 0));
}
