import assert from "node:assert/strict";
import { join } from "node:path";
import { firstCursor, nextBatch } from "../../../core/data/batches.ts";
import { openShards } from "../../../core/data/shard_reader.ts";
import { UserError } from "../../../core/io/errors.ts";
import { idsTokenizer } from "../../../core/text/ids.ts";

/** A shard as the challenge writes it. */
function shard(tokens: readonly number[], header: readonly number[] = []): Uint8Array {
  const words = new Int32Array(256),
    [magic = 20240520, version = 1, count = tokens.length] = header;
  words.set([magic, version, count]);
  const bytes = new Uint8Array(1024 + 2 * tokens.length);
  bytes.set(new Uint8Array(words.buffer));
  bytes.set(new Uint8Array(Uint16Array.from(tokens).buffer), 1024);
  return bytes;
}

async function folderOf(files: Readonly<Record<string, Uint8Array>>, vocabulary = 9) {
  const folder = await Deno.makeTempDir();
  for (const [name, bytes] of Object.entries(files)) {
    await Deno.writeFile(join(folder, name), bytes);
  }
  if (vocabulary) {
    const text = `{ "quern": "ids", "vocab_size": ${vocabulary} }`; // as somebody types it
    await Deno.writeTextFile(join(folder, "tokenizer.json"), text);
  }
  return { folder, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

const train = {
  "fineweb_train_000001.bin": shard([8, 1, 6]),
  "fineweb_train_000000.bin": shard([1, 2, 3, 1, 4]),
};

Deno.test("shards of the challenge: one row of tokens in the files' order, documents from each token 1", async () => {
  await using made = await folderOf({ ...train, "fineweb_val_000000.bin": shard([1, 5, 5]) });
  using data = await openShards(made.folder);
  const { train: split, val } = data.splits, all = new Int32Array(8);
  assert.deepEqual([split.tokens, val.tokens, data.index.vocab_size], [8, 3, 9]);
  split.read(0, all);
  assert.deepEqual([...all], [1, 2, 3, 1, 4, 8, 1, 6]);
  split.read(4, all.subarray(0, 3)); // over a file's end
  assert.deepEqual([...all.subarray(0, 3)], [4, 8, 1]);
  assert.equal(split.documents, 3);
  assert.deepEqual([...split.documentStarts()], [0, 3, 6, 8]);
  assert.equal(data.tokenizer.hash, idsTokenizer(9).hash);
  // a document's first token is read, but nothing is to guess it
  const source = { split, rows: 1, length: 5, seed: 1 };
  const { batch } = nextBatch(source, firstCursor("documents"));
  assert.ok(![...batch.targets].includes(1));
  assert.equal([...batch.ids].filter((id) => id === 1).length, 3);
});

Deno.test("shards of the challenge: files that are not what they say are refused, with a way on", async () => {
  const refusal = async (files: Record<string, Uint8Array>, vocabulary?: number) => {
    await using made = await folderOf(files, vocabulary);
    try {
      using _ = await openShards(made.folder);
    } catch (error) {
      assert.ok(error instanceof UserError);
      return `${error.message}; ${error.hint}`;
    }
    return "none";
  };
  const named = (bytes: Uint8Array) => ({ "a_train_0.bin": bytes });
  assert.match(await refusal(named(shard([1, 2], [7]))), /begins with 7; fetch/);
  assert.match(await refusal(named(shard([1, 2], [20240520, 2]))), /version 2, and only 1/);
  assert.match(await refusal(named(shard([1, 2], [20240520, 1, 3]))), /1028 bytes.* says 1030/);
  assert.match(await refusal(named(new Uint8Array(9))), /9 bytes, less than a header/);
  assert.match(await refusal(named(shard([1, 2])), 0), /vocabulary is; put .*"quern":"ids"/);
  await using made = await folderOf(named(shard([1, 2, 9])));
  using data = await openShards(made.folder);
  assert.throws(() => data.splits.train.read(0, new Int32Array(3)), /id 9 is outside .* of 9/);
});

Deno.test("a tokenizer of ids: texts are numbers", () => {
  const tokenizer = idsTokenizer(1024);
  assert.deepEqual([...tokenizer.encode(" 12 7\n5 ")], [12, 7, 5]);
  assert.equal(tokenizer.decode([1, 12, 7, 5]), "12 7 5");
  for (const text of ["12 x", "1024", "-1", "1.5"]) {
    assert.throws(() => tokenizer.encode(text), /is no token id from 0 to 1023/);
  }
});
