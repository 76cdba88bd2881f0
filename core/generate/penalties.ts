/** Making tokens that came before less likely. */

import {
  add,
  cacheWrite,
  div,
  fill,
  less,
  logSumExpLast,
  mul,
  reshape,
  sample,
  sub,
  sumLast,
  where,
} from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";

/** What is taken from the logits of tokens that were counted, before anything else is done to them. */
export interface Penalties {
  /** Divides logits above 0 and multiplies those below (Keskar et al. 2019); 1 changes nothing. */
  readonly repetition: number;
  /** Subtracted once; 0 changes nothing. */
  readonly presence: number;
  /** Subtracted for each time; 0 changes nothing. */
  readonly frequency: number;
  /** Tokens of each row that are counted from the start; none unless given. */
  readonly before?: readonly ArrayLike<number>[];
}

export const noPenalties: Penalties = { repetition: 1, presence: 0, frequency: 0 };

export const hasPenalties = ({ repetition, presence, frequency }: Penalties): boolean =>
  repetition !== 1 || presence !== 0 || frequency !== 0;

export type PenaltyTensors = Record<"repetition" | "presence" | "frequency", Tensor>;

/** The upload of each penalty that decoding takes, a number for all rows. */
export const penaltyNames = ["repetition", "presence", "frequency"] as const;

/** logits and counts [batch, vocab] → logits [batch, vocab] */
export function penalize(
  logits: Tensor,
  counts: Tensor,
  { repetition, presence, frequency }: PenaltyTensors,
): Tensor {
  const isCounted = less(0, counts);
  const scaled = where(less(0, logits), div(logits, repetition), mul(logits, repetition));
  const subtracted = add(mul(isCounted, presence), mul(counts, frequency));
  return sub(where(isCounted, scaled, logits), subtracted);
}

/**
 * Chooses among penalized logits, and counts what was chosen. The log-probability is the one without
 * penalties.
 */
export function samplePenalized(
  logits: Tensor,
  counts: Tensor,
  penalties: PenaltyTensors,
  [uniform, settings]: readonly [Tensor, Tensor],
): { token: Tensor; logprob: Tensor; counts: Tensor } {
  const [batch] = logits.shape;
  const { token } = sample(penalize(logits, counts, penalties), uniform, settings);
  const chosen = cacheWrite(fill(logits.shape, 0), fill([batch, 1], 1), token); // one-hot
  const logit = sumLast(where(chosen, logits, 0));
  return {
    token,
    logprob: reshape(sub(logit, logSumExpLast(logits)), [batch]),
    counts: add(counts, chosen),
  };
}
