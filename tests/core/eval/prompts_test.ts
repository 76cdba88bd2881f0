import assert from "node:assert/strict";
import { movedSpaces, pairRow, promptOf, type Reader } from "../../../core/eval/prompts.ts";
import { windowed } from "../../../core/eval/score/rows.ts";
import { chatml } from "../../../core/text/chat/mod.ts";
import { byteTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { readJson } from "../../vectors.ts";

const bytes = byteTokenizer();
const reader: Reader = {
  tokenizer: bytes,
  beginning: undefined,
  tokenization: "joint",
  positions: 32,
};
const task = {
  description: "About sums.\n\n",
  target_delimiter: " ",
  fewshot_delimiter: "\n\n",
  output_type: "multiple_choice",
} as const;
const shots = [{ question: "1+1=", answer: "2" }, { question: "2+2=", answer: "4" }];
const textOf = (ids: ArrayLike<number>) => bytes.decode(Array.from(ids));

/** Joins "ab" and " c" where they stand; other characters are ids of their own. */
const joining: Pick<Tokenizer, "encode" | "endOfText" | "specialTokens"> = {
  endOfText: 999,
  specialTokens: new Map(),
  encode: (text) =>
    Uint32Array.from(
      text.match(/ab| c|./gs) ?? [],
      (part) => part === "ab" ? 500 : part === " c" ? 501 : part.charCodeAt(0),
    ),
};

Deno.test("prompts: description, shots and question are one text; the answer's delimiter is scored", () => {
  const request = { kind: "loglikelihood", query: "3+3=", continuation: " 6" } as const;
  const prompt = promptOf(task, shots, request, reader);
  assert.ok(prompt.kind === "loglikelihood");
  assert.equal(prompt.context, "About sums.\n\n1+1= 2\n\n2+2= 4\n\n3+3=");
  assert.equal(textOf(prompt.row.ids), `${prompt.context} 6`);
  assert.equal(prompt.row.scored, 2);
});

Deno.test("prompts: spaces at a context's end are the continuation's", () => {
  const vectors = readJson<Record<string, Record<string, string>>>("spec/eval_tasks.json");
  const { context, continuation, moved_context, moved_continuation } = vectors.trailing_space_rule;
  assert.deepEqual(movedSpaces(context, continuation), [moved_context, moved_continuation]);
  assert.deepEqual(movedSpaces("a", "b"), ["a", "b"]);
  assert.deepEqual(movedSpaces(" \n", "b"), ["", " \nb"]);
});

Deno.test("prompts: tokens are those of both texts as one, or of each by itself", () => {
  const joint = { ...reader, tokenizer: joining },
    separate = { ...joint, tokenization: "separate" } as const;
  assert.deepEqual(pairRow("x ", "c", joint), { ids: [120, 501], scored: 1 });
  assert.deepEqual(pairRow("x ", "c", separate), { ids: [120, 32, 99], scored: 1 });
  // one token takes in both
  assert.deepEqual(pairRow("a", "b", joint), { ids: [97, 98], scored: 1 });
  assert.deepEqual(pairRow("ca", "bd", joint), { ids: [99, 97, 100], scored: 1 });
  const begun = { ...joint, beginning: 7 };
  assert.deepEqual(pairRow("x", "c", begun), { ids: [7, 120, 99], scored: 1 });
  assert.deepEqual(Array.from(pairRow("", "cd", joint).ids), [999, 99, 100]);
  assert.deepEqual(Array.from(pairRow("", "cd", begun).ids), [7, 99, 100]);
  const bare = { ...joint, tokenizer: { ...joining, endOfText: undefined } };
  assert.equal(pairRow("", "cd", bare).scored, 1);
});

Deno.test("prompts: rows too long for a model keep their last tokens, all but one of which are read", () => {
  const vectors = readJson<Record<string, Record<string, number>[]>>("spec/eval_tasks.json");
  for (const { max_len, ctx, cont, input_tokens, kept_ctx } of vectors.loglikelihood_window) {
    const ids = Array.from({ length: ctx + cont }, (_, i) => i);
    const row = windowed({ ids, scored: cont }, max_len);
    assert.equal(row.ids.length - 1, input_tokens);
    assert.equal(row.ids.length - row.scored, kept_ctx);
    assert.equal(row.ids[row.ids.length - 1], ids.at(-1));
  }
  assert.equal(windowed({ ids: [1, 2, 3, 4, 5, 6], scored: 5 }, 3).scored, 3);
});

Deno.test("prompts: a whole text is rolled over in windows that score each token once", () => {
  const text = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL";
  for (const length of [0, 1, 31, 32, 33, 48]) {
    const request = { kind: "loglikelihood_rolling", text: text.slice(0, length) } as const;
    const prompt = promptOf(task, [], request, reader);
    assert.ok(prompt.kind === "loglikelihood_rolling");
    const scored = prompt.rows.map(({ ids, scored }) => textOf(Array.from(ids).slice(-scored)));
    assert.equal(scored.join(""), text.slice(0, length));
    assert.ok(prompt.rows.every(({ ids }) => ids.length <= 33));
    if (length > 0) assert.equal(prompt.rows[0].ids[0], bytes.endOfText);
  }
});

Deno.test("prompts: a text to be made has the context's end, and leaves room", () => {
  const request = {
    kind: "generate_until",
    query: "0123456789",
    stops: ["\n"],
    max_new_tokens: 8,
  } as const;
  const prompt = promptOf({ ...task, description: "d".repeat(30) }, [], request, reader);
  assert.ok(prompt.kind === "generate_until");
  assert.equal(prompt.request.context.length, 24);
  assert.equal(textOf(prompt.request.context), `${"d".repeat(14)}0123456789`);
  assert.ok(prompt.is_cut);
  const long = promptOf(task, [], { ...request, max_new_tokens: 4000 }, reader);
  assert.ok(long.kind === "generate_until" && long.request.max_new_tokens === 16);
  const asked = promptOf(task, [], request, { ...reader, max_new_tokens: 3 });
  assert.ok(asked.kind === "generate_until" && asked.request.max_new_tokens === 3 && !asked.is_cut);
});

Deno.test("prompts: with a chat template the text is a user's message, and a choice the answer", () => {
  const specialTokens = new Map([["<|im_start|>", 300], ["<|im_end|>", 301]]);
  const chatty = { ...reader, chat: chatml, tokenizer: { ...bytes, specialTokens } };
  const request = { kind: "loglikelihood", query: "3+3=", continuation: " 6" } as const;
  const prompt = promptOf(task, shots, request, chatty);
  assert.ok(prompt.kind === "loglikelihood");
  assert.match(
    prompt.context,
    /^<\|im_start\|>user\nAbout sums.*3\+3=<\|im_end\|>\n<\|im_start\|>assistant\n$/s,
  );
  assert.equal(prompt.continuation, "6");
  assert.equal(prompt.row.scored, 1);
  assert.equal(prompt.row.ids[0], 300);
  const asked = { kind: "generate_until", query: "3+3=", stops: [], max_new_tokens: 5 } as const;
  const made = promptOf(task, [], asked, { ...chatty, positions: 200 });
  assert.ok(made.kind === "generate_until");
  assert.ok(made.request.stop_ids.includes(301));
});
