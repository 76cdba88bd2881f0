/** Which form each tensor takes so that a model fits into so many bytes, at the least cost. */

import { estimateBytes, type Form, restore, store, type Weight } from "./forms.ts";
import type { LevelOptions } from "./levels.ts";

/** A form that a tensor may take. */
export interface FormCost {
  readonly form: Form;
  /** About, after compression. */
  readonly bytes: number;
  /** Squared error of all its weights together. */
  readonly error: number;
}

/** A tensor's forms, and what a unit of its squared error costs beside others'. */
export interface Choice {
  readonly name: string;
  readonly costs: readonly FormCost[];
  readonly importance: number;
}

/** What each form would cost a tensor. Forms that need more bytes than another and leave no less error are left out. */
export function formCosts(
  weight: Weight,
  forms: readonly Form[],
  options: LevelOptions,
): FormCost[] {
  const values = weight.read(), known = { ...weight, read: () => values };
  const costs = forms.map((form): FormCost => {
    const stored = store(known, form, options), back = restore(stored);
    const error = back.reduce((sum, x, i) => sum + (x - values[i]) ** 2, 0);
    return { form, bytes: estimateBytes(stored), error };
  });
  return costs.filter((one) =>
    !costs.some((other) =>
      other !== one && other.bytes <= one.bytes && other.error <= one.error &&
      (other.bytes < one.bytes || other.error < one.error)
    )
  ).sort((a, b) => a.bytes - b.bytes);
}

/** What a unit of a tensor's squared error costs where nothing was measured: its part of the tensor's own squares. */
export function relativeImportance(values: Float32Array): number {
  const squares = values.reduce((sum, x) => sum + x * x, 0);
  return squares > 0 ? 1 / squares : 0;
}

/**
 * Everything at its smallest, then step by step what spares most for its bytes, so long as the sum stays within `limit`.
 * Undefined where the smallest forms are too large already.
 */
export function chooseForms(
  choices: readonly Choice[],
  limit: number,
): Map<string, FormCost> | undefined {
  const chosen = new Map(choices.map(({ name, costs }) => [name, costs[0]]));
  let bytes = [...chosen.values()].reduce((sum, one) => sum + one.bytes, 0);
  if (bytes > limit) return undefined;
  for (;;) {
    let best: { name: string; to: FormCost; more: number; gain: number } | undefined;
    for (const { name, costs, importance } of choices) {
      const now = chosen.get(name)!;
      for (const to of costs) {
        const more = to.bytes - now.bytes, spared = (now.error - to.error) * importance;
        if (more <= 0 || bytes + more > limit) continue;
        const gain = spared / more;
        if (!best || gain > best.gain) best = { name, to, more, gain };
      }
    }
    if (!best || best.gain <= 0) return chosen;
    chosen.set(best.name, best.to);
    bytes += best.more;
  }
}

/** A budget is used well from here on. */
export const wellUsed = 0.98;

/** What came of a budget. */
export interface Fitted<T> {
  readonly forms: ReadonlyMap<string, Form>;
  readonly made: T;
  readonly bytes: number;
  /** `full`: every tensor has its largest form; `over`: not even the smallest fit. */
  readonly outcome: "fits" | "full" | "over";
}

/**
 * Makes files until one is within the budget and uses it well, or `attempts` are used up. Estimates are corrected by what
 * the files turn out to be. `make` writes one with these forms; `bytesOf` is what counts against the budget.
 */
export function fitBudget<T>(
  choices: readonly Choice[],
  budget: number,
  make: (forms: ReadonlyMap<string, Form>) => T,
  bytesOf: (made: T) => number,
  attempts = 8,
): Fitted<T> {
  const smallest = new Map(choices.map(({ name, costs }) => [name, costs[0]]));
  const largest = new Map(choices.map(({ name, costs }) => [name, costs.at(-1)!]));
  const attempt = (chosen: ReadonlyMap<string, FormCost>) => {
    const forms = new Map([...chosen].map(([name, { form }]) => [name, form]));
    const made = make(forms), bytes = bytesOf(made);
    return { forms, made, bytes };
  };
  const all = estimateOf(largest), least = estimateOf(smallest);
  let low: Attempt<T> | undefined, high: Attempt<T> | undefined, limit = Math.min(all, budget);
  for (let i = 0; i < attempts; i++) {
    const chosen = chooseForms(choices, limit) ?? smallest, estimate = estimateOf(chosen);
    const one = { ...attempt(chosen), limit };
    if (one.bytes > budget) {
      if (estimate <= least) return { ...one, outcome: "over" };
      high = one;
    } else {
      if (estimate >= all) return { ...one, outcome: "full" };
      low = one; // limits only grow from one that fits
      if (one.bytes >= wellUsed * budget) break;
    }
    limit = Math.min(all, Math.max(least, nextLimit(low, high, budget)));
  }
  if (low) return { ...low, outcome: "fits" };
  const last = attempt(smallest);
  return { ...last, outcome: last.bytes <= budget ? "fits" : "over" };
}

/** A file, and the limit that its forms were chosen for. */
interface Attempt<T> extends Pick<Fitted<T>, "forms" | "made" | "bytes"> {
  readonly limit: number;
}

/**
 * Between a limit whose file fits and one whose file does not: on their line, but never at an end, as sizes go in steps.
 * With one of them alone by its ratio.
 */
function nextLimit<T>(
  low: Attempt<T> | undefined,
  high: Attempt<T> | undefined,
  budget: number,
): number {
  const goal = (1 + wellUsed) / 2 * budget, known = low ?? high;
  if (low && high) {
    const part = (goal - low.bytes) / (high.bytes - low.bytes);
    return low.limit + Math.min(0.75, Math.max(0.25, part)) * (high.limit - low.limit);
  }
  return known!.limit * goal / known!.bytes;
}

function estimateOf(chosen: ReadonlyMap<string, FormCost>): number {
  return [...chosen.values()].reduce((sum, { bytes }) => sum + bytes, 0);
}
