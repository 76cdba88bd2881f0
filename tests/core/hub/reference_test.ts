import assert from "node:assert/strict";
import fc from "fast-check";
import { parseReference } from "../../../core/hub/reference.ts";

const endpoint = "https://huggingface.co";

function parse(text: string, options: { dataset?: boolean; revision?: string } = {}) {
  const { repo: { kind, id, revision }, path } = parseReference(text, {
    dataset: false,
    endpoint,
    ...options,
  });
  return [kind, id, revision, path];
}

Deno.test("references: names, hf: forms and a browser's addresses", () => {
  const model = ["model", "Qwen/Qwen3-0.6B", "main", undefined];
  for (
    const text of [
      "Qwen/Qwen3-0.6B",
      "hf:Qwen/Qwen3-0.6B",
      "hf://models/Qwen/Qwen3-0.6B",
      "Qwen/Qwen3-0.6B/",
      "https://huggingface.co/Qwen/Qwen3-0.6B",
      "https://hf.co/Qwen/Qwen3-0.6B/tree/main",
    ]
  ) assert.deepEqual(parse(text), model, text);
  assert.deepEqual(parse("gpt2"), ["model", "gpt2", "main", undefined]);
  assert.deepEqual(parse("o/d", { dataset: true }), ["dataset", "o/d", "main", undefined]);
  assert.deepEqual(parse("hf:datasets/o/d@v1.0/a/b.txt"), ["dataset", "o/d", "v1.0", "a/b.txt"]);
  assert.deepEqual(parse("hf:datasets/o/d@refs/convert/parquet/a b.parquet"), [
    "dataset",
    "o/d",
    "refs/convert/parquet",
    "a b.parquet",
  ]);
  assert.deepEqual(
    parse("https://huggingface.co/datasets/o/d/blob/refs%2Fpr%2F3/x%20y.txt?download=true"),
    ["dataset", "o/d", "refs/pr/3", "x y.txt"],
  );
  assert.deepEqual(parse("o/m@v1", { revision: "v1" }), ["model", "o/m", "v1", undefined]);
});

Deno.test("references: what names nothing, or two things, is refused", () => {
  for (const text of ["", "a//b", "../x", "o/..", "o/m@", "a b/c", "https://huggingface.co/"]) {
    assert.throws(() => parse(text), /does not name a repository|not the name of a revision/, text);
  }
  assert.throws(() => parse("https://example.com/o/m"), /not an address of the hub/);
  assert.throws(() => parse("spaces/o/m"), /spaces are programs/);
  assert.throws(() => parse("hf:models/o/m", { dataset: true }), /names a model/);
  assert.throws(() => parse("o/m@v1", { revision: "v2" }), /two revisions/);
  for (const revision of ["../../x", "/etc", "a/../b", "a\\b", "", "a\nb"]) {
    assert.throws(() => parse("o/m", { revision }), /not the name of a revision/, revision);
  }
});

Deno.test("references: the hf: form of any repository, revision and path gives them back", () => {
  const word = fc.stringMatching(/^[A-Za-z0-9]([\w-]{0,6}[A-Za-z0-9])?$/);
  fc.assert(fc.property(
    fc.constantFrom("model" as const, "dataset" as const),
    word,
    word,
    word.filter((revision) => revision !== "refs"),
    fc.array(word, { minLength: 1, maxLength: 3 }),
    (kind, owner, name, revision, parts) => {
      const path = parts.join("/");
      assert.deepEqual(parse(`hf:${kind}s/${owner}/${name}@${revision}/${path}`), [
        kind,
        `${owner}/${name}`,
        revision,
        path,
      ]);
    },
  ));
});
