import assert from "node:assert/strict";
import fc from "fast-check";
import { makeCorpus } from "../../../core/data/corpus.ts";
import { type BlockSizes, blockSizes } from "../../../core/data/blocks.ts";
import type { ReadOptions } from "../../../core/data/documents.ts";
import { batchEncoder } from "../../../core/data/encode.ts";
import { placeDocuments } from "../../../core/data/place.ts";
import { readMarked } from "../../../core/data/read_text.ts";
import { openShards } from "../../../core/data/shard_reader.ts";
import { tokenizeFiles } from "../../../core/data/tokenize.ts";
import { huggingfaceTokenizer } from "../../../core/text/huggingface.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { bpeFile, PieceCounts, trainMerges } from "../../../core/text/train_bpe.ts";
import { withTempDir } from "../../support.ts";
import { unigram } from "../text/fixtures.ts";

const small: BlockSizes = { ...blockSizes, block: 20, long: 40 };

function trainedBpe(): Tokenizer {
  const counts = new PieceCounts();
  counts.add(makeCorpus({ seed: 3, bytes: 20_000 }).documents.join("\n"));
  return huggingfaceTokenizer(bpeFile(trainMerges(counts.entries(), 500)), "t");
}
const tokenizers = [byteTokenizer(), characterTokenizer("abcde \n|é🙂"), trainedBpe()];

interface Reading {
  readonly tokenizer: Tokenizer;
  readonly sizes: BlockSizes;
  readonly separator?: string;
  readonly valFraction?: number;
  readonly onError?: ReadOptions["onError"];
}

/** The ids of each split's documents, and what was said, of bytes that come in chunks of a size. */
async function encodeBytes(bytes: Uint8Array, chunkSize: number, reading: Reading) {
  const { tokenizer, sizes, separator, valFraction = 0.3, onError = "stop" } = reading;
  const options: ReadOptions = { format: "text", fields: [], separator, onError };
  const said: string[] = [];
  return await withTempDir(async (dir) => {
    await Deno.writeFile(`${dir}/t`, bytes); // read for its length
    async function* chunks() {
      for (let at = 0; at < bytes.length; at += chunkSize) {
        yield await bytes.subarray(at, at + chunkSize);
      }
    }
    const mark = new TextEncoder().encode(separator ?? "");
    const long = { lastCut: tokenizer.lastCut, valFraction, spoolFolder: dir, sizes };
    const encode = batchEncoder(tokenizer, { reading: options, valFraction });
    async function* encoded() {
      for await (
        const block of readMarked({ kind: "text", path: `${dir}/t`, mark }, long, chunks())
      ) {
        yield { item: [block], result: encode([block]) };
      }
    }
    const items = placeDocuments(encoded(), { valFraction, seed: 1 }, {
      onFault(fault) {
        if (onError === "stop") throw fault;
        said.push(`${fault.where?.replace(dir, ".")}: ${fault.message}`);
      },
      onEmpty: () => said.push("empty"),
      onProgress() {},
    });
    const splits = { train: [[]] as number[][], val: [[]] as number[][] };
    let begin = structuredClone(splits);
    let pieces = 0;
    for await (const batch of items) {
      for (const item of batch) {
        if (item === "begin") begin = structuredClone(splits);
        else if (item === "undo") Object.assign(splits, structuredClone(begin));
        else {
          const documents = splits[item.split];
          documents.at(-1)!.push(...item.ids);
          if (item.isOpen) pieces++;
          else documents.push([]);
        }
      }
    }
    return { ...splits, said, pieces };
  });
}

Deno.test("long documents: in pieces, the ids and splits of the whole, wherever chunks end", async () => {
  const unit = fc.constantFrom("a", "b c", "de\n", " ", "\n", "|", "é", "🙂", "dad\nbee");
  const property = fc.asyncProperty(
    fc.string({ unit, minLength: 1, maxLength: 120 }),
    fc.integer({ min: 1, max: 30 }),
    fc.constantFrom(...tokenizers),
    fc.constantFrom(undefined, "|", "\n\n"),
    fc.constantFrom(0, 0.1, 0.5, 0.77, 1),
    async (text, chunkSize, tokenizer, separator, valFraction) => {
      const bytes = new TextEncoder().encode(`a${text}`); // never all white space
      const reading = { tokenizer, separator, valFraction };
      const inPieces = await encodeBytes(bytes, chunkSize, { ...reading, sizes: small });
      const whole = await encodeBytes(bytes, chunkSize, { ...reading, sizes: blockSizes });
      assert.equal(whole.pieces, 0);
      assert.deepEqual({ ...inPieces, pieces: 0 }, whole);
    },
  );
  await fc.assert(property, { numRuns: 150 });
});

Deno.test("long documents: they are cut, indeed", async () => {
  const text = "a bad bee 🙂 fed a dab\n".repeat(50).replaceAll("f", "d");
  for (const tokenizer of tokenizers) {
    const reading = { tokenizer, sizes: small, valFraction: 0.5 };
    assert.ok((await encodeBytes(new TextEncoder().encode(text), 64, reading)).pieces > 10);
  }
});

Deno.test("long documents: one that turns out unusable, or without text, leaves nothing", async () => {
  const [, characters] = tokenizers;
  const good = "a bad bee ".repeat(20), blank = " \n".repeat(100);
  const bytes = new TextEncoder().encode(`${good}|${good}\n?|${blank}|${good}x|bad|${good}`)
    .map((byte) => byte === 0x3f ? 0xff : byte);
  const reading = {
    tokenizer: characters,
    separator: "|",
    onError: "skip",
    valFraction: 0.5,
  } as const;
  const inPieces = await encodeBytes(bytes, 7, { ...reading, sizes: small });
  assert.deepEqual(inPieces.said, [
    "./t:2: not valid UTF-8: byte 0xff at offset 402 of the file",
    "empty",
    './t:102: the character "x" (U+0078) is not among the 10 that the tokenizer knows',
  ]);
  const whole = await encodeBytes(bytes, 7, { ...reading, sizes: blockSizes });
  assert.deepEqual({ ...inPieces, pieces: 0 }, whole);
  await assert.rejects(encodeBytes(bytes, 7, { ...reading, onError: "stop", sizes: small }), {
    message: /0xff at offset 402/,
  });
  const alone = { ...reading, separator: undefined, sizes: small };
  await assert.rejects(encodeBytes(bytes, 7, alone), /there is no text/);
  await assert.rejects(encodeBytes(new TextEncoder().encode(blank), 7, alone), /there is no text/);
});

Deno.test("long documents: where no place to cut is sure, the text is held or refused with its place", async () => {
  const tokenizer = huggingfaceTokenizer(JSON.stringify(unigram()), "t");
  assert.equal(tokenizer.lastCut, undefined);
  const bytes = new TextEncoder().encode("to be or not to be|" + "to be ".repeat(30) + "|to be");
  const reading = { tokenizer, separator: "|", onError: "skip", valFraction: 0 } as const;
  const held = await encodeBytes(bytes, 9, { ...reading, sizes: small });
  assert.equal(held.pieces, 0);
  assert.equal(held.train.length, 3 + 1);
  const refused = await encodeBytes(bytes, 9, { ...reading, sizes: { ...small, most: 100 } });
  assert.deepEqual(refused.said.map((line) => line.slice(0, 17)), ["./t:1: a document"]);
  assert.deepEqual(refused.train, [held.train[0], held.train[2], []]);
});

Deno.test("shards: a document that is taken back leaves no trace, over the edges of shards", async () => {
  await withTempDir(async (dir) => {
    const good = ["a bad bee", "dad", "bead ".repeat(9)];
    const bad = ["a ".repeat(90) + "x", "x", "d ".repeat(30) + "x"];
    const mixed = good.flatMap((text, i) => [text, bad[i]]).join("|");
    await Deno.writeTextFile(`${dir}/mixed.txt`, mixed);
    await Deno.writeTextFile(`${dir}/good.txt`, good.join("|"));
    await Deno.writeTextFile(`${dir}/tokenizer.json`, characterTokenizer("abcde |").file);
    const indexOf = async (name: string) => {
      const { index, skipped } = await tokenizeFiles({
        inputs: [`${dir}/${name}.txt`],
        reading: { format: "text", fields: [], separator: "|", onError: "skip" },
        tokenizer: `${dir}/tokenizer.json`,
        valFraction: 0,
        seed: 0,
        target: { folder: `${dir}/${name}`, ifExists: "fail", shardBytes: 32 },
        threads: 1,
        sizes: { ...small, block: 5, long: 10 },
      });
      using _ = await openShards(`${dir}/${name}`);
      const files = [...Deno.readDirSync(`${dir}/${name}`)].map(({ name }) => name).sort();
      const bytes = files.map((file) => Deno.readFileSync(`${dir}/${name}/${file}`));
      return { index, skipped, files, bytes };
    };
    const { skipped, ...all } = await indexOf("mixed");
    assert.equal(skipped, bad.length);
    assert.ok(all.index.splits.train.shards.length > 2);
    assert.deepEqual({ ...all, skipped: 0 }, await indexOf("good"));
  });
});
