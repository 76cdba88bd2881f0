import assert from "node:assert/strict";
import {
  bytesBehind,
  byteTableOf,
  type Piece,
  spaceMark,
  tableOfPieces,
} from "../../../core/text/byte_table.ts";
import { idsTokenizer } from "../../../core/text/ids.ts";
import { parseTokenizer } from "../../../core/text/load.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { readJson } from "../../vectors.ts";
import { byteFallbackBpe, byteLevelBpe, unigram, wordPiece } from "./fixtures.ts";

interface Recorded {
  readonly pieces: readonly { piece: string; kind: Piece["kind"] }[];
  readonly base_bytes: readonly number[];
  readonly has_leading_space: readonly boolean[];
  readonly is_boundary: readonly boolean[];
  readonly tokens: readonly number[];
  readonly bytes_per_target: readonly number[];
}

const open = (file: unknown) => parseTokenizer(JSON.stringify(file), "tokenizer.json");

Deno.test("bytes of pieces: the challenge's rules, as recorded", () => {
  const recorded = readJson<Recorded>("spec/bits_per_byte.json");
  const table = tableOfPieces(recorded.pieces.map(({ piece, kind }) => ({ text: piece, kind })));
  assert.deepEqual([...table.base], recorded.base_bytes);
  assert.deepEqual([...table.leadingSpace].map(Boolean), recorded.has_leading_space);
  assert.deepEqual([...table.boundary].map(Boolean), recorded.is_boundary);
  const [first, ...targets] = recorded.tokens;
  let previous = first;
  const bytes = targets.map((id) => {
    const count = bytesBehind(table, previous, id);
    previous = id;
    return count;
  });
  assert.deepEqual(bytes, recorded.bytes_per_target);
});

Deno.test("bytes of pieces: an unused piece has none and ends no text", () => {
  const pieces: Piece[] = [{ text: "x", kind: "unused" }, {
    text: `${spaceMark}a${spaceMark}`,
    kind: "normal",
  }];
  const table = tableOfPieces(pieces);
  assert.deepEqual([...table.base], [0, 2]);
  assert.equal(bytesBehind(table, 1, 1), 3);
  assert.equal(bytesBehind(table, 0, 1), 2);
});

/** Bytes of a text by its tokens behind one that begins a document. */
function counted(tokenizer: Tokenizer, text: string, begin: number): number {
  const table = byteTableOf(tokenizer)!, ids = [begin, ...tokenizer.encode(text)];
  return ids.slice(1).reduce((sum, id, i) => sum + bytesBehind(table, ids[i], id), 0);
}

Deno.test("bytes of tokens: a text's tokens have the text's bytes, whatever the tokenizer", async () => {
  const text = "the cat in a hat. é", bytes = new TextEncoder().encode(text).length;
  assert.equal(counted(byteTokenizer(), text, 256), bytes);
  assert.equal(counted(characterTokenizer(text), text, 12), bytes);
  const bpe = await open(byteLevelBpe());
  assert.equal(counted(bpe, text, bpe.endOfText!), bytes);
  const sentencePiece = await open(byteFallbackBpe());
  assert.equal(sentencePiece.bytesOf, undefined);
  assert.equal(counted(sentencePiece, text, 1), bytes);
  assert.equal(counted(await open(unigram()), "to be to", 0), 8);
});

Deno.test("bytes of tokens: unknown where a text is not its tokens' bytes in a row", async () => {
  assert.equal(byteTableOf(await open(wordPiece())), undefined);
  assert.equal(byteTableOf(idsTokenizer(8)), undefined);
});
