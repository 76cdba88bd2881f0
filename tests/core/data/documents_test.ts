import assert from "node:assert/strict";
import type { ReadOptions } from "../../../core/data/documents.ts";
import type { UserError } from "../../../core/io/errors.ts";
import { withTempDir } from "../../support.ts";
import { readDocuments } from "./support.ts";

const defaults: ReadOptions = {
  format: "auto",
  fields: ["text"],
  separator: undefined,
  onError: "stop",
};

/** The documents of one file with the given content, and the messages of those left out. */
async function read(
  name: string,
  content: string | Uint8Array,
  options: Partial<ReadOptions> = {},
) {
  return await withTempDir(async (dir) => {
    const path = `${dir}/${name}`;
    await Deno.writeFile(
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
    const skipped: string[] = [];
    const onSkip = ({ where, message }: UserError) =>
      skipped.push(`${where?.replace(dir, ".")}: ${message}`);
    const documents = readDocuments([path], { ...defaults, ...options }, onSkip);
    const texts = await Array.fromAsync(documents, ({ text }) => text);
    return { texts, skipped };
  });
}

const textsOf = async (...args: Parameters<typeof read>) => (await read(...args)).texts;

Deno.test("replay: steipete/birdclaw 61: separators inside a record are its text", async () => {
  const text = "a\u2028b\u2029c\u0085d\ve\ff\rg";
  const escaped = JSON.stringify({ text });
  const raw = `{"text":"a\u2028b\u2029c\u0085d"}`; // allowed unescaped in JSON
  assert.deepEqual(await textsOf("a.jsonl", `${escaped}\n${raw}\n`), [
    text,
    "a\u2028b\u2029c\u0085d",
  ]);
});

Deno.test("replay: microsoft/promptflow 4202: BOM, CRLF, blank lines: the same documents", async () => {
  const clean = await textsOf("a.jsonl", '{"text":"one"}\n{"text":"two"}\n');
  assert.deepEqual(clean, ["one", "two"]);
  const messy = '\uFEFF{"text":"one"}\r\n\r\n\n{"text":"two"}';
  assert.deepEqual(await textsOf("a.jsonl", messy), clean);
});

Deno.test("text: a file is a document, unchanged but for its byte order mark", async () => {
  assert.deepEqual(await textsOf("a.txt", "\uFEFF a\r\n\tb\n\n"), [" a\r\n\tb\n\n"]);
  assert.deepEqual(await textsOf("empty.txt", ""), []);
});

Deno.test("text: a separator cuts; parts without text are dropped", async () => {
  const text = "one\ntwo\n<|end|>\n<|end|>three<|en<|end|>";
  assert.deepEqual(await textsOf("a.txt", text, { separator: "<|end|>" }), [
    "one\ntwo\n",
    "three<|en",
  ]);
  assert.deepEqual(await textsOf("a.txt", "a\n\nb\n\n\nc", { separator: "\n\n" }), [
    "a",
    "b",
    "\nc",
  ]);
  assert.deepEqual(await textsOf("a.txt", "aaab", { separator: "aa" }), ["ab"]);
});

Deno.test("jsonl: each kind of bad line is an error with its place, or is skipped and told", async () => {
  const lines = [
    '{"text":"good"}',
    "{oops}",
    "[1]",
    '{"texts":"near"}',
    '{"text":7}',
    '{"text":"\\ud800"}',
    '{"text":"also good"}',
  ];
  const { texts, skipped } = await read("a.jsonl", lines.join("\n"), { onError: "skip" });
  assert.deepEqual(texts, ["good", "also good"]);
  assert.match(skipped[0], /^\.\/a\.jsonl:2: not JSON/);
  assert.deepEqual(skipped.slice(1), [
    "./a.jsonl:3: not a JSON object",
    './a.jsonl:4: there is no field "text" (did you mean "texts"?)',
    './a.jsonl:5: the field "text" is not text',
    './a.jsonl:6: the field "text" holds half a surrogate pair',
  ]);
  await assert.rejects(read("a.jsonl", lines.join("\n")), {
    name: "UserError",
    message: /^not JSON/,
  });
});

Deno.test("replay: jingyaogong/minimind 551: a bad byte stops with its place, or skips one document", async () => {
  const bytes = new TextEncoder().encode("fine|line\nb?d|end").map((b) => b === 0x3f ? 0xc3 : b);
  const { texts, skipped } = await read("a.txt", bytes, { onError: "skip", separator: "|" });
  assert.deepEqual(texts, ["fine", "end"]);
  assert.deepEqual(skipped, ["./a.txt:2: not valid UTF-8: byte 0xc3 at offset 11 of the file"]);
  await assert.rejects(read("a.txt", bytes), { name: "UserError", message: /offset 11/ });
});

Deno.test("files that cannot be read are named, even under skip", async () => {
  await withTempDir(async (dir) => {
    const reading = (path: string) =>
      Array.fromAsync(readDocuments([path], { ...defaults, onError: "skip" }));
    await assert.rejects(reading(`${dir}/no.txt`), {
      where: `${dir}/no.txt`,
      message: /no such file/,
    });
    await assert.rejects(reading(`${dir}/no.jsonl`), { message: /no such file/ });
    await assert.rejects(reading(dir), { message: /this is a folder/ });
  });
});
