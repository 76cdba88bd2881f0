/**
 * Fine-tuning a tiny model on GSM8K. A run of 60 seconds must lower the validation loss, which is of the answers alone, by
 * 30 % at least; and an update on conversations, their rows made, must take at most 1.1 times as long a token as one of
 * pretraining, in turns. `deno run -A tests/bench/sft.ts [gsm8k_train.jsonl]`
 */

import { join } from "node:path";
import { tokensIn } from "../../core/data/batches.ts";
import { tokenizeFiles } from "../../core/data/tokenize.ts";
import { openDevice } from "../../core/device/mod.ts";
import { scalarsOf } from "../../core/optim/mod.ts";
import {
  conversationData,
  openBase,
  openRunConversations,
  resolveSft,
  rowsInEpochs,
  sftConfig,
} from "../../core/sft/mod.ts";
import {
  openData,
  pretrainConfig,
  resolveConfig,
  type RunConfig,
  shardData,
  timelineOf,
  Trainer,
  type TrainingData,
  trainingOf,
} from "../../core/train/mod.ts";
import { rowShapes } from "../../core/train/rows.ts";
import { root, sharedPath, withTempDir } from "../support.ts";
import { interleave, type Timing } from "./interleave.ts";

const problems = Deno.args[0] ?? sharedPath("data", "gsm8k_train.jsonl");
const seconds = Number(Deno.env.get("SECONDS") ?? 60);

const model = {
  hidden_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 344,
  initializer_range: 0.1,
};
const optimizer = {
  kind: "adamw",
  learning_rate: { kind: "constant", peak: 2e-3, warmup: 20 },
  beta2: 0.98,
  weight_decay: 0,
};
// about three problems a row, a token a byte
const sizes = { sequence_length: 1024, batch_size: 2 };

async function quern(cwd: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${root}cli/main.ts`, ...args, "--device", "cpu"],
    cwd,
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/** A short pretraining on the same problems as plain documents: as long as the conversations, so that attention costs the same. */
async function makeBase(dir: string, text: string): Promise<void> {
  await tokenizeFiles({
    inputs: [text],
    reading: {
      format: "jsonl",
      fields: ["question", "answer"],
      separator: undefined,
      onError: "stop",
    },
    tokenizer: "byte",
    valFraction: 0.01,
    seed: 0,
    target: { folder: join(dir, "data"), ifExists: "fail", shardBytes: 2 ** 26 },
  });
  const config = { model, data: { path: "data" }, ...sizes, steps: 20, optimizer };
  await Deno.writeTextFile(join(dir, "base.yaml"), JSON.stringify(config));
  await quern(dir, "pretrain", "base.yaml", "--out", "base");
}

const tuning = (path: string) => ({
  kind: "sft",
  from: "base",
  data: { path, validation: { fraction: 0.02 } },
  ...sizes,
  epochs: 99,
  optimizer,
});

async function lossOf(dir: string, run: string): Promise<number> {
  const lines = (await Deno.readTextFile(join(dir, run, "metrics.jsonl"))).trimEnd().split("\n");
  return JSON.parse(lines.at(-1)!).validation_loss;
}

/** The validation loss before and after. */
async function lossesOf(dir: string, path: string): Promise<[number, number]> {
  const write = (name: string, changes: object) =>
    Deno.writeTextFile(join(dir, name), JSON.stringify({ ...tuning(path), ...changes }));
  const still = { ...optimizer, learning_rate: 1e-30 };
  await write("still.yaml", { epochs: undefined, steps: 1, optimizer: still });
  await write("tuned.yaml", { epochs: undefined, max_minutes: seconds / 60 });
  await quern(dir, "sft", "still.yaml", "--out", "still");
  await quern(dir, "sft", "tuned.yaml", "--out", "tuned");
  return [await lossOf(dir, "still"), await lossOf(dir, "tuned")];
}

/** Milliseconds a token of pretraining's updates and of fine-tuning's, in turns, and how full rows of conversations are. */
async function timesOf(dir: string, path: string) {
  await using device = await openDevice({ device: "cpu" });
  const pretraining = (packing: "documents" | "windows") =>
    pretrainConfig.parse({
      model,
      data: { path: join(dir, "data"), packing },
      ...sizes,
      steps: 999,
      optimizer,
    });
  using shards = await openData(pretraining("documents").data);
  const updaterFor = (packing: "documents" | "windows") => {
    const config = resolveConfig(pretraining(packing), shards.vocabSize);
    return updater(config, shardData(shards, config), device);
  };
  const config = sftConfig.parse({ ...tuning(path), from: join(dir, "base") });
  using base = await openBase(config);
  await using conversations = await openRunConversations(join(dir, "rows"), {
    config,
    form: base.form,
  }, { isTrained: false });
  const { rows } = conversations;
  const facts = {
    ...base.facts,
    rows: rows.map(({ rowsIn }) => rowsIn(0)),
    rowsIn: (epochs: number) => rowsInEpochs(rows, epochs),
  };
  const resolved = resolveSft(config, facts);
  using documents = await updaterFor("documents"), windows = await updaterFor("windows");
  using tuned = await updater(
    resolved as RunConfig,
    conversationData(conversations, resolved),
    device,
  );
  const timings = await interleave(
    { documents: documents.run, windows: windows.run, tuned: tuned.run },
    { rounds: 41 },
  );
  const ratiosTo = (plain: Timing) => ({
    median: timings.tuned!.median / plain.median,
    best: timings.tuned!.best / plain.best,
  });
  return {
    documents: ratiosTo(timings.documents!),
    windows: ratiosTo(timings.windows!),
    longer: tuned.pairs() / documents.pairs(),
    full: tuned.fullness(),
  };
}

async function updater(
  config: RunConfig,
  data: TrainingData,
  device: Awaited<ReturnType<typeof openDevice>>,
) {
  const trainer = await Trainer.create(trainingOf(config), device, 64);
  trainer.initialize(1);
  const scalarsAt = scalarsOf(config.optimizer, timelineOf(config));
  const shapes = rowShapes(config, timelineOf(config).stages[0]);
  let cursor = data.first, step = 0, tokens = 0, places = 0, pairs = 0;
  return {
    async run() {
      const at = performance.now();
      const next = data.next(cursor, { step, shapes });
      trainer.update([next.batch], scalarsAt(step++));
      await device.idle();
      const ms = performance.now() - at, count = tokensIn(next.batch);
      cursor = next.cursor;
      tokens += count;
      places += next.batch.ids.length;
      pairs += next.batch.positions.reduce((sum, position) => sum + position + 1, 0);
      if (step % 32 === 0) await trainer.results();
      return ms / count;
    },
    fullness: () => tokens / places,
    /** Tokens that a token looks at, in the mean. */
    pairs: () => pairs / tokens,
    [Symbol.dispose]: () => trainer[Symbol.dispose](),
  };
}

if (problems === undefined) {
  console.log("no gsm8k_train.jsonl is here: give its path");
} else {
  await withTempDir(async (dir) => {
    await makeBase(dir, problems);
    const { documents, windows, longer, full } = await timesOf(dir, problems);
    const said = ({ median, best }: typeof documents) =>
      `${median.toFixed(3)} times (best of each: ${best.toFixed(3)})`;
    console.log(
      `a token of fine-tuning takes ${said(windows)} that of pretraining on windows of the same ` +
        `text, at most 1.1 is asked; and ${
          said(documents)
        } that of its documents, which rows cut ` +
        `so that tokens look at fewer others (conversations: ${
          longer.toFixed(2)
        } times as many); ` +
        `rows are ${(100 * full).toFixed(1)} % full`,
    );
    const [before, after] = await lossesOf(dir, problems), part = 1 - after / before;
    console.log(
      `${seconds} s of fine-tuning: validation loss ${before.toFixed(3)} → ${after.toFixed(3)}, ${
        (100 * part).toFixed(1)
      } % lower, at least 30 % is asked`,
    );
    if (Math.min(windows.median, windows.best) > 1.1 || part < 0.3) Deno.exitCode = 1;
  });
}
