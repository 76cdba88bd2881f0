/** Continuing a prompt: text piece by piece, never half a character. */

import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { type Alternative, likeliest } from "./alternatives.ts";
import { type ContextPolicy, type Slide, type Spent, stepsAcross } from "./context.ts";
import { continuation, type TextEnd } from "./continuation.ts";
import type { DecodedStep, Sampling } from "./decoder.ts";
import type { OpenModel } from "./open.ts";
import type { PlacedPrompt } from "./prompts.ts";

export interface GenerateOptions {
  readonly maxTokens: number;
  readonly sampling: Sampling;
  /** Which tokens the penalties of `sampling` count: the prompt's too, or only new ones, as unless given. */
  readonly penalized?: "generated" | "all";
  /** Texts that end a continuation, and are no part of it. */
  readonly stops?: readonly string[];
  /** So many of the likeliest tokens with each token; the model must be opened for logits. */
  readonly alternatives?: number;
  /** What a full context does: end the text unless given. */
  readonly context?: ContextPolicy;
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
  | Slide & { readonly text: "" }
  | Readonly<Spent> & {
    readonly kind: "end";
    /** What was held back as perhaps half a character, or the beginning of a stop text. */
    readonly text: string;
    readonly reason: StopReason;
    readonly tokens: number;
  };

/** A prompt's ids, with the token that begins a text where the model was trained so. More than the context only if that slides. */
export function promptIds(
  { tokenizer, beginning, decoder }: OpenModel,
  prompt: string,
  context: ContextPolicy = "stop",
): number[] {
  const ids = Array.from(tokenizer.encode(prompt));
  if (beginning !== undefined) ids.unshift(beginning);
  if (ids.length === 0 && tokenizer.endOfText !== undefined) ids.push(tokenizer.endOfText);
  const { capacity } = decoder.room;
  if (ids.length === 0) {
    throw new UserError("the prompt is empty, and the tokenizer has no token that begins a text", {
      hint: "give at least one character",
    });
  }
  if (ids.length > capacity && context === "stop") {
    throw new UserError(
      `the prompt has ${plural(ids.length, "token")}, but the model's context ends at ${capacity}`,
      {
        hint: `shorten it by ${plural(ids.length - capacity, "token")}, or let the context slide`,
        exitCode: exitCodes.failed,
      },
    );
  }
  return ids;
}

/** Sampling that counts the prompts' tokens, too, where it penalizes those. The token that begins a text is none of them. */
export function samplingFor(
  { tokenizer }: OpenModel,
  prompts: readonly string[],
  { sampling, penalized = "generated" }: GenerateOptions,
): Sampling {
  const { penalties } = sampling;
  if (!penalties || penalized === "generated") return sampling;
  const before = prompts.map((prompt) => tokenizer.encode(prompt));
  return { ...sampling, penalties: { ...penalties, before } };
}

/** Refuses prompts that cannot be read, by file and line, before work is done for any. */
export function requirePrompts(
  open: OpenModel,
  prompts: readonly PlacedPrompt[],
  context: ContextPolicy = "stop",
): void {
  for (const { text, where } of prompts) {
    try {
      promptIds(open, text, context);
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
  options: GenerateOptions,
): AsyncGenerator<GenerateEvent, void> {
  const { maxTokens, stops = [], alternatives = 0, context = "stop", signal } = options;
  const { decoder, tokenizer } = open, ids = promptIds(open, prompt, context);
  const spent: Spent = {
    promptTokens: 0,
    prefillSeconds: 0,
    decodeSeconds: 0,
    slides: 0,
    rereadSeconds: 0,
  };
  const sampling = samplingFor(open, [prompt], options), text = continuation(tokenizer, stops);
  let tokens = 0, isInterrupted = false;
  for await (const step of stepsAcross(decoder, ids, { maxTokens, sampling, context }, spent)) {
    if ("kind" in step) {
      yield { ...step, text: "" };
      continue;
    }
    if (signal?.aborted) {
      isInterrupted = true;
      break;
    }
    const [id] = step.tokens, [logprob] = step.logprobs, piece = text.push(id);
    tokens++;
    if (id !== tokenizer.endOfText) {
      const others = alternatives > 0 && { alternatives: likeliestTexts(open, step, alternatives) };
      yield { kind: "token", id, logprob, text: piece, ...others };
    }
    if (text.ended) break;
  }
  const rest = text.end(); // asked first: it may end in a stop text
  const last = isInterrupted ? "interrupted" : tokens === maxTokens ? "max_tokens" : "context";
  yield { kind: "end", text: rest, reason: text.ended ?? last, tokens, ...spent };
}

function likeliestTexts({ tokenizer }: OpenModel, { logits }: DecodedStep, count: number) {
  if (!logits) throw new RangeError("opened for tokens, not for logits");
  return likeliest(logits, count).map(({ id, logprob }) => {
    return { id, text: tokenizer.decode([id]), logprob };
  });
}
