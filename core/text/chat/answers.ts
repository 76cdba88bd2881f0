/**
 * Where answers lie in a conversation that a Jinja template wrote.
 *
 * An answer is what the whole text holds behind the prompt for it, up to its end of turn. Prompts
 * are rendered one by one, and each must be how the whole text begins: else a model would be
 * trained behind another text than it is given.
 *
 * @module
 */
import { UserError } from "../../io/errors.ts";
import { chatFault } from "./message.ts";
import type { Disguise } from "./typed_control.ts";

/** A message as a template sees it. */
export interface GivenMessage {
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

/** A conversation that is being written. */
export interface Writing {
  readonly messages: readonly GivenMessage[];
  readonly secret: Disguise;
  /**
   * What ends an answer in a conversation's last turn, and in the others if that is another token.
   */
  readonly turnEnds: readonly string[];
  /** The text of some messages, with or without the prompt for an answer behind them. */
  write(messages: readonly GivenMessage[], prompt: boolean): string;
  /** Whether the whole text ends with such a prompt. */
  readonly isPrompted: boolean;
}

/** A part of the whole text, by its characters. */
export interface Span {
  readonly start: number;
  readonly end: number;
  /** The message whose answer it is. */
  readonly answer: number;
}

/** The answers, as far as they are found; an error where one of those that are required is not. */
export function findAnswers(
  writing: Writing,
  whole: string,
  required: readonly number[],
): Span[] {
  return answersOf(writing.messages).flatMap((answer) => {
    if (!required.includes(answer)) return readAnswer(writing, whole, answer);
    const span = answerSpan(writing, whole, answer);
    requireWhole(writing.messages, whole, span);
    return [span];
  });
}

/**
 * Of an answer that is only read its beginning counts, where its ids are cut off from those of its
 * prompt.
 */
function readAnswer(
  { messages, secret, turnEnds, write }: Writing,
  whole: string,
  answer: number,
): Span[] {
  try {
    const prompt = write(messages.slice(0, answer), true);
    if (!whole.startsWith(prompt)) return [];
    const pieces = secret.cut(whole.slice(prompt.length));
    const end = pieces.findIndex(({ text, isControl }) => isControl && turnEnds.includes(text));
    const length = pieces.slice(0, Math.max(0, end) + 1).reduce(
      (sum, { text }) => sum + text.length,
      0,
    );
    return [{ start: prompt.length, end: prompt.length + length, answer }];
  } catch (error) {
    if (error instanceof UserError) return [];
    throw error;
  }
}

/** The assistant's messages, by index. */
export function answersOf(messages: readonly GivenMessage[]): number[] {
  return messages.flatMap(({ role }, index) => role === "assistant" ? [index] : []);
}

function answerSpan(writing: Writing, whole: string, answer: number): Span {
  const { messages, write } = writing;
  const before = messages.slice(0, answer), prompt = write(before, true);
  if (!whole.startsWith(prompt)) throw otherPrompt(messages, answer);
  const start = prompt.length, turn = ownTurn(writing, whole, answer);
  const isOwn = turn.length >= start && whole.startsWith(turn);
  const written = isOwn ? turn.slice(start) : inHistory(writing, whole.slice(start), answer);
  requirePrompt(writing, before, written, answer);
  return { start, end: start + lengthOfAnswer(writing, written, answer), answer };
}

/** The text up to the end of a message, where nothing follows it. */
function ownTurn({ messages, isPrompted, write }: Writing, whole: string, answer: number): string {
  const isLast = answer === messages.length - 1 && !isPrompted;
  return isLast ? whole : write(messages.slice(0, answer + 1), false);
}

/**
 * The turn of an answer that the template writes otherwise once other messages follow, as without
 * its thinking: it ends with the first token that ends turns, before the next answer's prompt does.
 */
function inHistory({ messages, secret, turnEnds, write }: Writing, rest: string, answer: number) {
  const next = messages.findIndex(({ role }, index) => role === "assistant" && index > answer);
  const before = messages.slice(0, answer), pieces = secret.cut(rest);
  const end = pieces.findIndex(({ text, isControl }) => isControl && turnEnds.includes(text));
  const turn = pieces.slice(0, end + 1).map(({ text }) => text).join("");
  if (end < 0) throw noEnd(answer);
  if (next < 0) return turn;
  const room = write(messages.slice(0, next), true).length - write(before, true).length;
  if (turn.length > room) throw noEnd(answer);
  return turn;
}

/** A template that leaves the head of an answer to the model writes no prompt at all. */
function requirePrompt(
  { write, secret, turnEnds }: Writing,
  before: readonly GivenMessage[],
  written: string,
  answer: number,
) {
  const [head, control] = secret.cut(written);
  if (control === undefined || head.text.trim() !== "" || turnEnds.includes(control.text)) return;
  if (before.length === 0 || write(before, false) !== write(before, true)) return;
  throw chatFault(
    `messages[${answer}]: the chat template has no generation prompt: a model would learn to write ${control.text}`,
    "take a template that knows add_generation_prompt",
  );
}

/** How much of a turn's text is the answer and its end. */
function lengthOfAnswer({ secret, turnEnds }: Writing, written: string, answer: number): number {
  const pieces = secret.cut(written);
  const usual = pieces.findLastIndex(({ text, isControl }) => isControl && turnEnds.includes(text));
  const last = usual >= 0 ? usual : pieces.findLastIndex(({ isControl }) => isControl);
  const behind = pieces.slice(last + 1).map(({ text }) => text).join("");
  if (last < 0 || (usual < 0 && behind.trim() !== "")) throw noEnd(answer);
  return written.length - behind.length;
}

/** Nothing of an answer may be missing in what is trained on; white space may be another. */
function requireWhole(
  messages: readonly GivenMessage[],
  whole: string,
  { start, end, answer }: Span,
) {
  const written = whole.slice(start, end), message = messages[answer];
  const bare = (text: string) => text.replaceAll(/\s+/g, "");
  for (const part of [message.content, message.reasoning_content, message.thinking]) {
    if (typeof part === "string" && !bare(written).includes(bare(part))) {
      throw leftOut(messages, answer);
    }
  }
}

/** What to try; an answer that others follow may be left out. */
function otherTemplate(messages: readonly GivenMessage[], answer: number): string {
  const isLast = messages.every(({ role }, index) => role !== "assistant" || index <= answer);
  return isLast
    ? "take another template"
    : "train on the last answer alone (loss_on: last), or take another template";
}

function otherPrompt(messages: readonly GivenMessage[], answer: number): UserError {
  return chatFault(
    `messages[${answer}]: the chat template writes another text before this answer than the prompt that a model gets`,
    otherTemplate(messages, answer),
  );
}

function leftOut(messages: readonly GivenMessage[], answer: number): UserError {
  return chatFault(
    `messages[${answer}]: the chat template leaves out or changes a part of this answer, such as its thinking`,
    otherTemplate(messages, answer),
  );
}

function noEnd(answer: number): UserError {
  return chatFault(
    `messages[${answer}]: the chat template writes no special token behind this answer: a model could not learn to stop`,
    "take a template that ends answers with one; a tokenizer_config.json beside it says which tokens are special",
  );
}
