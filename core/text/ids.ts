/**
 * The tokenizer of data that come as ids, whose texts nobody knows here: a text is the ids, as numbers.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { checkId, sha256, type Tokenizer } from "./tokenizer.ts";

/** `12 7 5` ↔ [12, 7, 5]. Id 1 begins a text, as in data of SentencePiece. */
export function idsTokenizer(vocabSize: number): Tokenizer {
  const file = `${JSON.stringify({ quern: "ids", vocab_size: vocabSize })}\n`;
  const begin = 1;
  return {
    kind: "ids",
    vocabSize,
    encode: (text) => Uint32Array.from(wordsOf(text), (word) => idOf(word, vocabSize)),
    lastCut: undefined,
    decode: (ids) =>
      [...ids].filter((id) => {
        checkId(id, vocabSize);
        return id !== begin;
      }).join(" "),
    bytesOf: undefined,
    endOfText: begin,
    specialTokens: new Map([["<s>", begin]]),
    file,
    hash: sha256(file),
  };
}

const wordsOf = (text: string) => text.split(/\s+/).filter((word) => word !== "");

function idOf(word: string, vocabSize: number): number {
  const id = Number(word);
  if (/^\d+$/.test(word) && id < vocabSize) return id;
  throw new UserError(`${JSON.stringify(word)} is no token id from 0 to ${vocabSize - 1}`, {
    hint: "the model knows token ids alone: a text is their numbers, such as 12 7 5",
    exitCode: exitCodes.failed,
  });
}
