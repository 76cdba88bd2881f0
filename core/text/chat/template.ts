/**
 * How a conversation becomes one text: what every chat template can do.
 *
 * @module
 */
import type { Message } from "./message.ts";

/** A part of the rendered text. */
export interface Piece {
  readonly text: string;
  /** Whether it is a special token of this name; all else is text, whatever it spells. */
  readonly isControl: boolean;
  /**
   * The index of the message whose answer this is a part of: what a model is to write itself, end
   * of turn included. Undefined for all that it is given.
   */
  readonly answer?: number | undefined;
}

/** What is rendered. */
export interface RenderOptions {
  /** Whether the text ends with what an answer follows, as when a model is to write one. */
  readonly prompt: "none" | "assistant";
  /**
   * The assistant's messages, by index, whose answers must be told apart; an error where the
   * template does not let that be done. The others' answers are told apart where it does.
   */
  readonly required: readonly number[];
  /** Names of all special tokens of the tokenizer. */
  readonly specialTokens: ReadonlyMap<string, number>;
}

/** Special tokens by their use. */
export interface NamedTokens {
  readonly bos_token?: string;
  readonly eos_token?: string;
  readonly pad_token?: string;
  readonly unk_token?: string;
}

/** A way to write conversations. */
export interface ChatTemplate {
  /** `chatml`, or the file that it is from. */
  readonly name: string;
  /** As Jinja, for `tokenizer_config.json`. */
  readonly source: string;
  /** The special tokens that it writes; a tokenizer needs them all. */
  readonly controlTokens: readonly string[];
  /** Those that may end an answer, the usual one first. */
  readonly endTokens: readonly string[];
  /** What the source reads as `bos_token` and the like; it is kept with it. */
  readonly namedTokens: NamedTokens;
  /** The whole conversation, piece by piece. */
  render(messages: readonly Message[], options: RenderOptions): Piece[];
}
