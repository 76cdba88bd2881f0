import assert from "node:assert/strict";
import { type BlockSizes, blockSizes } from "../../../core/data/blocks.ts";
import type { ReadOptions } from "../../../core/data/documents.ts";
import { tokenizeFiles } from "../../../core/data/tokenize.ts";
import { trainTokenizer } from "../../../core/data/train_tokenizer.ts";
import { UserError } from "../../../core/io/errors.ts";
import { withTempDir } from "../../support.ts";
import { byteLevelBpe } from "../text/fixtures.ts";
import { awkward, unicodeSamples } from "../text/samples.ts";

/** Workers start at once, and a text is long soon. */
const sizes: BlockSizes = { ...blockSizes, block: 4000, long: 20_000, start: 0 };
const bytes = 200_000;
const samples = [...awkward, ...unicodeSamples, "the end of the day ".repeat(30)];

/** Lines of jsonl; some cannot be used, some hold nothing. */
function jsonl(): Uint8Array {
  const lines: string[] = [];
  for (let size = 0, i = 0; size < bytes; i++) {
    const text = `${i} ${samples[i % samples.length]}`;
    const odd = ['{"text":""}', "{oops", '{"text":7}', "", '{"text":"a?b"}'][i / 37];
    lines.push(odd ?? JSON.stringify({ text: text.repeat(1 + i % 5) }));
    size += lines[i].length;
  }
  // one bad byte in the last odd line
  const encoded = new TextEncoder().encode(lines.join("\n"));
  return encoded.map((byte, i) => byte === 0x3f && encoded[i - 1] === 0x61 ? 0xff : byte);
}

/** A text of several long documents. */
const text = () => samples.join("\n").repeat(Math.ceil(bytes / 1500)).replaceAll("|", "");

interface Trial {
  readonly input: string;
  readonly content: string | Uint8Array;
  readonly tokenizer: string;
  readonly separator?: string;
  readonly onError?: ReadOptions["onError"];
}

/** All that tokenizing with so many threads leaves and says. */
async function tokenize(trial: Trial, threads: number) {
  return await withTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/tokenizer.json`, JSON.stringify(byteLevelBpe()));
    const path = `${dir}/${trial.input}`;
    const { content } = trial;
    await Deno.writeFile(
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
    const said: string[] = [];
    const say = ({ where, message }: UserError) =>
      said.push(`${where?.replace(dir, ".")}: ${message}`);
    const { separator, onError = "stop" } = trial;
    try {
      const { skipped, empty } = await tokenizeFiles({
        inputs: [path],
        reading: { format: "auto", fields: ["text"], separator, onError },
        tokenizer: trial.tokenizer === "bpe" ? `${dir}/tokenizer.json` : trial.tokenizer,
        valFraction: 0.1,
        seed: 3,
        target: { folder: `${dir}/d`, ifExists: "fail", shardBytes: 100_000 },
        threads,
        sizes,
      }, { onSkip: say });
      said.push(`${skipped} skipped, ${empty} empty`);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      say(error);
      assert.ok([...Deno.readDirSync(dir)].every(({ name }) => !/^\.?d/.test(name)));
      return { said, files: [] };
    }
    const names = [...Deno.readDirSync(`${dir}/d`)].map(({ name }) => name).sort();
    return { said, files: names.map((name) => [name, Deno.readTextFileSync(`${dir}/d/${name}`)]) };
  });
}

const trials: Record<string, Trial> = {
  "jsonl with faults, skipped": {
    input: "a.jsonl",
    content: jsonl(),
    tokenizer: "bpe",
    onError: "skip",
  },
  "jsonl, stopped by its first fault": { input: "a.jsonl", content: jsonl(), tokenizer: "byte" },
  "one text, cut in two": { input: "a.txt", content: text(), tokenizer: "bpe" },
  "text with separators": {
    input: "a.txt",
    content: text(),
    tokenizer: "character",
    separator: "\n\n",
  },
};

for (const [name, trial] of Object.entries(trials)) {
  Deno.test(`threads: ${name}: 1, 2 and 3 leave the same bytes and say the same`, async () => {
    const alone = await tokenize(trial, 1);
    assert.ok(alone.said.length > 0);
    for (const threads of [2, 3]) assert.deepEqual(await tokenize(trial, threads), alone);
    if (trial.onError !== "skip") return;
    assert.deepEqual(alone.said.map((line) => line.split(": ")[0]), [
      "./a.jsonl:38",
      "./a.jsonl:75",
      "./a.jsonl:149",
      "3 skipped, 1 empty",
    ]);
  });
}

Deno.test("threads: a vocabulary learned by 1, 2 and 3 is the same", async () => {
  await withTempDir(async (dir) => {
    await Deno.writeFile(`${dir}/a.jsonl`, jsonl());
    const reading = {
      format: "auto",
      fields: ["text"],
      separator: undefined,
      onError: "skip",
    } as const;
    const learned = [];
    for (const threads of [1, 2, 3]) {
      const job = {
        inputs: [`${dir}/a.jsonl`],
        reading,
        vocabSize: 300,
        out: `${dir}/t`,
        threads,
        sizes,
      };
      const { tokenizer, ...counts } = await trainTokenizer({ ...job, ifExists: "replace" });
      learned.push({ file: tokenizer.file, ...counts });
    }
    assert.deepEqual(learned[1], learned[0]);
    assert.deepEqual(learned[2], learned[0]);
    assert.equal(learned[0].skipped, 3);
  });
});

Deno.test("threads: work that is stopped ends at once and leaves nothing", async () => {
  await withTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/a.txt`, text());
    const stop = new AbortController();
    const work = tokenizeFiles({
      inputs: [`${dir}/a.txt`],
      reading: { format: "auto", fields: [], separator: undefined, onError: "stop" },
      tokenizer: "byte",
      valFraction: 0.1,
      seed: 3,
      target: { folder: `${dir}/d`, ifExists: "fail", shardBytes: 100_000 },
      threads: 2,
      sizes,
    }, { signal: stop.signal, onProgress: () => stop.abort(new UserError("stopped")) });
    await assert.rejects(work, { name: "UserError", message: "stopped" });
    assert.deepEqual([...Deno.readDirSync(dir)].map(({ name }) => name), ["a.txt"]);
  });
});
