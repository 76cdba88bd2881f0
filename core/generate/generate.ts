/** Continuing a prompt: text piece by piece, never half a character. */

import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { type Alternative, likeliest } from "./alternatives.ts";
import { continuation, type TextEnd } from "./continuation.ts";
import type { DecodedStep, Sampling } from "./decoder.ts";
import type { OpenModel } from "./open.ts";
import type { PlacedPrompt } from "./prompts.ts";

export interface GenerateOptions {
  readonly maxTokens: number;
  readonly sampling: Sampling;
  /** Texts that end a continuation, and are no part of it. */
  readonly stops?: readonly string[];
  /** So many of the likeliest tokens with each token; the model must be opened for logits. */
  readonly alternatives?: number;
  readonly signal?: AbortSignal;
}

/** `max_tokens`: as many as were wanted; `context`: the model has no more positions. */
export type StopReason = TextEnd | "max_tokens" | "context" | "interrupted";

export type GenerateEvent =
  | {
    readonly kind: "token";
    readonly id: number;
    readonly logprob: number;
    readonly text: string;
    /** The likeliest first; the token is among them only if it is as likely. */
    readonly alternatives?: readonly (Alternative & { readonly text: string })[];
  }
  | {
    readonly kind: "end";
    /** What was held back as perhaps half a character, or the beginning of a stop text. */
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

/** Refuses prompts that cannot be read, by file and line, before work is done for any. */
export function requirePrompts(open: OpenModel, prompts: readonly PlacedPrompt[]): void {
  for (const { text, where } of prompts) {
    try {
      promptIds(open, text);
    } catch (error) {
      if (!(error instanceof UserError) || where === undefined) throw error;
      const { message, hint, exitCode } = error;
      throw new UserError(message, { where, exitCode, ...(hint !== undefined && { hint }) });
    }
  }
}

/** Continues one prompt. */
export async function* generate(
  open: OpenModel,
  prompt: string,
  { maxTokens, sampling, stops = [], alternatives = 0, signal }: GenerateOptions,
): AsyncGenerator<GenerateEvent, void> {
  const { decoder, tokenizer } = open, ids = promptIds(open, prompt);
  const room = decoder.roomAfter(ids.length), count = Math.min(maxTokens, room);
  const began = performance.now();
  await decoder.read([ids]);
  await decoder.device.idle();
  const read = performance.now(), text = continuation(tokenizer, stops);
  let tokens = 0, reason: StopReason = maxTokens > room ? "context" : "max_tokens";
  for await (const step of decoder.steps(count, sampling)) {
    const [id] = step.tokens, [logprob] = step.logprobs;
    if (signal?.aborted) {
      reason = "interrupted";
      break;
    }
    tokens++;
    const piece = text.push(id);
    if (id !== tokenizer.endOfText) {
      const others = alternatives > 0 && { alternatives: likeliestTexts(open, step, alternatives) };
      yield { kind: "token", id, logprob, text: piece, ...others };
    }
    if (text.ended) break;
  }
  const rest = text.end(); // asked first: it may end in a stop text
  yield {
    kind: "end",
    text: rest,
    reason: text.ended ?? reason,
    promptTokens: ids.length,
    tokens,
    prefillSeconds: (read - began) / 1000,
    decodeSeconds: (performance.now() - read) / 1000,
  };
}

function likeliestTexts({ tokenizer }: OpenModel, { logits }: DecodedStep, count: number) {
  if (!logits) throw new RangeError("opened for tokens, not for logits");
  return likeliest(logits, count).map(({ id, logprob }) => {
    return { id, text: tokenizer.decode([id]), logprob };
  });
}
