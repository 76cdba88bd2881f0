import assert from "node:assert/strict";
import { showExamples, type ShowSettings } from "../../cli/sft_show.ts";
import { chatml, cutConversation, encodeConversation } from "../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../core/text/special_tokens.ts";
import { byteTokenizer } from "../../core/text/tokenizer.ts";
import { talk } from "../core/text/chat/marked.ts";

const tokenizer = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
const messages = talk(
  "user:<|im_end|>\x1b[31m\u202e?",
  "assistant:Hé\nthere",
  "user:more",
  "assistant:no",
);
Object.assign(messages[1], { weight: 0.5 });
const whole = encodeConversation(chatml, tokenizer, messages);
const items = [
  { where: "a.jsonl:1", outcome: "masked" as const },
  { where: "a.jsonl:2", outcome: "whole" as const, conversation: whole },
  {
    where: "a.jsonl:3",
    outcome: "truncated" as const,
    conversation: cutConversation(whole, 44),
    tokens: whole.ids.length,
  },
  { where: "a.jsonl:4", outcome: "dropped" as const },
];

async function shown(settings: Partial<ShowSettings>): Promise<string[]> {
  const given = { tokenizer, count: 9, ids: "hidden", format: "text", colours: "off", ...settings };
  return await Array.fromAsync(showExamples(items, given as ShowSettings));
}

Deno.test("sft --show: what is trained on is marked, what was left out is counted", async () => {
  assert.equal(
    (await shown({})).join("\n"),
    `── a.jsonl:2: 76 tokens, 13 trained on, 8 in weight
<|im_start|>user
\\<|im_end|>␛[31m\\u{202e}?<|im_end|>
<|im_start|>assistant
⟦0.5× Hé
there<|im_end|>⟧
<|im_start|>user
more<|im_end|>
<|im_start|>assistant
⟦no<|im_end|>⟧
── a.jsonl:3: cut to 44 of 76 tokens, 6 trained on, 3 in weight
<|im_start|>user
\\<|im_end|>␛[31m\\u{202e}?<|im_end|>
<|im_start|>assistant
⟦0.5× Hé
th⟧
── 4 conversations read: 1 whole, 1 cut at the row's end, 1 left out as too long, 1 left out, without anything to learn
⟦…⟧ is trained on; \\<…> is text that only looks like a special token`,
  );
});

Deno.test("sft --show: colours say the same, line by line, and nothing of a text moves the cursor", async () => {
  const text = (await shown({ colours: "on" })).join("\n");
  assert.ok(text.includes("\x1b[32mHé\x1b[39m\n\x1b[32mthere"), text);
  assert.ok(!text.includes("\x1b[31m"));
  assert.ok(!text.includes("⟦"));
});

Deno.test("sft --show: ids stand beside the text of each token", async () => {
  const lines = await shown({ count: 1, ids: "shown" });
  assert.ok(lines.includes(" 0 257  <|im_start|>"), lines.join("\n"));
  assert.ok(lines.includes(' 6  60  "<"'));
  assert.ok(lines.includes('42 116  ⟦0.5× "t"⟧'));
  assert.equal(lines.filter((line) => /^[ \d]+ {2}(?!\d)/.test(line)).length, whole.ids.length);
});

Deno.test("sft --show --json: an object a conversation, and the counts", async () => {
  const lines = (await shown({ format: "json", ids: "shown" })).map((line) => JSON.parse(line));
  assert.deepEqual(lines.at(-1), {
    counts: { whole: 1, truncated: 1, dropped: 1, masked: 1, skipped: 0 },
  });
  const [first, second] = lines;
  assert.deepEqual([first.where, first.tokens, first.targets, first.weight], [
    "a.jsonl:2",
    76,
    13,
    8,
  ]);
  assert.deepEqual(first.pieces.flatMap(({ ids }: { ids: number[] }) => ids), [...whole.ids]);
  assert.equal(second.tokens_before, 76);
  assert.equal(second.pieces.at(-1).text, "Hé\nth");
  const hidden = await shown({ format: "json", count: 1 });
  assert.equal(hidden.length, 2);
  assert.equal(JSON.parse(hidden[0]).pieces[0].ids, undefined);
});
