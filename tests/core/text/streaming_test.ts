import assert from "node:assert/strict";
import fc from "fast-check";
import { huggingfaceTokenizer } from "../../../core/text/huggingface.ts";
import { streamingDecoder } from "../../../core/text/streaming.ts";
import { byteTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { byteFallbackBpe, byteLevelBpe, unigram, wordPiece } from "./fixtures.ts";

const open = (file: object) => huggingfaceTokenizer(JSON.stringify(file), "tokenizer.json");
const tokenizers: Record<string, Tokenizer> = {
  byte: byteTokenizer(),
  "byte-level BPE": open(byteLevelBpe()),
  "byte-fallback BPE": open(byteFallbackBpe()),
  WordPiece: open(wordPiece()),
  Unigram: open(unigram()),
};

/** The pieces that come while `ids` arrive, the flush last. */
function stream(tokenizer: Tokenizer, ids: Iterable<number>): string[] {
  const decoder = streamingDecoder(tokenizer);
  return [...Array.from(ids, (id) => decoder.push(id)), decoder.end()];
}

for (const name of ["byte", "byte-level BPE", "byte-fallback BPE"]) {
  Deno.test(`replay: ggml-org/llama.cpp 4036: ${name}: no half characters are shown`, () => {
    const tokenizer = tokenizers[name];
    const text = "👩‍👩‍👧 flags 🇩🇪🇫🇷 漢字 é " + "the end. ".repeat(20);
    const ids = tokenizer.encode(text);
    const pieces = stream(tokenizer, ids);
    assert.ok(pieces.every((piece) => piece.isWellFormed() && !piece.includes("\uFFFD")));
    assert.equal(pieces.join(""), tokenizer.decode(ids));

    const cut = [...tokenizer.encode("fine 🙂")].slice(0, -2); // ends inside the last character
    const cutPieces = stream(tokenizer, cut);
    assert.ok(cutPieces.slice(0, -1).every((piece) => !piece.includes("\uFFFD")));
    assert.equal(cutPieces.join(""), tokenizer.decode(cut));
  });
}

for (const [name, tokenizer] of Object.entries(tokenizers)) {
  Deno.test(`streaming: ${name}: for any tokens the pieces are the full decode`, () => {
    const tokens = fc.array(fc.nat({ max: tokenizer.vocabSize - 1 }), { maxLength: 120 });
    fc.assert(fc.property(tokens, (ids) => {
      assert.equal(stream(tokenizer, ids).join(""), tokenizer.decode(ids));
    }));
  });
}
