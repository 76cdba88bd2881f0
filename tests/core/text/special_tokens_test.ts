import assert from "node:assert/strict";
import { parseTokenizer } from "../../../core/text/load.ts";
import { withSpecialTokens } from "../../../core/text/special_tokens.ts";
import { byteTokenizer, characterTokenizer } from "../../../core/text/tokenizer.ts";
import { byteFallbackBpe, byteLevelBpe, unigram, wordPiece } from "./fixtures.ts";

const names = ["<|im_start|>", "<|im_end|>"];
const load = (file: unknown) => parseTokenizer(JSON.stringify(file), "tokenizer.json");
const tokenizers = {
  byte: byteTokenizer(),
  character: characterTokenizer("abc the play be to.<|im_start|>"),
  bpe: await load(byteLevelBpe()),
  "byte fallback": await load(byteFallbackBpe()),
  "word piece": await load(wordPiece()),
  unigram: await load(unigram()),
};

for (const [name, before] of Object.entries(tokenizers)) {
  Deno.test(`special tokens: ${name}: new ones follow the last id, texts keep theirs`, async () => {
    const after = await withSpecialTokens(before, names);
    assert.deepEqual(
      names.map((name) => after.specialTokens.get(name)),
      [before.vocabSize, before.vocabSize + 1],
    );
    assert.equal(after.vocabSize, before.vocabSize + 2);
    for (const text of ["to be", "the play", names[0]]) {
      assert.deepEqual(after.encode(text), before.encode(text));
    }
    const ids = [...after.encode("to be"), before.vocabSize, ...after.encode("be")];
    assert.equal(
      after.decode(ids),
      before.decode(ids.filter((id) => id !== before.vocabSize)),
    );
    assert.equal(after.endOfText, before.endOfText);
  });

  Deno.test(`special tokens: ${name}: the file gives the same tokenizer back`, async () => {
    const after = await withSpecialTokens(before, names);
    assert.notEqual(after.hash, before.hash);
    const again = await parseTokenizer(after.file, "tokenizer.json");
    assert.equal(again.hash, after.hash);
    assert.deepEqual(again.specialTokens, after.specialTokens);
    assert.equal(await withSpecialTokens(again, names), again);
    const more = await withSpecialTokens(again, [...names, "<|tool|>"]);
    assert.equal(more.specialTokens.get("<|tool|>"), again.vocabSize);
  });
}

Deno.test("special tokens: a token that is there already keeps its id", async () => {
  const file = byteLevelBpe();
  const think = file.added_tokens[1].id;
  const after = await withSpecialTokens(await load(file), ["<think>", "the"]);
  assert.equal(after.specialTokens.get("<think>"), think);
  assert.equal(after.specialTokens.get("the"), 257);
  assert.equal(after.vocabSize, think + 1);
});

Deno.test("special tokens: a file that lists one twice is refused", async () => {
  const file = '{"quern":"byte","special_tokens":["<a>","<a>"]}\n';
  await assert.rejects(() => parseTokenizer(file, "t.json"), /a list of different names/);
});
