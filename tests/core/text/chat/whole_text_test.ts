/**
 * Conversations against @huggingface/tokenizers, given the whole rendered text with its special
 * tokens.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { jinjaTemplate } from "../../../../core/text/chat/jinja.ts";
import {
  chatml,
  type ChatTemplate,
  encodeConversation,
  type Message,
} from "../../../../core/text/chat/mod.ts";
import { parseTokenizer } from "../../../../core/text/load.ts";
import { withSpecialTokens } from "../../../../core/text/special_tokens.ts";
import { byteFallbackBpe, byteLevelBpe, unigram, wordPiece } from "../fixtures.ts";
import { chatBpe } from "./tokenizers.ts";

/**
 * Knows all letters that a template writes: what is unknown is one token with its unknown
 * neighbours.
 */
const metaspace = (prepend_scheme: string) => {
  const file = unigram(), stage = { ...file.pre_tokenizer, prepend_scheme };
  const letters = [..."acdfghijklmnpqrsuvwxyz.\n"].map((letter): [string, number] => [letter, -20]);
  const model = { ...file.model, vocab: [...file.model.vocab, ...letters] };
  return { ...file, model, pre_tokenizer: stage, decoder: { ...file.decoder, prepend_scheme } };
};

const files = {
  "byte-level": byteLevelBpe(),
  "byte-level with line feeds": chatBpe(),
  "a space in front of each section": byteFallbackBpe(),
  "word pieces": wordPiece(),
  "no space in front": metaspace("never"),
  "a space in front of the first section": metaspace("first"),
  "a space in front of all sections": metaspace("always"),
};

/** An answer begins without anything special before it. */
const plain = jinjaTemplate(
  "{{ bos_token }}{% for m in messages %}" +
    "{% if m.role == 'user' %}ask {{ m.content }} to{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
  { name: "plain", namedTokens: { bos_token: "<|bos|>", eos_token: "<|eos|>" } },
);

const word = fc.constantFrom(
  "the",
  "to",
  "be",
  "playing",
  "é",
  "<think>",
  "a.",
  "🙂",
  "they\n\nuser",
  "\n",
);
const text = fc.array(word, { maxLength: 5 }).map((words) => words.join(" "));
const answer = text.map((text) => text.trimStart());
const exchange = fc.tuple(text, answer).map(([user, assistant]): Message[] => [
  { role: "user", content: user },
  { role: "assistant", content: assistant },
]);

for (const [kind, file] of Object.entries(files)) {
  for (const template of [chatml, plain]) {
    Deno.test(`whole text: ${kind}, ${template.name}: ids are those of the library`, async () => {
      await holdToLibrary(file, template, exchange);
    });
  }
}

Deno.test("whole text: special tokens that take white space away do so", async () => {
  const base = await withSpecialTokens(await parsed(byteLevelBpe()), chatml.controlTokens);
  for (const [lstrip, rstrip] of [[true, false], [false, true], [true, true]]) {
    const file = JSON.parse(base.file);
    for (const token of file.added_tokens) {
      if (chatml.controlTokens.includes(token.content)) Object.assign(token, { lstrip, rstrip });
    }
    const spaced = text.map((text) => `${text} \n`);
    const messages = fc.tuple(spaced, answer).map(([content, other]): Message[] => [
      { role: "user", content },
      { role: "assistant", content: other },
    ]);
    await holdToLibrary(file, chatml, messages);
  }
});

async function parsed(file: object) {
  return await parseTokenizer(JSON.stringify(file), "tokenizer.json");
}

async function holdToLibrary(
  file: object,
  template: ChatTemplate,
  exchanges: fc.Arbitrary<Message[]>,
): Promise<void> {
  const tokenizer = await withSpecialTokens(await parsed(file), template.controlTokens);
  const library = new Library(JSON.parse(tokenizer.file), {});
  const conversations = fc.array(exchanges, { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(conversations.map((list) => list.flat()), (messages) => {
      const { ids, pieces } = encodeConversation(template, tokenizer, messages);
      const whole = pieces.map(({ text }) => text).join("");
      assert.deepEqual([...ids], library.encode(whole, { add_special_tokens: false }).ids, whole);
    }),
  );
}
