import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { readConversations } from "../../../../core/data/chat/mod.ts";
import type { Message } from "../../../../core/text/chat/mod.ts";
import { testWithShared, withTempDir } from "../../../support.ts";

type Settings = Parameters<typeof readConversations>[1];

/** The messages of each conversation in a file of these bytes; what was skipped, by line. */
async function readFile(name: string, bytes: string | Uint8Array, settings: Settings = {}) {
  return await withTempDir(async (dir) => {
    const file = join(dir, name), skipped: string[] = [], wheres: string[] = [];
    await Deno.writeFile(file, typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    const short = (text: string | undefined) => text?.replaceAll(`${dir}/`, "");
    const onSkip = ({ where, message }: { where: string | undefined; message: string }) =>
      skipped.push(`${short(where)}: ${message}`);
    const conversations: (readonly Message[])[] = [], shapes: string[] = [];
    const onShape = (_: string, shape: string) => shapes.push(shape);
    for await (
      const read of readConversations([file], settings, { onSkip, onShape })
    ) {
      conversations.push(read.messages);
      wheres.push(short(read.where)!);
    }
    return { conversations, skipped, wheres, shapes };
  });
}

const lines = (...records: unknown[]) =>
  records.map((record) => typeof record === "string" ? record : JSON.stringify(record)).join("\n");
const one = async (record: unknown, settings: Settings = {}) => {
  const { conversations, shapes } = await readFile("a.jsonl", lines(record), settings);
  return { messages: conversations[0], shape: shapes[0] };
};
const exchange = (user: string, assistant: string): Message[] => [
  { role: "user", content: user },
  { role: "assistant", content: assistant },
];

Deno.test("conversations: each common shape is recognised by its fields", async () => {
  const messages = [{ role: "system", content: "s" }, ...exchange("u", "a")];
  assert.deepEqual(await one({ id: 7, messages, prompt: "p", completion: "c" }), {
    messages,
    shape: "messages",
  });
  const conversations = [{ from: "system", value: "s" }, { from: "human", value: "u" }, {
    from: "gpt",
    value: "a",
  }];
  assert.deepEqual(await one({ conversations }), { messages, shape: "sharegpt" });
  assert.deepEqual(await one({ conversations: messages }), { messages, shape: "sharegpt" });
  assert.deepEqual(await one({ conversations: conversations.slice(1), system: "s" }), {
    messages,
    shape: "sharegpt",
  });
  assert.deepEqual(await one({ prompt: "u", completion: "a" }), {
    messages: exchange("u", "a"),
    shape: "prompt_completion",
  });
  assert.deepEqual(await one({ question: "2+2?", answer: "4\n#### 4" }), {
    messages: exchange("2+2?", "4\n#### 4"),
    shape: "question_answer",
  });
});

Deno.test("conversations: instructions are joined with their input in Alpaca's wording, or plainly", async () => {
  const record = { instruction: "Add.", input: "1 2", output: "3" };
  const wording = (context: string, input: string) =>
    `Below is an instruction that describes a task${context}. Write a response that appropriately ` +
    `completes the request.\n\n### Instruction:\nAdd.\n\n${input}### Response:`;
  assert.deepEqual(await one(record), {
    messages: exchange(
      wording(", paired with an input that provides further context", "### Input:\n1 2\n\n"),
      "3",
    ),
    shape: "alpaca",
  });
  for (const input of ["", null, undefined]) {
    const { messages } = await one({ ...record, input });
    assert.deepEqual(messages, exchange(wording("", ""), "3"));
  }
  const { messages } = await one(record, { shape: "instruction" });
  assert.deepEqual(messages, exchange("Add.\n\n1 2", "3"));
});

Deno.test("conversations: fields may have other names, one system message may be for all", async () => {
  const fields = { question: "problem", answer: "solution" };
  const record = { problem: "p", solution: "s", question: "not this" };
  const { messages } = await one(record, { fields, system: "Be brief." });
  assert.deepEqual(messages, [{ role: "system", content: "Be brief." }, ...exchange("p", "s")]);
  const wild = {
    conversation: [{ role: "user", content: "u", ip: "x" }, { role: "assistant", content: "a" }],
  };
  const map = { fields: { messages: "conversation" }, ignore: ["ip"] };
  assert.deepEqual((await one(wild, map)).messages, exchange("u", "a"));
  await assert.rejects(
    () => one(record, { fields: { qestion: "x" } }),
    /a field "qestion" .*question/,
  );
  await assert.rejects(
    () => one(record, { shape: "messages", fields: { question: "x" } }),
    /the shape messages does not have a field "question"/,
  );
  const said = { messages: wild.conversation.map(({ role, content }) => ({ role, content })) };
  await assert.rejects(
    () => one(said, { fields: { question: "q" } }),
    /read as messages, which has no field question/,
  );
});

Deno.test("conversations: messages have weights, and only the completion of a conversational prompt has loss", async () => {
  const turn = (extra: object) => ({ messages: [{ role: "assistant", content: "a", ...extra }] });
  const weight = async (extra: object) => (await one(turn(extra))).messages[0].weight;
  assert.deepEqual(
    [await weight({}), await weight({ weight: 0.5 }), await weight({ train: false })],
    [undefined, 0.5, 0],
  );
  assert.equal(await weight({ train: true, weight: null }), 1);
  await assert.rejects(
    () => weight({ weight: -1 }),
    /messages\[0\]\.weight is no number from 0 on/,
  );
  await assert.rejects(() => weight({ weight: 1, train: true }), /both weight and train/);
  const { messages } = await one({ prompt: exchange("u", "a"), completion: exchange("v", "b") });
  assert.deepEqual(messages.map(({ weight }) => weight), [0, 0, undefined, undefined]);
});

Deno.test("conversations: what a template may read beside the content is kept, parts of text are joined", async () => {
  const messages = [
    { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] },
    { role: "assistant", content: null, tool_calls: [{ name: "f", arguments: {} }] },
  ];
  assert.deepEqual((await one({ messages })).messages, [
    { role: "user", content: "ab" },
    { role: "assistant", content: "", extra: { tool_calls: [{ name: "f", arguments: {} }] } },
  ]);
});

Deno.test("conversations: each fault is named by file and line, and skipped if that is asked for", async () => {
  const good = { messages: exchange("u", "a") };
  const bad: [unknown, string][] = [
    ['{"messages": [', "not JSON"],
    ["[1]", "not a JSON object"],
    [{ mesages: [] }, 'there is no field "messages" (did you mean "mesages"?)'],
    [{ messages: "x" }, 'the field "messages" is not a list'],
    [{ messages: [] }, 'the field "messages" is empty'],
    [{ messages: ["x"] }, "messages[0] is not an object"],
    [
      { messages: [{ role: "usr", content: "x" }] },
      'messages[0].role is "usr" (did you mean "user"?)',
    ],
    [{ messages: [{ content: "x" }] }, "there is no messages[0].role"],
    [{ messages: [{ role: "user" }] }, "there is no messages[0].content"],
    [{ messages: [{ role: "user", content: 3 }] }, "messages[0].content is not text"],
    [
      { messages: [{ role: "user", content: [{ type: "image" }] }] },
      "messages[0].content[0] is no text",
    ],
    [
      { messages: [{ role: "user", content: "x", wieght: 1 }] },
      'unknown field "wieght" (did you mean "weight"?)',
    ],
    ['{"messages": [{"role": "user", "content": "\\ud800"}]}', "half a surrogate pair"],
  ];
  const text = lines(good, ...bad.map(([record]) => record), "", good);
  const { conversations, skipped, wheres } = await readFile("a.jsonl", text, { onError: "skip" });
  assert.deepEqual(conversations, [good.messages, good.messages]);
  assert.deepEqual(wheres, ["a.jsonl:1", `a.jsonl:${bad.length + 3}`]);
  bad.forEach(([, message], i) => {
    assert.ok(skipped[i].startsWith(`a.jsonl:${i + 2}: `), skipped[i]);
    assert.ok(skipped[i].includes(message), `${skipped[i]} / ${message}`);
  });
  assert.equal(skipped.length, bad.length);
  for (const [record] of bad.slice(3)) {
    await assert.rejects(() => one(record, { shape: "messages" }));
  }
  await assert.rejects(
    () => one({ a: 1, b: 2 }),
    /no conversation is recognised in the fields a, b/,
  );
});

Deno.test("replay: huggingface/datasets 3910: line separators of other kinds are text of a message", async () => {
  const content = "a\u2028b\u2029c\u0085d\ve\ff\rg\u{0}";
  const text = `\uFEFF${JSON.stringify({ messages: exchange(content, "x") })}\r\n\r\n`;
  const { conversations } = await readFile("a.jsonl", text.replace("\\u2028", "\u2028"));
  assert.deepEqual(conversations, [exchange(content, "x")]);
});

Deno.test("conversations: compressed files and parquet give what jsonl gives", async () => {
  const records = [exchange("u <é>", "a"), exchange("v", "🙂\n")];
  const text = new TextEncoder().encode(lines(...records.map((messages) => ({ messages }))));
  const files: [string, Uint8Array][] = [
    ["a.jsonl.gz", gzipSync(text)],
    ["a.jsonl.zst", zstdCompressSync(text)],
    ["a.parquet", nestedParquet(records)],
  ];
  for (const [name, bytes] of files) {
    const { conversations, wheres } = await readFile(name, bytes);
    assert.deepEqual(conversations, records, name);
    assert.equal(wheres[1], name === "a.parquet" ? `${name}:row 2` : `${name}:2`);
  }
});

Deno.test("conversations: parquet's columns are questions and answers, too; a bad row is named", async () => {
  const column = (name: string, data: unknown[]) => ({ name, data, type: "STRING" as const });
  const columnData = [
    column("id", ["1", "2"]),
    column("question", ["q", "r"]),
    column("answer", ["a", null as never]),
  ];
  const bytes = new Uint8Array(parquetWriteBuffer({ columnData }));
  const { conversations, skipped } = await readFile("a.parquet", bytes, { onError: "skip" });
  assert.deepEqual(conversations, [exchange("q", "a")]);
  assert.match(skipped[0], /^a\.parquet:row 2: there is no field "answer"/);
  await assert.rejects(
    () => readFile("a.parquet", bytes, { shape: "messages" }),
    /there is no column "messages"/,
  );
});

/** A column `messages` that is a list of structs. */
function nestedParquet(conversations: readonly (readonly Message[])[]): Uint8Array {
  const leaf = (name: string) => ({
    name,
    type: "BYTE_ARRAY" as const,
    converted_type: "UTF8" as const,
    repetition_type: "OPTIONAL" as const,
  });
  return new Uint8Array(parquetWriteBuffer({
    columnData: [{ name: "messages", data: conversations.map((messages) => [...messages]) }],
    schema: [
      { name: "root", num_children: 1 },
      { name: "messages", repetition_type: "OPTIONAL", converted_type: "LIST", num_children: 1 },
      { name: "list", repetition_type: "REPEATED", num_children: 1 },
      { name: "element", repetition_type: "OPTIONAL", num_children: 2 },
      leaf("role"),
      leaf("content"),
    ],
  }));
}

testWithShared(
  "conversations: all of GSM8K's training problems",
  ["data/gsm8k_train.jsonl"],
  async ([file]) => {
    const all = await Array.fromAsync(readConversations([file]));
    assert.equal(all.length, 7473);
    assert.ok(all.every(({ messages }) => /#### /.test(messages[1].content)));
  },
);
