/**
 * Several continuations on stdout, made in batches: texts, or an object a line.
 *
 * @module
 */
import type { BatchText, GenerateOptions, OpenModel, PlacedPrompt } from "../core/generate/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { type OutputOptions, print, timingLine } from "./generate_one.ts";

/** Continues prompts in their order; the i-th draws with the seed + i. */
export async function continueMany(
  model: OpenModel,
  prompts: readonly PlacedPrompt[],
  options: GenerateOptions,
  { format, verbosity }: OutputOptions,
): Promise<void> {
  const { generateBatch, requirePrompts } = await import("../core/generate/mod.ts");
  requirePrompts(model, prompts);
  const indices = indicesOf(prompts), { sampling, signal } = options;
  const { batch } = model.decoder.room;
  let count = 0;
  const sum = { promptTokens: 0, tokens: 0, prefillSeconds: 0, decodeSeconds: 0 };
  if (verbosity === "normal" && format === "json") console.error(`seed ${sampling.seed}`);
  for (let at = 0; at < prompts.length && !signal?.aborted; at += batch) {
    const these = prompts.slice(at, at + batch);
    const { texts, ...seconds } = await generateBatch(model, these.map(({ text }) => text), {
      ...options,
      sampling: { ...sampling, seed: (sampling.seed + at) >>> 0 },
    });
    texts.forEach((made, i) => {
      const prompt = these[i].text, seed = (sampling.seed + at + i) >>> 0;
      if (format === "json") {
        print(`${JSON.stringify(recordOf({ index: indices[at + i], prompt, seed }, made))}\n`);
      } else {
        if (verbosity === "normal") console.error(`seed ${seed}`);
        print(`${prompt}${made.text}\n`);
      }
      count++;
      sum.promptTokens += made.promptTokens;
      sum.tokens += made.tokens;
    });
    sum.prefillSeconds += seconds.prefillSeconds;
    sum.decodeSeconds += seconds.decodeSeconds;
  }
  if (verbosity === "normal") {
    console.error(`${plural(count, "continuation")}: ${timingLine(sum)}`);
  }
  if (signal?.aborted) throw new UserError("interrupted", { exitCode: exitCodes.interrupted });
}

/** The number of each one's prompt; neighbours that are one object are continuations of one. */
function indicesOf(prompts: readonly PlacedPrompt[]): number[] {
  let index = -1;
  return prompts.map((prompt, i) => prompt === prompts[i - 1] ? index : ++index);
}

/** A continuation under the names that scripts see. */
function recordOf(
  of: { index: number; prompt: string; seed: number },
  { text, reason, promptTokens, tokens }: BatchText,
): Record<string, unknown> {
  const { index, prompt, seed } = of;
  return { index, prompt, text, reason, seed, prompt_tokens: promptTokens, tokens };
}
