import assert from "node:assert/strict";
import { openShards } from "../../../core/data/shard_reader.ts";
import { splitStats } from "../../../core/inspect/shards.ts";
import { encodedText, tokenizerFacts } from "../../../core/inspect/tokenizer_facts.ts";
import { parseTokenizer } from "../../../core/text/load.ts";
import { byteTokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { byteFallbackBpe } from "../text/fixtures.ts";
import { makeData } from "../train/tiny_run.ts";

const options = { maxTokens: 1e9, common: 3, samples: 2, sampleTokens: 8, seed: 0 };

Deno.test("shards: lengths, common tokens and samples are the data's own", () =>
  withTempDir(async (dir) => {
    using shards = await openShards(await makeData(dir, 3000));
    const { train } = shards.splits, found = splitStats(train, shards.tokenizer, options);
    const ids = new Int32Array(train.tokens), starts = train.documentStarts();
    train.read(0, ids);
    const ends = ids.filter((id) => id === 256).length;
    assert.equal(found.documents, ends);
    assert.equal(found.bytes, train.tokens - ends);
    const { lengths, common, samples } = found;
    const histogram = lengths!.histogram;
    assert.equal(histogram.reduce((sum, { documents }) => sum + documents, 0), found.documents);
    for (const { from, to, documents } of histogram) {
      const own = [...starts.subarray(1)].filter((end, i) =>
        end - starts[i] >= from && end - starts[i] < to
      );
      assert.equal(documents, own.length);
    }
    assert.equal(lengths!.mean, train.tokens / ends);
    const [{ id, text, count }] = common;
    assert.equal(text, String.fromCharCode(id));
    assert.equal(count, ids.filter((one) => one === id).length);
    assert.ok(common.every((one, i) => i === 0 || one.count <= common[i - 1].count));
    assert.equal(samples.length, 2);
    for (const { document, text } of samples) {
      const first = ids.subarray(starts[document], starts[document] + 8);
      assert.equal(text, byteTokenizer().decode(first));
    }
    const some = splitStats(train, shards.tokenizer, { ...options, maxTokens: 100 });
    assert.equal(some.counted, 100);
    assert.deepEqual(some.lengths, lengths);
  }));

Deno.test("tokenizers: special tokens, bytes, and a text's tokens", async () => {
  const facts = tokenizerFacts(byteTokenizer()), text = encodedText(byteTokenizer(), "hé");
  assert.deepEqual(text.tokens.map(({ id }) => id), [104, 195, 169]);
  assert.ok(text.isLossless && text.bytes === 3);
  assert.deepEqual(facts.specials, [{ name: "<|endoftext|>", id: 256 }]);
  assert.deepEqual(facts.bytes!.histogram, [{ bytes: 1, tokens: 256 }]);
  const pieces = await parseTokenizer(JSON.stringify(byteFallbackBpe()), "tokenizer.json");
  const { tokens } = encodedText(pieces, "a the"), { bytes } = tokenizerFacts(pieces);
  assert.deepEqual(tokens.map(({ text }) => text).join(""), "\u2581a\u2581the");
  assert.equal(bytes!.most, 3);
});
