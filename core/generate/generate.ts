/** Continuing a prompt: text piece by piece, never half a character. */

import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { type Alternative, likeliest } from "./alternatives.ts";
import { type ContextPolicy, type Spent, stepsAcross } from "./context.ts";
import { type Continuation, continuation, type TextEnd } from "./continuation.ts";
import type { DecodedStep, Sampling } from "./decoder.ts";
import type { TextModel } from "./open.ts";
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

/** A token of a text. */
export interface TokenEvent {
  readonly kind: "token";
  readonly id: number;
  /** Under the model's own distribution: before penalties, temperature and cuts. */
  readonly logprob: number;
  /** What is certain by this token: it may belong to later ones' characters, or be held back. */
  readonly text: string;
  /** The likeliest first; the token is among them only if it is as likely. */
  readonly alternatives?: readonly (Alternative & { readonly text: string })[];
}

export interface EndEvent extends Readonly<Spent> {
  readonly kind: "end";
  /** What was held back as perhaps half a character, or the beginning of a stop text. */
  readonly text: string;
  readonly reason: StopReason;
  /** Tokens of the prompt that were read, and those that were generated. */
  readonly promptTokens: number;
  readonly tokens: number;
  /** How often the context slid. */
  readonly slides: number;
}

/** The context is full: only so many of the last tokens are kept, and read again. */
export interface SlideEvent {
  readonly kind: "slide";
  readonly kept: number;
  readonly text: "";
}

export type GenerateEvent = TokenEvent | SlideEvent | EndEvent;

/** A prompt's ids, with the token that begins a text where the model was trained so. More than the context only if that slides. */
export function promptIds(
  { tokenizer, beginning, decoder }: TextModel,
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
        hint: `shorten it by ${
          plural(ids.length - capacity, "token")
        }, or read its end alone: --context slide`,
        exitCode: exitCodes.failed,
      },
    );
  }
  return ids;
}

/** Sampling that counts the prompts' tokens, too, where it penalizes those. The token that begins a text is none of them. */
export function samplingFor(
  { tokenizer }: TextModel,
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
  open: TextModel,
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
  open: TextModel,
  prompt: string,
  options: GenerateOptions,
): AsyncGenerator<GenerateEvent, void> {
  for await (const { event } of generateRows(open, [prompt], options)) yield event;
}

interface Row {
  promptTokens: number;
  /** Tokens that are wanted and fit the context. */
  readonly limit: number;
  readonly continuation: Continuation;
  tokens: number;
  slides: number;
}

/**
 * Continues as many prompts as the model was opened for, or fewer, and tells what comes of each row;
 * the ends come last, in the rows' order. Row i draws with seed + i. What a row comes to does not
 * depend on its neighbours, but for rounding in products of another size.
 */
export async function* generateRows(
  open: TextModel,
  prompts: readonly string[],
  options: GenerateOptions,
): AsyncGenerator<{ row: number; event: GenerateEvent }, void> {
  const { maxTokens, stops = [], alternatives = 0, context = "stop", signal } = options;
  const { decoder, tokenizer } = open, { batch } = decoder.room;
  if (prompts.length === 0 || prompts.length > batch) {
    throw new RangeError(`opened for ${batch} prompts, given ${prompts.length}`);
  }
  const ids = prompts.map((prompt) => promptIds(open, prompt, context));
  using _claim = decoder.claim();
  const rows = ids.map(({ length }): Row => ({
    promptTokens: length,
    limit: context === "slide" ? maxTokens : Math.min(maxTokens, decoder.roomAfter(length)),
    continuation: continuation(tokenizer, stops),
    tokens: 0,
    slides: 0,
  }));
  const isDone = ({ continuation, tokens, limit }: Row) =>
    continuation.ended !== undefined || tokens === limit;
  const spent: Spent = { prefillSeconds: 0, decodeSeconds: 0, rereadSeconds: 0 };
  const steps = stepsAcross(decoder, ids, {
    maxTokens,
    sampling: samplingFor(open, prompts, options),
    context,
    isDone: (row) => isDone(rows[row]),
  }, spent);
  for await (const step of steps) {
    if ("kind" in step) {
      const { row, kept } = step, slid = rows[row];
      slid.slides++;
      if (slid.tokens === 0) slid.promptTokens = kept;
      yield { row, event: { kind: "slide", kept, text: "" } };
      continue;
    }
    if (signal?.aborted) break;
    for (const [row, { continuation }] of rows.entries()) {
      if (isDone(rows[row])) continue;
      const id = step.tokens[row], logprob = step.logprobs[row], text = continuation.push(id);
      rows[row].tokens++;
      if (id === tokenizer.endOfText) continue;
      const others = alternatives > 0 && {
        alternatives: likeliestTexts(open, logitsOf(step, row, batch), alternatives),
      };
      yield { row, event: { kind: "token", id, logprob, text, ...others } };
    }
    if (rows.every(isDone)) break;
  }
  for (const [row, made] of rows.entries()) {
    yield { row, event: { ...endOf(made, maxTokens), ...spent } };
  }
}

function endOf(
  { limit, continuation, ...counts }: Row,
  maxTokens: number,
): Omit<EndEvent, keyof Spent> {
  const text = continuation.end(); // asked first: it may end in a stop text
  const isCut = counts.tokens < limit;
  const last = isCut ? "interrupted" : limit < maxTokens ? "context" : "max_tokens";
  return { kind: "end", text, reason: continuation.ended ?? last, ...counts };
}

function logitsOf({ logits }: DecodedStep, row: number, rows: number): Float32Array {
  if (!logits) throw new RangeError("opened for tokens, not for logits");
  const vocab = logits.length / rows;
  return logits.subarray(row * vocab, (row + 1) * vocab);
}

function likeliestTexts({ tokenizer }: TextModel, logits: Float32Array, count: number) {
  return likeliest(logits, count).map(({ id, logprob }) => {
    return { id, text: tokenizer.decode([id]), logprob };
  });
}
