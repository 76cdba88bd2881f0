/**
 * Several continuations on stdout, made in batches: texts, or an object a line.
 *
 * @module
 */
import type { BatchText, GenerateOptions, OpenModel, PlacedPrompt } from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import {
  isDrawn,
  jsonOfToken,
  print,
  slideLine,
  timingLine,
  type Verbosity,
} from "./generate_one.ts";

/** Texts, an object for each, or an object that also tells of each token. */
export type ManyFormat = "text" | "records" | "tokens";

export interface ManyOutput {
  readonly format: ManyFormat;
  readonly verbosity: Verbosity;
}

/** What is continued: each prompt so many times. */
export interface Wanted {
  readonly prompts: readonly PlacedPrompt[];
  readonly n: number;
}

/** Continues prompts in their order; the i-th continuation draws with the seed + i. */
export async function continueMany(
  model: OpenModel,
  { prompts, n }: Wanted,
  options: GenerateOptions,
  { format, verbosity }: ManyOutput,
): Promise<void> {
  const { generateBatch, requirePrompts } = await import("../core/generate/mod.ts");
  requirePrompts(model, prompts, options.context);
  const { sampling, signal } = options, { batch } = model.decoder.room, total = n * prompts.length;
  const seedOf = (at: number) => (sampling.seed + at) >>> 0;
  const sum = { ...nothing };
  let count = 0, full = 0;
  const saysSeeds = verbosity === "normal" && isDrawn(sampling);
  if (saysSeeds && format !== "text") console.error(`seed ${sampling.seed}`);
  for (let at = 0; at < total && !signal?.aborted; at += batch) {
    const indices = Array.from(
      { length: Math.min(batch, total - at) },
      (_, i) => Math.floor((at + i) / n),
    );
    const texts = indices.map((index) => prompts[index].text);
    const made = await generateBatch(model, texts, {
      ...options,
      sampling: { ...sampling, seed: seedOf(at) },
    });
    for (const [i, row] of made.texts.entries()) {
      const of = { index: indices[i], prompt: texts[i], seed: seedOf(at + i) };
      if (format === "text") {
        if (saysSeeds) console.error(`seed ${of.seed}`);
        print(`${of.prompt}${row.text}\n`);
      } else print(`${JSON.stringify(recordOf(of, row, format))}\n`);
      count++;
      if (row.reason === "context") full++;
      addTo(sum, row);
    }
    addTo(sum, made);
  }
  if (verbosity === "normal") {
    console.error(`${plural(count, "continuation")}: ${timingLine(sum)}`);
    if (sum.slides > 0) console.error(slideLine(sum));
    if (full > 0) console.error(fullLine(model, full));
  }
  if (signal?.aborted) throw new UserError("interrupted", { exitCode: exitCodes.interrupted });
}

const nothing = {
  promptTokens: 0,
  tokens: 0,
  slides: 0,
  prefillSeconds: 0,
  decodeSeconds: 0,
  rereadSeconds: 0,
};

function addTo(sum: typeof nothing, part: Partial<typeof nothing>): void {
  for (const key of Object.keys(nothing) as (keyof typeof nothing)[]) sum[key] += part[key] ?? 0;
}

function fullLine({ decoder }: OpenModel, count: number): string {
  const capacity = plural(decoder.room.capacity, "token");
  return `${count} of them stopped: the model's context of ${capacity} is full; ` +
    "--context slide goes on";
}

/** A continuation under the names that scripts see. */
function recordOf(
  { index, prompt, seed }: { index: number; prompt: string; seed: number },
  { text, reason, promptTokens, tokens, slides, events }: BatchText,
  format: "records" | "tokens",
): Record<string, unknown> {
  const record = {
    index,
    prompt,
    text,
    reason,
    seed,
    prompt_tokens: promptTokens,
    tokens,
    slides,
  };
  return format === "records" ? record : { ...record, logprobs: events.map(jsonOfToken) };
}
