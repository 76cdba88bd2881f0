import assert from "node:assert/strict";
import fc from "fast-check";
import { byteTokenizer, characterTokenizer } from "../../../core/text/tokenizer.ts";
import { loadTokenizer, parseTokenizer } from "../../../core/text/load.ts";
import { huggingfaceTokenizer } from "../../../core/text/huggingface.ts";
import { withTempDir } from "../../support.ts";
import { byteFallbackBpe, byteLevelBpe, unigram, wordPiece } from "./fixtures.ts";
import { awkward } from "./samples.ts";

const open = (file: object) => huggingfaceTokenizer(JSON.stringify(file), "tokenizer.json");
const anyText = fc.string({ unit: "binary" }); // any code points, NUL and controls among them

Deno.test("replay: dotnet/machinelearning 7715: bytes give back every text", () => {
  const tokenizer = byteTokenizer();
  for (const text of awkward) assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  fc.assert(fc.property(anyText, (text) => tokenizer.decode(tokenizer.encode(text)) === text));
});

Deno.test("replay: rasbt/LLMs-from-scratch 495: characters give back every text", () => {
  for (const text of awkward) {
    const tokenizer = characterTokenizer(text);
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
  fc.assert(fc.property(anyText, (text) => {
    const tokenizer = characterTokenizer(text);
    const ids = tokenizer.encode(text);
    return ids.length === [...text].length && tokenizer.decode(ids) === text;
  }));
});

Deno.test("replay: huggingface/tokenizers 830: byte-level BPE gives back every text", () => {
  const tokenizer = open(byteLevelBpe());
  for (const text of awkward) assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  fc.assert(fc.property(anyText, (text) => tokenizer.decode(tokenizer.encode(text)) === text));
});

Deno.test("tokenizers: the bytes of the tokens, joined, are the bytes of the text", () => {
  for (const tokenizer of [byteTokenizer(), characterTokenizer(awkward[2]), open(byteLevelBpe())]) {
    const bytes = [...tokenizer.encode(awkward[2])].flatMap((id) => [...tokenizer.bytesOf!(id)]);
    assert.deepEqual(new Uint8Array(bytes), new TextEncoder().encode(awkward[2]));
    assert.equal(tokenizer.bytesOf!(tokenizer.endOfText!).length, 0);
    assert.equal(tokenizer.decode([]), "");
    assert.throws(() => tokenizer.decode([tokenizer.vocabSize]), /outside the vocabulary/);
  }
});

Deno.test("character tokenizer: ids follow the code points; an unknown character is named", () => {
  const tokenizer = characterTokenizer("hello\n");
  assert.deepEqual([...tokenizer.encode("\nehlo")], [0, 1, 2, 3, 4]);
  assert.equal(tokenizer.endOfText, 5);
  assert.equal(tokenizer.vocabSize, 6);
  assert.throws(() => tokenizer.encode("héllo"), {
    name: "UserError",
    message: 'the character "é" (U+00E9) is not among the 5 that the tokenizer knows',
  });
});

Deno.test("byte-level BPE: merges apply, special tokens in text stay text", () => {
  const tokenizer = open(byteLevelBpe());
  const endOfText = tokenizer.specialTokens.get("<|endoftext|>");
  assert.equal(tokenizer.endOfText, endOfText);
  assert.equal(tokenizer.encode("the the").length, 2);
  const ids = [...tokenizer.encode("in<|endoftext|><think>")];
  assert.ok(!ids.includes(endOfText!));
  assert.equal(ids.at(-1), endOfText! + 1); // an added token that is not special is text
  assert.equal(tokenizer.decode([...ids, endOfText!]), "in<|endoftext|><think>");
});

Deno.test("byte-fallback BPE: a character outside the vocabulary goes by its bytes", () => {
  const tokenizer = open(byteFallbackBpe());
  assert.equal(tokenizer.decode(tokenizer.encode("the é 🙂 a.")), "the é 🙂 a.");
  assert.equal(tokenizer.bytesOf, undefined);
  assert.equal(tokenizer.endOfText, 2);
});

Deno.test("Metaspace that puts no space in front keeps a first space", () => {
  const tokenizer = open(unigram());
  assert.equal(tokenizer.decode(tokenizer.encode(" to be")), " to be");
  assert.equal(tokenizer.decode(tokenizer.encode("to be")), "to be");
});

Deno.test("WordPiece: pieces join, real spaces stay", () => {
  const tokenizer = open(wordPiece());
  assert.equal(tokenizer.decode(tokenizer.encode("playing the .")), "playing the .");
  assert.equal(tokenizer.decode([]), "");
});

Deno.test("tokenizer.json: what the library would do wrongly is refused by name", () => {
  const base = byteLevelBpe();
  const [end, think] = base.added_tokens;
  const refused = (file: object, message: RegExp) =>
    assert.throws(() => open(file), { name: "UserError", message, where: "tokenizer.json" });

  refused(
    { ...base, added_tokens: [end, { ...think, single_word: true }] },
    /<think>.*"single_word"/,
  );
  refused(
    { ...base, added_tokens: [{ ...end, id: 3 }] },
    /<\|endoftext\|>.* has id 3, which .* gives to/,
  );
  refused(
    { ...base, added_tokens: [{ ...end, content: "the" }] },
    /"the" has id 261 but stands .* as 257/,
  );
  const { a: _, ...vocab } = base.model.vocab;
  refused(
    { ...base, model: { ...base.model, vocab } },
    /1 of the 256 bytes are not in its vocabulary/,
  );
  refused({ ...base, model: { ...base.model, dropout: 0.1 } }, /dropout of 0\.1/);
  refused({ ...unigram(), model: { ...unigram().model, byte_fallback: true } }, /byte_fallback/);
  refused({ ...base, decoder: { type: "Novel" } }, /not supported: .*Novel/);
  refused({ ...base, pre_tokenizer: null }, /would vanish/);
  refused({ model: 3 }, /not a tokenizer\.json/);
});

Deno.test("tokenizer.json: text that a model without <unk> cannot express is an error, not id 0", () => {
  const { model, ...rest } = wordPiece();
  const tokenizer = open({ ...rest, added_tokens: [], model: { ...model, unk_token: "[NONE]" } });
  assert.throws(() => tokenizer.encode("the zebra"), {
    name: "UserError",
    message: /no token for/,
  });
});

Deno.test("loadTokenizer: files and folders, and the saved file keeps its hash", async () => {
  await withTempDir(async (dir) => {
    const hf = open(byteLevelBpe());
    for (const tokenizer of [byteTokenizer(), characterTokenizer("añ🙂"), hf]) {
      await Deno.writeTextFile(`${dir}/tokenizer.json`, tokenizer.file);
      for (const path of [dir, `${dir}/tokenizer.json`]) {
        const loaded = await loadTokenizer(path);
        assert.equal(loaded.kind, tokenizer.kind);
        assert.equal(loaded.hash, tokenizer.hash);
        assert.equal(loaded.vocabSize, tokenizer.vocabSize);
      }
    }
    await assert.rejects(loadTokenizer(`${dir}/none.json`), /no such tokenizer file/);
  });
});

Deno.test("parseTokenizer: what is no tokenizer is refused with the file's name", async () => {
  const refused = (text: string, message: RegExp) =>
    assert.rejects(parseTokenizer(text, "t.json"), { name: "UserError", message, where: "t.json" });
  await refused("{", /not JSON/);
  await refused("[]", /a JSON object is expected/);
  await refused('{"quern":"words"}', /knows no tokenizer "words"/);
  await refused('{"quern":"character","characters":"ba"}', /not the file that quern writes/);
});
