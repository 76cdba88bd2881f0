/** What else a model might have said. */

/** One of the likeliest tokens. */
export interface Alternative {
  readonly id: number;
  /** Under the model's own distribution, before temperature and cuts. */
  readonly logprob: number;
}

/** The `count` likeliest tokens of a row of logits, the likeliest first; among equals, the first id. */
export function likeliest(logits: Float32Array, count: number): Alternative[] {
  const best: number[] = []; // ids, the likeliest first
  logits.forEach((logit, id) => {
    if (best.length === count && !(logit > logits[best[count - 1]])) return;
    let place = Math.min(best.length, count - 1);
    for (; place > 0 && logit > logits[best[place - 1]]; place--) best[place] = best[place - 1];
    best[place] = id;
  });
  if (best.length === 0) return [];
  const top = logits[best[0]];
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0);
  return best.map((id) => ({ id, logprob: logits[id] - top - Math.log(total) }));
}
