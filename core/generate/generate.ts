/** Continuing a prompt: text piece by piece, never half a character. */

import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { streamingDecoder } from "../text/streaming.ts";
import type { Sampling } from "./decoder.ts";
import type { OpenModel } from "./open.ts";

export interface GenerateOptions {
  readonly maxTokens: number;
  readonly sampling: Sampling;
  readonly signal?: AbortSignal;
}

/** `end_of_text`: the model ended the text; `max_tokens`: as many as were wanted; `context`: the model has no more positions. */
export type StopReason = "end_of_text" | "max_tokens" | "context" | "interrupted";

export type GenerateEvent =
  | { readonly kind: "token"; readonly id: number; readonly logprob: number; readonly text: string }
  | {
    readonly kind: "end";
    /** What was held back as perhaps half a character. */
    readonly text: string;
    readonly reason: StopReason;
    readonly promptTokens: number;
    readonly tokens: number;
    readonly prefillSeconds: number;
    readonly decodeSeconds: number;
  };

/** A prompt's ids, with the token that begins a text where the model was trained so. */
export function promptIds({ tokenizer, beginning, decoder }: OpenModel, prompt: string): number[] {
  const ids = Array.from(tokenizer.encode(prompt));
  if (beginning !== undefined) ids.unshift(beginning);
  if (ids.length === 0 && tokenizer.endOfText !== undefined) ids.push(tokenizer.endOfText);
  const { capacity } = decoder.room;
  if (ids.length === 0) {
    throw new UserError("the prompt is empty, and the tokenizer has no token that begins a text", {
      hint: "give at least one character",
    });
  }
  if (ids.length > capacity) {
    throw new UserError(
      `the prompt has ${plural(ids.length, "token")}, but the model's context ends at ${capacity}`,
      {
        hint: `shorten it by ${plural(ids.length - capacity, "token")}`,
        exitCode: exitCodes.failed,
      },
    );
  }
  return ids;
}

/** Continues one prompt. */
export async function* generate(
  open: OpenModel,
  prompt: string,
  { maxTokens, sampling, signal }: GenerateOptions,
): AsyncGenerator<GenerateEvent, void> {
  const { decoder, tokenizer } = open, ids = promptIds(open, prompt);
  const room = decoder.roomAfter(ids.length), count = Math.min(maxTokens, room);
  const began = performance.now();
  await decoder.read([ids]);
  await decoder.device.idle();
  const read = performance.now(), text = streamingDecoder(tokenizer);
  let tokens = 0, reason: StopReason = maxTokens > room ? "context" : "max_tokens";
  for await (const step of decoder.steps(count, sampling)) {
    const [id] = step.tokens, [logprob] = step.logprobs;
    if (signal?.aborted) {
      reason = "interrupted";
      break;
    }
    tokens++;
    if (id === tokenizer.endOfText) {
      reason = "end_of_text";
      break;
    }
    yield { kind: "token", id, logprob, text: text.push(id) };
  }
  yield {
    kind: "end",
    text: text.end(),
    reason,
    promptTokens: ids.length,
    tokens,
    prefillSeconds: (read - began) / 1000,
    decodeSeconds: (performance.now() - read) / 1000,
  };
}

/** Continues as many prompts as the model was opened for, at once; each ends at its end-of-text token or after `maxTokens`. */
export async function generateBatch(
  open: OpenModel,
  prompts: readonly string[],
  { maxTokens, sampling }: GenerateOptions,
): Promise<string[]> {
  const { decoder, tokenizer } = open, rows = prompts.map((prompt) => promptIds(open, prompt));
  if (rows.length !== decoder.room.batch) {
    throw new RangeError(`opened for ${decoder.room.batch} prompts, given ${rows.length}`);
  }
  await decoder.read(rows);
  const longest = Math.max(...rows.map(({ length }) => length));
  const found = rows.map((): number[] => []), ended = rows.map(() => false);
  for await (
    const { tokens } of decoder.steps(Math.min(maxTokens, decoder.roomAfter(longest)), sampling)
  ) {
    tokens.forEach((id, row) => {
      ended[row] ||= id === tokenizer.endOfText;
      if (!ended[row]) found[row].push(id);
    });
    if (ended.every(Boolean)) break;
  }
  return found.map((ids) => tokenizer.decode(ids));
}
