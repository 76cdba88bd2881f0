import assert from "node:assert/strict";
import { continuation } from "../../../core/generate/continuation.ts";
import { byteTokenizer } from "../../../core/text/tokenizer.ts";

/** What a text of a byte a token gives, piece by piece and at the end. */
function follow(text: string, stops: string[], cut = 0) {
  const tokenizer = byteTokenizer(), row = continuation(tokenizer, stops);
  const ids = Array.from(tokenizer.encode(text)), pieces: string[] = [];
  for (const id of ids.slice(0, ids.length - cut)) {
    pieces.push(row.push(id));
    if (row.ended) break;
  }
  return { pieces, text: pieces.join("") + row.end(), ended: row.ended };
}

// llama.cpp 4036, java-llama.cpp 3, mlx-vlm PR 1076: characters split over tokens.
Deno.test("replay: llama.cpp 4036: characters of many tokens come whole, stop texts among them", () => {
  const text = "👍🏽 🇯🇵 日本語";
  const whole = follow(text, []);
  assert.equal(whole.text, text);
  assert.ok(whole.pieces.every((piece) => !piece.includes("\uFFFD")));
  const stopped = follow(text, ["本"]);
  assert.deepEqual([stopped.text, stopped.ended], ["👍🏽 🇯🇵 日", "stop"]);
  assert.ok(stopped.pieces.every((piece) => !piece.includes("\uFFFD")));
  // 🇯🇵 is two characters: the first of them is held back until the second comes
  assert.equal(follow(text, ["🇯🇵"]).text, "👍🏽 ");
  assert.equal(follow("🇯🇲", ["🇯🇵"]).text, "🇯🇲");
  assert.equal(follow(text, [], 1).text, "👍🏽 🇯🇵 日本\uFFFD");
  assert.equal(follow("a日", ["\uFFFD"], 1).text, "a"); // known only at the end
});

Deno.test("continuation: the token that ends a text is no text, and nothing comes behind it", () => {
  const tokenizer = byteTokenizer(), row = continuation(tokenizer, ["ab"]);
  assert.equal(row.push(97), ""); // may be the stop text
  assert.equal(row.push(tokenizer.endOfText!), "");
  assert.equal(row.ended, "end_of_text");
  assert.equal(row.end(), "a");
});
