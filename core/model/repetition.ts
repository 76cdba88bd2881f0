/** A loss against saying the token again that was just read. */

import {
  add,
  div,
  equal,
  exp,
  less,
  linearCrossEntropy,
  log,
  maximum,
  mul,
  neg,
  sub,
  sumAll,
  toFloat,
  where,
} from "../../kernels/mod.ts";
import { stopGradient, type Tensor } from "../graph/mod.ts";

/** Below it 1 − p counts as this much. */
const least = 1e-6;

/**
 * Σ −ln(1 − p(the token itself follows)) over the tokens that another one should follow: unlikelihood (Welleck et al. 2019,
 * arXiv 1908.04319) of an immediate repetition. x [tokens, width], head [vocab, width], ids and targets i32 [tokens];
 * negative targets do not count, others as much as their weights f32 [tokens], or 1.
 */
export function repetitionLoss(
  x: Tensor,
  head: Tensor,
  { ids, targets, weights, softcap }: {
    ids: Tensor;
    targets: Tensor;
    weights?: Tensor | undefined;
    softcap: number;
  },
): Tensor {
  const given = toFloat(ids), wanted = toFloat(targets);
  const others = mul(sub(1, less(wanted, 0)), sub(1, equal(given, wanted)));
  const counts = weights ? mul(others, weights) : others;
  const { losses } = linearCrossEntropy(x, head, ids, undefined, { softcap });
  const p = stopGradient(exp(neg(losses))), other = sub(1, p);
  const value = sumAll(mul(counts, neg(log(maximum(other, least)))));
  // The fused loss is differentiated as a weighted sum: d(−ln(1 − p)) = −p / (1 − p) · d(−ln p).
  const slopes = where(less(other, least), 0, neg(div(mul(p, counts), maximum(other, least))));
  const { sum } = linearCrossEntropy(x, head, ids, slopes, { softcap });
  return add(value, sub(sum, stopGradient(sum)));
}
