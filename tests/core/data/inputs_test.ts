import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { formatOf, type ReadOptions } from "../../../core/data/documents.ts";
import { expandInputs } from "../../../core/data/inputs.ts";
import { readMarked } from "../../../core/data/read_text.ts";
import { withTempDir } from "../../support.ts";
import { attemptsOf, readDocuments, uncut } from "./support.ts";

Deno.test("inputs: folders and patterns give their files by name; what gives none is an error", async () => {
  await withTempDir(async (dir) => {
    await Deno.mkdir(`${dir}/sub/.hidden`, { recursive: true });
    const names = [
      "b.txt",
      "a.jsonl.zst",
      "notes.pdf",
      ".a.txt",
      "sub/c.MD.gz",
      "sub/.hidden/d.txt",
    ];
    for (const name of [...names, "odd[1].txt"]) await Deno.writeTextFile(`${dir}/${name}`, "x");
    const found = async (...inputs: string[]) =>
      (await expandInputs(inputs.map((input) => input === "-" ? "-" : `${dir}/${input}`)))
        .map((path) => path.replace(`${dir}/`, ""));
    assert.deepEqual(await found(""), ["a.jsonl.zst", "b.txt", "odd[1].txt", "sub/c.MD.gz"]);
    assert.deepEqual(await found("*.txt"), ["b.txt", "odd[1].txt"]);
    assert.deepEqual(await found("**/*.{gz,pdf}"), ["notes.pdf", "sub/c.MD.gz"]);
    assert.deepEqual(await found("odd[1].txt", "-", "none.txt"), ["odd[1].txt", "-", "none.txt"]);
    await assert.rejects(found("*.csv"), { name: "UserError", where: `${dir}/*.csv` });
    await Deno.mkdir(`${dir}/empty`);
    await assert.rejects(found("empty"), { message: /no text files/, hint: /\.jsonl/ });
  });
});

Deno.test("inputs: the format goes by the name under the compression", () => {
  assert.equal(formatOf("a.jsonl.gz", "auto"), "jsonl");
  assert.equal(formatOf("a.NDJSON.ZST", "auto"), "jsonl");
  assert.equal(formatOf("a.txt.gz", "auto"), "text");
  assert.equal(formatOf("-", "auto"), "text");
});

const defaults: ReadOptions = {
  format: "auto",
  fields: ["text"],
  separator: undefined,
  onError: "stop",
};

/** Each document's text, and where it is. */
async function readAll(path: string, options: Partial<ReadOptions> = {}) {
  const documents = readDocuments([path], { ...defaults, ...options });
  return await Array.fromAsync(documents, ({ text, where }) => [text, where.replace(path, "")]);
}

Deno.test("inputs: compressed text and jsonl are the same documents, at the same lines", async () => {
  await withTempDir(async (dir) => {
    const contents = {
      "a.jsonl": '{"text":"one"}\n\n{"text":"two"}\n',
      "a.txt": "one\n\ntwo\n\nthree\n",
    };
    for (const [name, content] of Object.entries(contents)) {
      const bytes = new TextEncoder().encode(content);
      const packs = { "": bytes, ".gz": gzipSync(bytes), ".zst": zstdCompressSync(bytes) };
      const results = [];
      for (const [suffix, packed] of Object.entries(packs)) {
        await Deno.writeFile(`${dir}/${name}${suffix}`, packed);
        results.push(await readAll(`${dir}/${name}${suffix}`, { separator: "\n\n" }));
      }
      assert.deepEqual(
        results[0].map(([, where]) => where),
        name === "a.txt" ? [":1", ":3", ":5"] : [":1", ":3"],
      );
      assert.deepEqual(results[1], results[0]);
      assert.deepEqual(results[2], results[0]);
    }
  });
});

Deno.test("inputs: several fields are joined by a blank line, an empty one adds none", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/a.jsonl`;
    await Deno.writeTextFile(path, '{"q":"why?","a":"so"}\n{"q":"","a":"yes"}\n');
    const texts = (await readAll(path, { fields: ["q", "a"] })).map(([text]) => text);
    assert.deepEqual(texts, ["why?\n\nso", "yes"]);
    await assert.rejects(readAll(path, { fields: ["q", "b"] }), {
      message: /there is no field "b"/,
      hint: "name one with --field: q, a",
    });
  });
});

Deno.test("inputs: separators are found wherever chunks end", async () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "\n") });
  const mark = fc.string({ unit: fc.constantFrom("a", "\n"), maxLength: 3 });
  const property = fc.asyncProperty(
    text,
    mark,
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 1, max: 9 }),
    async (text, mark, size, block) => {
      const bytes = new TextEncoder().encode(text);
      async function* chunks() {
        for (let at = 0; at < bytes.length; at += size) yield await bytes.subarray(at, at + size);
      }
      const file = { kind: "text", path: "t", mark: new TextEncoder().encode(mark) } as const;
      const long = { ...uncut, sizes: { ...uncut.sizes, block } };
      const separator = mark === "" ? undefined : mark;
      const found: string[] = [];
      for await (const part of readMarked(file, long, chunks())) {
        const attempts = attemptsOf(part, { ...defaults, separator });
        found.push(...attempts.map((attempt) => attempt().text));
      }
      const expected = mark === "" ? [text] : text.split(mark);
      assert.deepEqual(found, expected.at(-1) === "" ? expected.slice(0, -1) : expected);
    },
  );
  await fc.assert(property);
});
