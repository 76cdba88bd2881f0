/**
 * Ids and masks that were made by another route: see tests/vectors/chat/golden.py.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  chatml,
  encodeConversation,
  encodePrompt,
  type Message,
  openChatTemplate,
} from "../../../../core/text/chat/mod.ts";
import { parseTokenizer } from "../../../../core/text/load.ts";
import type { Tokenizer } from "../../../../core/text/tokenizer.ts";
import { root, withTempDir } from "../../../support.ts";
import { readQwen3 } from "../qwen3.ts";
import { marked } from "./marked.ts";
import { chatBpe } from "./tokenizers.ts";

interface GoldenCase {
  template: "chatml" | "qwen3";
  tokenizer: "small" | "qwen3";
  name: string;
  loss: "all" | "last";
  variables: Record<string, boolean>;
  messages: Message[];
  /** The text by hand, `⟦…⟧` around what is trained on. */
  marked: string;
  /** Pairs of an id and its weight. */
  tokens: [number, number][];
}

const { cases }: { cases: GoldenCase[] } = JSON.parse(
  await Deno.readTextFile(`${root}tests/vectors/chat/golden.json`),
);
const small = await parseTokenizer(JSON.stringify(chatBpe()), "tokenizer.json");
const [qwen3, qwen3Config] = await Promise.all([
  readQwen3("tokenizer.json").then((text) =>
    text === undefined ? undefined : parseTokenizer(text, "tokenizer.json")
  ),
  readQwen3("tokenizer_config.json"),
]);

for (const golden of cases) {
  const { template, tokenizer, name } = golden;
  const given = { small, qwen3 }[tokenizer];
  Deno.test({
    name: `golden: ${template} by the ${tokenizer} tokenizer: ${name}: ids and masks`,
    ignore: !given || (template === "qwen3" && !qwen3Config),
    fn: () => holdTo(golden, given as Tokenizer),
  });
}

async function holdTo(golden: GoldenCase, tokenizer: Tokenizer): Promise<void> {
  const { messages, loss, tokens } = golden, template = await templateOf(golden);
  const { ids, weights, pieces } = encodeConversation(template, tokenizer, messages, { loss });
  assert.equal(marked(template, tokenizer, messages, { loss }), golden.marked);
  assert.deepEqual([...ids].map((id, i) => [id, weights[i]]), tokens);
  assert.equal(pieces.map(({ text }) => text).join(""), golden.marked.replaceAll(/[⟦⟧]/g, ""));
  for (const { start, end, weight } of pieces) {
    assert.ok(weights.subarray(start, end).every((other) => other === weight));
  }
  const prompt = encodePrompt(template, tokenizer, messages.slice(0, -1));
  assert.deepEqual(prompt, ids.subarray(0, prompt.length));
  assert.ok(weights[prompt.length] > 0 && weights[prompt.length - 1] === 0);
}

async function templateOf({ template, variables }: GoldenCase) {
  if (template === "chatml") return chatml;
  return await withTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "tokenizer_config.json"), qwen3Config!);
    return await openChatTemplate(dir, { variables });
  });
}

Deno.test("replay: karpathy/nanochat 582: the golden file has every kind of case", () => {
  assert.deepEqual([...new Set(cases.map(({ template }) => template))], ["chatml", "qwen3"]);
  assert.ok(cases.every(({ tokens }) => tokens.some(([, weight]) => weight > 0)));
  assert.ok(cases.some(({ messages }) => messages.length > 10 && messages[0].role === "system"));
});
