/** Which of several choices a model takes. */

/** How the choices' log-probabilities are made comparable. */
export type ChoiceMetric = "acc" | "acc_norm" | "acc_bytes";

/** What a choice's log-probability is divided by, so that long choices stand a chance. */
const lengths: Readonly<Record<ChoiceMetric, (choice: string) => number>> = {
  acc: () => 1,
  acc_norm: (choice) => Array.from(choice).length, // characters as Python counts them
  acc_bytes: (choice) => new TextEncoder().encode(choice).length,
};

/** The index of the likeliest choice; of equals the first. An empty choice is never taken for its length of 0. */
export function chosen(
  metric: ChoiceMetric,
  choices: readonly string[],
  logprobs: readonly number[],
): number {
  const scores = logprobs.map((logprob, i) => logprob / Math.max(1, lengths[metric](choices[i])));
  return scores.reduce((best, score, i) => score > scores[best] ? i : best, 0);
}
