/**
 * Conversations as token ids, with a loss weight for each.
 *
 * The weights come from the pieces that a template writes, never from the ids. A text between
 * special tokens is encoded as one, as by the tokenizer alone, but for one cut: where an answer
 * begins. There a model starts to write, behind a prompt that is whole, so no token may lie across
 * that place.
 *
 * @module
 */
import { didYouMean } from "../../io/errors.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { chatFault, lossWeightOf, type Message } from "./message.ts";
import type { ChatTemplate, Piece } from "./template.ts";

/** How a conversation is encoded. */
export interface ConversationOptions {
  /**
   * Loss on every answer, each with its message's weight, or on the last alone. All unless given.
   */
  readonly loss?: "all" | "last";
  /** A token to put in front, such as the one that begins each document in training. */
  readonly beginning?: number | undefined;
}

/** A part of an encoded conversation: tokens that stand for one piece of text. */
export interface EncodedPiece {
  readonly text: string;
  readonly isControl: boolean;
  /** The message whose answer this is a part of. */
  readonly answer: number | undefined;
  readonly weight: number;
  /** Its tokens are `ids.subarray(start, end)`. */
  readonly start: number;
  readonly end: number;
  /** Whether its last tokens were cut off; the text is all of it. */
  readonly isCut?: boolean;
}

/** Ids, and what each weighs as a target. */
export interface EncodedConversation {
  readonly ids: Uint32Array<ArrayBuffer>;
  /** The loss weight of token i where it is to be predicted; 0 is not trained on. */
  readonly weights: Float32Array<ArrayBuffer>;
  readonly pieces: readonly EncodedPiece[];
}

/** A conversation for training. */
export function encodeConversation(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  messages: readonly Message[],
  { loss = "all", beginning }: ConversationOptions = {},
): EncodedConversation {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  const weights = messages.map((message, index) =>
    loss === "last" && index !== last ? 0 : lossWeightOf(message, index)
  );
  const pieces = template.render(messages, {
    prompt: "none",
    required: weights.flatMap((weight, index) => weight > 0 ? [index] : []),
    specialTokens: tokenizer.specialTokens,
  });
  const weightOf = ({ answer }: Piece) => answer === undefined ? 0 : weights[answer];
  return encodePieces(tokenizer, template, pieces, { weightOf, beginning });
}

/**
 * Its first tokens, nothing in place of what is cut off: an answer that is cut has no end of turn.
 */
export function cutConversation(
  { ids, weights, pieces }: EncodedConversation,
  tokens: number,
): EncodedConversation {
  return {
    ids: ids.slice(0, tokens),
    weights: weights.slice(0, tokens),
    pieces: pieces.filter(({ start }) => start < tokens)
      .map((piece) => piece.end > tokens ? { ...piece, end: tokens, isCut: true } : piece),
  };
}

/** What a model is given to write the next answer. */
export function encodePrompt(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  messages: readonly Message[],
  { beginning }: Pick<ConversationOptions, "beginning"> = {},
): Uint32Array<ArrayBuffer> {
  const { specialTokens } = tokenizer;
  const pieces = template.render(messages, { prompt: "assistant", required: [], specialTokens });
  return encodePieces(tokenizer, template, pieces, { weightOf: () => 0, beginning }).ids;
}

/** The ids that end an answer: the template's, and what ends a text. */
export function endOfTurn(template: ChatTemplate, tokenizer: Tokenizer): number[] {
  const [usual, ...others] = template.endTokens, { endOfText, specialTokens } = tokenizer;
  const first = usual === undefined ? undefined : controlId(usual, template, tokenizer);
  const ids = [first, ...others.map((name) => specialTokens.get(name)), endOfText];
  return [...new Set(ids.filter((id) => id !== undefined))];
}

/** Special tokens that a template writes and a tokenizer lacks. */
export function missingTokens(template: ChatTemplate, tokenizer: Tokenizer): string[] {
  return template.controlTokens.filter((name) => !tokenizer.specialTokens.has(name));
}

function controlId(name: string, template: ChatTemplate, { specialTokens }: Tokenizer): number {
  const id = specialTokens.get(name);
  if (id !== undefined) return id;
  throw chatFault(
    `the tokenizer has no special token ${name}${didYouMean(name, [...specialTokens.keys()])}`,
    `the chat template ${template.name} needs it: quern sft adds it and grows the model`,
  );
}

interface PieceSettings {
  weightOf(piece: Piece): number;
  readonly beginning: number | undefined;
}

function encodePieces(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  pieces: readonly Piece[],
  { weightOf, beginning }: PieceSettings,
): EncodedConversation {
  const ids: number[] = [], weights: number[] = [], encoded: EncodedPiece[] = [];
  const joined = joinPieces(pieces);
  const idOf = (piece: Piece | undefined) =>
    piece?.isControl ? controlId(piece.text, template, tokenizer) : undefined;
  joined.forEach((piece, i) => {
    const start = ids.length, weight = weightOf(piece), control = idOf(piece);
    const { text, isControl, answer } = piece;
    if (control !== undefined) ids.push(control);
    else {
      const place = i === 0 ? "start" : joined[i - 1].isControl ? "behind_special" : "behind_text";
      const kept = withoutSwallowed(tokenizer, text, [idOf(joined[i - 1]), idOf(joined[i + 1])]);
      for (const id of tokenizer.encode(kept, place)) ids.push(id);
    }
    for (let i = start; i < ids.length; i++) weights.push(weight);
    encoded.push({ text, isControl, answer, weight, start, end: ids.length });
  });
  if (beginning !== undefined && ids[0] !== beginning) {
    return begin(beginning, ids, weights, encoded);
  }
  return { ids: Uint32Array.from(ids), weights: Float32Array.from(weights), pieces: encoded };
}

/** A text without the white space that the special tokens before and behind it take away. */
function withoutSwallowed(
  { swallows }: Tokenizer,
  text: string,
  [before, behind]: readonly (number | undefined)[],
): string {
  const left = before !== undefined && swallows?.get(before)?.right ? text.trimStart() : text;
  return behind !== undefined && swallows?.get(behind)?.left ? left.trimEnd() : left;
}

/** One more token in front, which nothing precedes that could predict it. */
function begin(id: number, ids: number[], weights: number[], pieces: EncodedPiece[]) {
  const first = { text: "", isControl: true, answer: undefined, weight: 0, start: 0, end: 1 };
  const rest = pieces.map((piece) => ({ ...piece, start: piece.start + 1, end: piece.end + 1 }));
  return {
    ids: Uint32Array.from([id, ...ids]),
    weights: Float32Array.from([0, ...weights]),
    pieces: [first, ...rest],
  };
}

/** Texts side by side as one, unless an answer begins or ends between them; empty ones vanish. */
function joinPieces(pieces: readonly Piece[]): Piece[] {
  const joined: Piece[] = [];
  for (const piece of pieces) {
    const before = joined.at(-1);
    if (piece.text === "") continue;
    if (!before || before.isControl || piece.isControl || before.answer !== piece.answer) {
      joined.push(piece);
    } else joined[joined.length - 1] = { ...before, text: before.text + piece.text };
  }
  return joined;
}
