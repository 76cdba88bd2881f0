import assert from "node:assert/strict";
import { join } from "node:path";
import { byteCounter } from "../../../core/train/byte_counter.ts";
import { type Batch, ignoredTarget, validationBatches } from "../../../core/data/batches.ts";
import { openShards } from "../../../core/data/shard_reader.ts";
import { parseTokenizer } from "../../../core/text/load.ts";
import { byteTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { byteFallbackBpe } from "../text/fixtures.ts";
import { readJson } from "../../vectors.ts";
import { makeData, tinyConfig, train } from "./tiny_run.ts";

const batchOf = (targets: readonly number[]): Batch => {
  const rest = new Int32Array(targets.length);
  return {
    rows: 1,
    length: targets.length,
    ids: rest,
    segmentIds: rest,
    positions: rest,
    targets: Int32Array.from(targets),
  };
};

Deno.test("bits a byte: every target's loss counts, a special token's over no bytes", () => {
  const { bytes_per_target, nll_nats, bpb } = readJson<{
    bytes_per_target: number[];
    nll_nats: number[];
    bpb: number;
  }>("spec/bits_per_byte.json");
  // each target stands for itself: the bytes of a piece do not depend on its neighbours here
  const bytesOf = (id: number) => new Uint8Array(bytes_per_target[id]);
  const tokenizer = { ...byteTokenizer(), vocabSize: bytes_per_target.length, bytesOf };
  const counter = byteCounter(tokenizer, { bytes: 0, tokens: 1 });
  for (const _ of counter.watch([batchOf([...bytes_per_target.keys(), ignoredTarget])])) continue;
  const nats = nll_nats.reduce((sum, nat) => sum + nat, 0);
  assert.ok(Math.abs(nats / Math.LN2 / counter.counted() - bpb) < 1e-12);
});

Deno.test("bits a byte: without bytes of tokens, the split's mean stands for them", () => {
  const unknown = { ...byteTokenizer(), bytesOf: undefined };
  const counter = byteCounter(unknown, { bytes: 30, tokens: 10 });
  for (const _ of counter.watch([batchOf([1, 2, ignoredTarget])])) continue;
  assert.equal(counter.counted(), 6);
  const exact = byteCounter(byteTokenizer(), { bytes: 30, tokens: 10 });
  for (const _ of exact.watch([batchOf([1, 256])])) continue;
  assert.equal(exact.counted(), 1);
});

Deno.test("bits a byte: of .bin shards SentencePiece's marks are spaces, but not where a document begins", () =>
  withTempDir(async (dir) => {
    const file = JSON.stringify(byteFallbackBpe());
    await Deno.writeTextFile(join(dir, "tokenizer.json"), file);
    const tokenizer = await parseTokenizer(file, "tokenizer.json");
    const texts = ["the cat", "a hat é"];
    const tokens = texts.flatMap((text) => [1, ...tokenizer.encode(text)]);
    const header = Int32Array.of(20240520, 1, tokens.length, ...Array(253).fill(0));
    const shard = [header, Uint16Array.from(tokens)].map((part) => new Uint8Array(part.buffer));
    for (const split of ["train", "val"]) {
      await Deno.writeFile(
        join(dir, `fineweb_${split}_000000.bin`),
        Uint8Array.from(shard.flatMap((part) => [...part])),
      );
    }
    using shards = await openShards(dir);
    const { val } = shards.splits, counter = byteCounter(shards.tokenizer, val);
    const rows = { split: val, rows: 2, length: 8 };
    let targets = 0;
    for (const batch of counter.watch(validationBatches(rows, "stream"))) {
      targets += batch.targets.filter((id) => id !== ignoredTarget).length;
    }
    assert.equal(targets, tokens.length - 1);
    assert.equal(counter.counted(), 7 + 8);
  }));

Deno.test("bits a byte: with max_tokens the measured targets' bytes count", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    // inside the first held-out document every target is a byte
    const config = tinyConfig(data, { steps: 1, validation: { max_tokens: 5 } });
    const events = await train(config, { run: join(dir, "run") });
    const found = events.find((event) => event.kind === "validation")!;
    assert.equal(found.targets, 5);
    assert.ok(Math.abs(found.bitsPerByte - found.loss / Math.LN2) < 1e-12);
  }));
