/**
 * README's commands, run in order in a folder of their own, as a reader would.
 *
 * @module
 */
import assert from "node:assert/strict";
import { makeCorpus } from "../core/data/corpus.ts";
import { importTables, originsOf } from "../core/import/mod.ts";
import { loadConfig } from "../core/io/config.ts";
import { writeSafetensors } from "../core/io/safetensors.ts";
import { initialValues } from "../core/model/mod.ts";
import { loadTokenizer } from "../core/text/load.ts";
import { modelOf, pretrainConfig } from "../core/train/mod.ts";
import { content, startHub } from "./hub.ts";
import { quern, root, withTempDir } from "./support.ts";

/** The lines of README's shell blocks, comments cut off. */
async function readmeCommands(): Promise<string[]> {
  const text = await Deno.readTextFile(`${root}README.md`);
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)]
    .flatMap(([, block]) => block.split("\n"))
    .map((line) => line.replace(/\s+#.*$/, "").trim())
    .filter((line) => line !== "");
}

const arcRow = {
  question: "Which is warm?",
  choices: { text: ["ice", "a fire"], label: ["A", "B"] },
  answerKey: "B",
};
const jsonl = (row: object, count: number) =>
  Array.from({ length: count }, (_, id) => `${JSON.stringify({ ...row, id })}\n`).join("");

/** The repositories that README fetches from, small, on this machine. */
const hubRepos = {
  "datasets/roneneldan/TinyStories": {
    files: { "TinyStories-valid.txt": { content: content("Once.\n<|endoftext|>\n"), lfs: true } },
  },
  "datasets/allenai/ai2_arc": {
    files: Object.fromEntries(["test", "train"].map((split) => [
      `ARC-Easy/${split}.jsonl`,
      { content: content(jsonl(arcRow, 3)), lfs: true },
    ])),
  },
  "datasets/baber/piqa": {
    files: Object.fromEntries(["validation", "train"].map((split) => [
      `${split}.jsonl`,
      { content: content(jsonl({ goal: "Stay", sol1: "Sit.", sol2: "Go.", label: 0 }, 3)) },
    ])),
  },
  "models/Qwen/Qwen3-0.6B": { files: { "tokenizer.json": { content: content("{}"), lfs: true } } },
};

/** A PolyGLU of a size that a test can hold, by its author's names. */
async function placeCheckpoint(cwd: string): Promise<void> {
  const config = await loadConfig(pretrainConfig, `${root}configs/polyglu-tiny.yaml`);
  const { vocabSize } = await loadTokenizer(`${cwd}/tokenizer.json`);
  const origins = originsOf(importTables.polyglu, modelOf(config, vocabSize));
  await writeSafetensors(
    `${cwd}/model.safetensors`,
    origins.map(({ theirs, param }) => ({
      name: theirs,
      shape: param.shape,
      dtype: "F32" as const,
      data: () => initialValues(param, 0),
    })),
  );
}

/** What a quickstart leaves, of fewer updates. */
async function placeQuickstart(cwd: string): Promise<void> {
  const less = ["steps=3", "batch_size=2", "validation.max_tokens=500"].flatMap((
    x,
  ) => ["--set", x]);
  const { code, stderr } = await quern(["quickstart", ...less], { cwd });
  assert.equal(code, 0, stderr);
}

/** A command line's words, quotes removed. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
}

Deno.test("README: every task that it names exists, with the Deno that CI uses", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
  const text = await Deno.readTextFile(`${root}README.md`);
  const named = [...text.matchAll(/\bdeno(?:@[\d.]+)? task (\w+)/g)].map(([, task]) => task);
  assert.deepEqual(named.filter((task) => !Object.hasOwn(tasks, task)), []);
  const ci = await Deno.readTextFile(`${root}.ci/run`);
  const versions = [...`${text}${ci}`.matchAll(/deno@([\d.]+\d)/g)].map(([, version]) => version);
  assert.equal(new Set(versions).size, 1);
});

Deno.test("README: its quern commands work, one after the other", async () => {
  const commands = await readmeCommands();
  const ours = commands.filter((line) => line.startsWith("quern "));
  assert.deepEqual(
    commands.filter((line) => !/^(quern|npx --yes deno@[\d.]+ task) /.test(line)),
    [],
  );
  await withTempDir(async (cwd) => {
    // A stand-in for the text that README names, and fewer updates than it promises.
    const { documents } = makeCorpus({ seed: 1, bytes: 50_000 });
    await Deno.writeTextFile(
      `${cwd}/tinyshakespeare.txt`,
      `ROMEO: JULIET: ${documents.join("\n")}`,
    );
    const chat = ["Where is the hat?", "Who is there?", "What did Tom find?", "Is it a red one?"]
      .map((question, i) => JSON.stringify({ question, answer: ["Here.", "Romeo."][i % 2] }));
    await Deno.writeTextFile(`${cwd}/chat.jsonl`, Array(10).fill(chat.join("\n")).join("\n"));
    await Deno.symlink(`${root}configs`, `${cwd}/configs`);
    await using hub = startHub(hubRepos);
    const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: `${cwd}/huggingface`, NO_PROXY: "127.0.0.1" };
    await placeQuickstart(cwd);
    for (const line of ours) {
      const words = wordsOf(line.replace("polyglu-0.6b", "polyglu-tiny")).slice(1);
      if (words[0] === "import") await placeCheckpoint(cwd);
      const less = words[0] === "pretrain" ? ["--set", "steps=20"] : [];
      const { code, stderr } = await quern([...words, ...less], { cwd, env });
      assert.equal(code, 0, `${line}\n${stderr}`);
    }
  });
});
