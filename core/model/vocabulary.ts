/** Models that get tokens which they have not learned yet, such as those of a chat template. */

import { sizeOf } from "../graph/mod.ts";
import type { CompleteModelConfig } from "./config.ts";
import { buildModel } from "./model.ts";
import { type NamedParam, namedParams } from "./params.ts";

/** Tokens that a model gets. */
export interface VocabularyGrowth {
  /** So many ids, from 0 on, were those of the tokenizer that the model learned with. */
  readonly known: number;
  /**
   * The new ones; a model with more rows than its tokenizer has ids may have rows for them already.
   */
  readonly fresh: readonly number[];
}

/** The config with a row for each of these ids; more rows than that stay. */
export function withVocabulary<C extends CompleteModelConfig>(config: C, vocabSize: number): C {
  return { ...config, vocab_size: Math.max(config.vocab_size, vocabSize) };
}

/**
 * The paths of the parameters that have a row for each token: embeddings, a head of its own, and
 * the like.
 */
export function tokenTables(config: CompleteModelConfig): ReadonlySet<string> {
  const params = (extra: number) =>
    namedParams(buildModel({ ...config, vocab_size: config.vocab_size + extra }).params);
  const larger = params(1);
  return new Set(
    params(0).filter(({ shape }, i) => sizeOf(shape) !== sizeOf(larger[i].shape))
      .map(({ path }) => path),
  );
}

/**
 * A table's values after the growth; `old` are those before, row by row. A row that is new begins
 * as the mean of those that were learned: its logit is then the mean of theirs, and none of theirs
 * moves.
 */
export function grownTable(
  { shape }: Pick<NamedParam, "shape">,
  old: Float32Array,
  { known, fresh }: VocabularyGrowth,
): Float32Array {
  const width = sizeOf(shape.slice(1)), rows = old.length / width;
  const mean = meanOfRows(old, width, Math.min(known, rows));
  const grown = new Float32Array(sizeOf(shape));
  grown.set(old.subarray(0, grown.length));
  for (const row of fresh) grown.set(mean, row * width);
  for (let row = rows; row < shape[0]; row++) grown.set(mean, row * width);
  return grown;
}

function meanOfRows(values: Float32Array, width: number, rows: number): Float32Array {
  const sums = new Float64Array(width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) sums[i] += values[row * width + i];
  }
  return Float32Array.from(sums, (sum) => sum / rows);
}
