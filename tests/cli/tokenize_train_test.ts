import assert from "node:assert/strict";
import { makeCorpus } from "../../core/data/corpus.ts";
import { loadTokenizer } from "../../core/text/load.ts";
import { quern, withTempDir } from "../support.ts";

Deno.test("quern tokenize train: a tokenizer.json that tokenize takes, the same for the same text", async () => {
  await withTempDir(async (cwd) => {
    const { documents } = makeCorpus({ seed: 1, bytes: 30_000 });
    await Deno.writeTextFile(`${cwd}/a.txt`, documents.join("\n"));
    const lines = documents.map((story) => JSON.stringify({ story }));
    await Deno.writeTextFile(`${cwd}/a.jsonl`, `${lines.join("\n")}\nbad\n`);
    const go = (...args: string[]) => quern(["tokenize", ...args], { cwd });

    const train = ["train", "a.txt", "--vocab-size", "400", "--out"];
    const made = await go(...train, "one.json");
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /^one\.json: byte-level BPE, vocabulary 400, end of text 399\n/);
    const again = await go(...train, "sub/two.json", "--json");
    const { vocab_size, hash, documents: read } = JSON.parse(again.stdout);
    assert.deepEqual([vocab_size, read], [400, 1]);
    assert.equal((await loadTokenizer(`${cwd}/one.json`)).hash, hash);

    const jsonl = [
      "train",
      "a.jsonl",
      "--field",
      "story",
      "--vocab-size",
      "300",
      "--out",
      "j.json",
    ];
    assert.match((await go(...jsonl)).stderr, /^error: a\.jsonl:\d+: not JSON/);
    const skipped = await go(...jsonl, "--on-error", "skip", "--json");
    assert.equal(JSON.parse(skipped.stdout).skipped, 1);

    const used = await go("a.txt", "--tokenizer", "one.json", "--out", "d", "--json");
    assert.equal(used.code, 0, used.stderr);
    const { train: split, end_of_text } = JSON.parse(used.stdout);
    assert.equal(end_of_text, 399);
    assert.ok(split.bytes / split.tokens > 2);
  });
});

Deno.test("quern tokenize train: wrong usage ends with code 2 and says what to try", async () => {
  await withTempDir(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/a.txt`, "text text");
    const fails = async (message: RegExp, ...args: string[]) => {
      const { code, stderr } = await quern(["tokenize", "train", ...args], { cwd });
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    };
    await fails(/required option '--vocab-size <n>'/, "a.txt", "--out", "t");
    await fails(/required option '--out <file>'/, "a.txt", "--vocab-size", "300");
    await fails(/whole number of at least 257/, "a.txt", "--vocab-size", "256", "--out", "t");
    await fails(/Not at most 1048576/, "a.txt", "--vocab-size", "1e7", "--out", "t");
    await fails(
      /Did you mean --overwrite/,
      ...["a.txt", "--vocab-size", "300", "--out", "t", "--overwritte"],
    );
    await fails(/a\.txt: it exists already/, "a.txt", "--vocab-size", "300", "--out", "a.txt");
    const small = await quern(
      ["tokenize", "train", "a.txt", "--vocab-size", "300", "--out", "t.json"],
      { cwd },
    );
    assert.match(small.stderr, /smaller than asked: no more pairs occur twice/);
  });
});
