/** Opened models for evaluation: tables of bigrams over the characters of a text. */

import { openDevice } from "../../../core/device/mod.ts";
import type { EvalEvent, EvalJob, EvalSettings } from "../../../core/eval/evaluate.ts";
import { evaluate } from "../../../core/eval/evaluate.ts";
import { generateAll } from "../../../core/eval/generate.ts";
import type { Results } from "../../../core/eval/results/results.ts";
import { taskOpener } from "../../../core/eval/tasks/mod.ts";
import type { OpenedModel } from "../../../core/open/mod.ts";
import { characterTokenizer } from "../../../core/text/tokenizer.ts";
import { bigramLogprob, bigramModel } from "./toy.ts";

export const letters = "abcdefghij .:?\nAQ01";
export const tokenizer = characterTokenizer(letters);

/** Irregular, and the same each time. */
export const logit = (next: number, before: number) => 3 * Math.sin(7 * next + 3 * before * before);

/** Its log-probability of each token depends on the one before alone. */
export function bigramOpened(positions = 64, beginning: number | undefined = tokenizer.endOfText) {
  const scored = bigramModel(tokenizer.vocabSize, positions, logit);
  const opened: OpenedModel = {
    ...scored,
    folder: "nowhere",
    checkpoint: "made by hand",
    config: undefined,
    tokenizer,
    tokenizer_sha256: tokenizer.hash,
    step: 0,
    beginning,
    [Symbol.dispose]() {},
  };
  return opened;
}

/** What the table says of a continuation; both texts as one. */
export function textLogprob(context: string, continuation: string): number {
  const first = tokenizer.endOfText!;
  const ids = [first, ...tokenizer.encode(context + continuation)];
  let sum = 0;
  for (let at = 1 + [...context].length; at < ids.length; at++) {
    sum += bigramLogprob(tokenizer.vocabSize, logit, [ids[at - 1], ids[at]]);
  }
  return sum;
}

/** The likeliest text after one, up to so many characters or the end of text. */
export function greedyText(context: string, length: number): string {
  const likeliest = (before: number) => {
    const all = Array.from({ length: tokenizer.vocabSize }, (_, id) => logit(id, before));
    return all.indexOf(Math.max(...all));
  };
  const ids: number[] = [];
  let last = [tokenizer.endOfText!, ...tokenizer.encode(context)].at(-1)!;
  for (let i = 0; i < length; i++) {
    last = likeliest(last);
    if (last === tokenizer.endOfText) break;
    ids.push(last);
  }
  return tokenizer.decode(ids);
}

export const settings: EvalSettings = {
  fewshot: "first_n",
  seed: 1234,
  tokenization: "joint",
  sharing: "on",
};

export interface Evaluated {
  readonly results: Results;
  readonly events: readonly EvalEvent[];
}

/** Evaluates tasks of files with the table; `changes` replace parts of the job. */
export async function evaluateFiles(
  files: readonly string[],
  changes: Partial<EvalJob> = {},
  onEvent: (event: EvalEvent) => void = () => {},
): Promise<Evaluated> {
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  const selection = await taskOpener([])(files), events: EvalEvent[] = [];
  const job: EvalJob = {
    opened: bigramOpened(),
    device,
    selection,
    places: { folders: [] },
    settings,
    generate: generateAll,
    ...changes,
  };
  for await (const event of evaluate(job)) {
    events.push(event);
    onEvent(event);
  }
  const last = events.at(-1);
  if (last?.kind !== "results") throw new Error("no results");
  return { results: last.results, events };
}
