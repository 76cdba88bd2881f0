import assert from "node:assert/strict";
import { openShards, requireTokenizer } from "../../../core/data/shard_reader.ts";
import { writeShards } from "../../../core/data/shard_writer.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { openTexts, writeTexts } from "./support.ts";

/** A tokenizer of any vocabulary size whose file says nothing; only writing needs it. */
function sized(vocabSize: number): Tokenizer {
  return { ...byteTokenizer(), vocabSize, endOfText: undefined };
}

for (const [vocabSize, dtype] of [[65535, "u16"], [65536, "u16"], [65537, "u32"]] as const) {
  Deno.test(`replay: princeton-nlp/LLM-Shearing 65: ${vocabSize} ids are kept whole, as ${dtype}`, async () => {
    await withTempDir(async (dir) => {
      const ids = Uint32Array.of(0, 1, vocabSize - 2, vocabSize - 1);
      async function* one() {
        yield await Promise.resolve([{ split: "train" as const, ids, bytes: 4 }]);
      }
      const target = { folder: `${dir}/d`, ifExists: "fail" as const, shardBytes: 1024 };
      const index = await writeShards(target, sized(vocabSize), one());
      assert.equal(index.dtype, dtype);
      using reader = await openShards(`${dir}/d`);
      const out = new Int32Array(4);
      reader.splits.train.read(0, out);
      assert.deepEqual([...out], [...ids]);
    });
  });
}

Deno.test("replay: mlfoundations/open_lm 77: data of another tokenizer is refused, naming both", async () => {
  await withTempDir(async (dir) => {
    using reader = await openTexts(`${dir}/d`, ["hello"]);
    requireTokenizer(reader, byteTokenizer());
    assert.throws(() => requireTokenizer(reader, characterTokenizer("helo")), {
      name: "UserError",
      where: `${dir}/d`,
      message:
        /^made with the tokenizer byte [0-9a-f]{12} \(257 tokens\), but character [0-9a-f]{12} \(5 tokens\)/,
    });
    await Deno.writeTextFile(`${dir}/d/tokenizer.json`, characterTokenizer("helo").file);
    await assert.rejects(openShards(`${dir}/d`), /made with the tokenizer byte/);
  });
});

Deno.test("shards: tokens and documents are read back across the edges of files", async () => {
  await withTempDir(async (dir) => {
    const texts = Array.from({ length: 40 }, (_, i) => "x".repeat(i) + "é");
    using reader = await openTexts(`${dir}/d`, texts, { shardBytes: 100 }); // 50 tokens a file
    const { train, val } = reader.splits;
    assert.equal(reader.index.splits.train.shards.length, Math.ceil(train.tokens / 50));
    assert.equal(val.tokens, 0);
    assert.equal(train.documents, 40);
    assert.equal(train.bytes, texts.reduce((n, t) => n + new TextEncoder().encode(t).length, 0));
    const starts = train.documentStarts();
    texts.forEach((text, i) => {
      const document = new Int32Array(starts[i + 1] - starts[i]);
      train.read(starts[i], document);
      assert.equal(document.at(-1), 256);
      assert.equal(reader.tokenizer.decode(document), text);
    });
    assert.throws(() => train.read(train.tokens - 1, new Int32Array(2)), RangeError);
  });
});

Deno.test("shards: damage is named by file", async () => {
  const damaged = (change: (folder: string) => Promise<void>, message: RegExp) =>
    withTempDir(async (dir) => {
      await writeTexts(`${dir}/d`, [{ split: "train", text: "some text" }]);
      await change(`${dir}/d`);
      await assert.rejects(async () => {
        using reader = await openShards(`${dir}/d`);
        reader.splits.train.read(0, new Int32Array(3));
        reader.splits.train.documentStarts();
      }, { name: "UserError", message });
    });
  await damaged((d) => Deno.truncate(`${d}/train-00000.bin`, 4), /has 4 bytes, the index says 20/);
  await damaged((d) => Deno.remove(`${d}/train-00000.bin`), /no such file/);
  await damaged((d) => Deno.writeTextFile(`${d}/index.json`, "{"), /not JSON/);
  await damaged((d) => Deno.writeTextFile(`${d}/index.json`, "{}"), /not an index of shards/);
  await damaged((d) => Deno.remove(`${d}/index.json`), /holds no index\.json/);
  await damaged(
    (d) => Deno.writeFile(`${d}/train-00000.bin`, new Uint8Array(20).fill(255)),
    /token id 65535 is outside the vocabulary of 257/,
  );
  await damaged(
    (d) => Deno.writeFile(`${d}/train.documents.bin`, Uint8Array.of(3, 0, 0, 0)),
    /3 tokens together, not 10/,
  );
});

Deno.test("shards: an interrupted write leaves nothing; only shards are ever replaced", async () => {
  await withTempDir(async (dir) => {
    async function* failing() {
      yield await Promise.resolve([{ split: "train" as const, ids: Uint32Array.of(1), bytes: 1 }]);
      throw new Error("stop");
    }
    const fail = { folder: `${dir}/d`, ifExists: "fail", shardBytes: 64 } as const;
    await assert.rejects(writeShards(fail, byteTokenizer(), failing()), /stop/);
    assert.deepEqual([...Deno.readDirSync(dir)], []);

    await Deno.mkdir(`${dir}/d`);
    await Deno.writeTextFile(`${dir}/d/thesis.txt`, "mine");
    await assert.rejects(writeShards(fail, byteTokenizer(), failing()), /exists already/);
    const replace = { ...fail, ifExists: "replace" } as const;
    await assert.rejects(writeShards(replace, byteTokenizer(), failing()), /may be something else/);
    assert.equal(await Deno.readTextFile(`${dir}/d/thesis.txt`), "mine");
  });
});
