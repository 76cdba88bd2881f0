/**
 * Byte-level BPE on one core: this repository's source as text, a vocabulary of 8,192 learned from
 * it, encoded by quern and by @huggingface/tokenizers in documents of 4,096 characters. Then the
 * whole command's work on twenty times as much, by one thread and by two.
 */

import { Tokenizer as Library } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { makeCorpus } from "../../core/data/corpus.ts";
import { tokenizeFiles } from "../../core/data/tokenize.ts";
import { huggingfaceTokenizer } from "../../core/text/huggingface.ts";
import { bpeFile, PieceCounts, trainMerges } from "../../core/text/train_bpe.ts";
import { root, withTempDir } from "../support.ts";
import { interleave } from "./interleave.ts";

function sourceText(folder: string): string {
  return [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1)
    .map(({ name, isDirectory }) => {
      if (isDirectory) return sourceText(`${folder}/${name}`);
      return /\.(ts|md|yaml)$/.test(name) ? Deno.readTextFileSync(`${folder}/${name}`) : "";
    }).join("");
}

function timed<T>(work: () => T): { result: T; seconds: number } {
  const startedAt = performance.now();
  const result = work();
  return { result, seconds: (performance.now() - startedAt) / 1000 };
}

const source = ["core", "kernels", "cli", "tests"].map((name) => sourceText(root + name)).join("");
const text = source + makeCorpus({ seed: 1, bytes: 1_000_000 }).documents.join("\n");
const megabytes = new TextEncoder().encode(text).length / 1e6;

const learning = timed(() => {
  const counts = new PieceCounts();
  counts.add(text);
  return bpeFile(trainMerges(counts.entries(), 8192));
});
const file = learning.result;
console.log(
  `${megabytes.toFixed(1)} MB: a vocabulary of 8,192 learned in ${learning.seconds.toFixed(2)} s`,
);

const documents = Array.from(
  { length: Math.ceil(text.length / 4096) },
  (_, i) => text.slice(4096 * i, 4096 * (i + 1)),
);
const library = new Library({ ...JSON.parse(file), added_tokens: [] }, {});
const ours = timed(() => {
  const tokenizer = huggingfaceTokenizer(file, "tokenizer.json");
  return documents.map((document) => tokenizer.encode(document));
});
const theirs = timed(() =>
  documents.map((document) => library.encode(document, { add_special_tokens: false }).ids)
);
documents.forEach((_, i) => assert.deepEqual([...ours.result[i]], theirs.result[i]));
const rate = (seconds: number) => `${(megabytes / seconds).toFixed(1)} MB/s`;
console.log(
  `encoding ${rate(ours.seconds)}, @huggingface/tokenizers ${rate(theirs.seconds)}: ${
    (theirs.seconds / ours.seconds).toFixed(1)
  } times as fast, equal ids`,
);

await withTempDir(async (dir) => {
  await Deno.writeTextFile(`${dir}/tokenizer.json`, file);
  const copies = 20; // long enough that a worker's start is not what is measured
  const lines = documents.map((text) => `${JSON.stringify({ text })}\n`).join("");
  await Deno.writeTextFile(`${dir}/a.jsonl`, lines.repeat(copies));
  const work = (threads: number) => async () => {
    const startedAt = performance.now();
    await tokenizeFiles({
      inputs: [`${dir}/a.jsonl`],
      reading: { format: "auto", fields: ["text"], separator: undefined, onError: "stop" },
      tokenizer: `${dir}/tokenizer.json`,
      valFraction: 0.1,
      seed: 0,
      target: { folder: `${dir}/d${threads}`, ifExists: "replace", shardBytes: 2 ** 28 },
      threads,
    });
    return performance.now() - startedAt;
  };
  const { one, two } = await interleave({ one: work(1), two: work(2) }, { rounds: 2, warmMs: 0 });
  console.log(
    `all of tokenizing ${rate(one!.best / 1000 / copies)} by one thread; two are ${
      (one!.best / two!.best).toFixed(2)
    } times as fast`,
  );
});
