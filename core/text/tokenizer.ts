/**
 * What every tokenizer can do, and the two that are built in: bytes and characters.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { exitCodes, UserError } from "../io/errors.ts";
import type { Piece } from "./byte_table.ts";
import { cutAnywhere, type LastCut } from "./cuts.ts";

/**
 * Text to ids and back. Special tokens are not text: `encode` never yields one, not even for text
 * that spells its name, and `decode` leaves them out.
 */
export interface Tokenizer {
  readonly kind: "byte" | "character" | "ids" | "huggingface";
  /** One more than the largest id. */
  readonly vocabSize: number;
  encode(text: string, place?: TextPlace): Uint32Array<ArrayBuffer>;
  /** Where a long text may be cut to be encoded in parts; undefined where no place is sure. */
  readonly lastCut: LastCut | undefined;
  decode(ids: Iterable<number>): string;
  /**
   * The bytes that a token adds to the text, none for a special token. Undefined where the bytes of
   * a text are not its tokens' bytes in a row (decoders that look at neighbours).
   */
  readonly bytesOf: ((id: number) => Uint8Array) | undefined;
  /** The pieces of one whose tokens are SentencePiece's, by id. */
  readonly pieces?: (() => readonly Piece[]) | undefined;
  /** Closes each document in training data, and starts a text that has no prompt. */
  readonly endOfText: number | undefined;
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Special tokens that take white space beside them away; none unless there. */
  readonly swallows?: ReadonlyMap<number, { readonly left: boolean; readonly right: boolean }>;
  /** The text of its file, exactly as it is saved. */
  readonly file: string;
  /** SHA-256 of `file` in hexadecimal: two tokenizers are the same if this is. */
  readonly hash: string;
}

/**
 * Where a text stands: at the start unless given, behind a special token, or behind other text that
 * is encoded on its own. Some tokenizers put a space in front of a text, depending on it.
 */
export type TextPlace = "start" | "behind_special" | "behind_text";

/** The name that the built-in tokenizers give their end-of-text token. */
export const endOfTextName = "<|endoftext|>";

/** SHA-256 of a text's UTF-8 in hexadecimal. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Every UTF-8 byte is a token; id 256 ends a text, and further special tokens follow. */
export function byteTokenizer(special: readonly string[] = []): Tokenizer {
  const endOfText = 256, vocabSize = endOfText + 1 + special.length;
  const bytesOf = (id: number) => id < 256 ? new Uint8Array([id]) : noBytes;
  const file = `${JSON.stringify({ quern: "byte", ...listed(special) })}\n`;
  return {
    kind: "byte",
    vocabSize,
    encode: (text) => new Uint32Array(new TextEncoder().encode(text)),
    lastCut: cutAnywhere,
    decode: (ids) => decodeBytes(ids, bytesOf, vocabSize),
    bytesOf,
    endOfText,
    specialTokens: namedFrom(endOfText, special),
    file,
    hash: sha256(file),
  };
}

/** A file without further special tokens is as it always was, and so is its hash. */
function listed(special: readonly string[]) {
  return special.length === 0 ? {} : { special_tokens: special };
}

function namedFrom(endOfText: number, special: readonly string[]): ReadonlyMap<string, number> {
  return new Map([endOfTextName, ...special].map((name, i) => [name, endOfText + i]));
}

/**
 * Every character (Unicode code point) of a given set is a token, in the order of their code
 * points; one more ends a text, and further special tokens follow. A character outside the set is
 * an error: there is no id for it.
 */
export function characterTokenizer(
  characters: Iterable<string>,
  special: readonly string[] = [],
): Tokenizer {
  const alphabet = [...new Set(characters)].sort((a, b) => codePoint(a) - codePoint(b));
  const endOfText = alphabet.length, vocabSize = endOfText + 1 + special.length;
  const ids = new Map(alphabet.map((character, id) => [codePoint(character), id]));
  const pieces = alphabet.map((character) => new TextEncoder().encode(character));
  const bytesOf = (id: number) => pieces[id] ?? noBytes;
  const description = { quern: "character", characters: alphabet.join(""), ...listed(special) };
  const file = `${JSON.stringify(description)}\n`;
  return {
    kind: "character",
    vocabSize,
    encode: (text) => encodeCharacters(text, ids),
    lastCut: cutAnywhere,
    decode: (ids) => decodeBytes(ids, bytesOf, vocabSize),
    bytesOf,
    endOfText,
    specialTokens: namedFrom(endOfText, special),
    file,
    hash: sha256(file),
  };
}

function encodeCharacters(text: string, ids: ReadonlyMap<number, number>) {
  const encoded = new Uint32Array(text.length); // an upper bound: astral characters are two units
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const point = text.codePointAt(i)!;
    const id = ids.get(point);
    if (id === undefined) throw unknownCharacter(point, ids.size);
    encoded[count++] = id;
    if (point > 0xffff) i++;
  }
  return encoded.slice(0, count);
}

function unknownCharacter(point: number, known: number): UserError {
  const name = `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
  const shown = JSON.stringify(String.fromCodePoint(point));
  return new UserError(
    `the character ${shown} (${name}) is not among the ${known} that the tokenizer knows`,
    {
      hint:
        "a character tokenizer knows only the text it was made from; the byte tokenizer knows all",
      exitCode: exitCodes.failed,
    },
  );
}

const noBytes = new Uint8Array(0);

/** The text of tokens whose bytes simply follow each other; invalid UTF-8 becomes U+FFFD. */
export function decodeBytes(
  ids: Iterable<number>,
  bytesOf: (id: number) => Uint8Array,
  vocabSize: number,
): string {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let text = "";
  for (const id of ids) {
    checkId(id, vocabSize);
    text += decoder.decode(bytesOf(id), { stream: true });
  }
  return text + decoder.decode();
}

/** Throws for an id that the vocabulary does not have. */
export function checkId(id: number, vocabSize: number): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return;
  throw new RangeError(`token id ${id} is outside the vocabulary of ${vocabSize}`);
}

function codePoint(character: string): number {
  return character.codePointAt(0)!;
}
