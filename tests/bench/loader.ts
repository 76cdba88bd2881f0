/**
 * What making rows costs beside a training step on them: `configs/llama-5m.yaml`, 8 rows of 256, from one folder and
 * from a mixture of three whose weights change. Steps and rows take turns in one process.
 */

import { join } from "node:path";
import { makeCorpus } from "../../core/data/corpus.ts";
import { nextRows, type RowSource } from "../../core/data/mixture.ts";
import { tokenizeFiles } from "../../core/data/tokenize.ts";
import { openDevice } from "../../core/device/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { scalarsOf } from "../../core/optim/mod.ts";
import {
  firstDataCursor,
  openData,
  pretrainConfig,
  resolveConfig,
  sharesOf,
  timelineOf,
  Trainer,
  trainingOf,
} from "../../core/train/mod.ts";
import { root, withTempDir } from "../support.ts";

const steps = 5, batches = 40;

await withTempDir(async (dir) => {
  const folders = ["a", "b", "c"].map((name) => join(dir, name));
  for (const [seed, folder] of folders.entries()) await tokenizeCorpus(seed, folder);
  const falling = { kind: "linear", peak: 2, end: 1 };
  const sources = folders.map((path, i) => ({ path, weight: i === 0 ? falling : i }));
  const given = await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`);
  const configs = [{ path: folders[0] }, { sources }].map((data) =>
    resolveConfig(pretrainConfig.parse({ ...given, data }), given.model.vocab_size!)
  );
  await using device = await openDevice({ device: "cpu" });
  for (const [i, config] of configs.entries()) {
    using data = await openData(config.data);
    using trainer = await Trainer.create(trainingOf(config), device, 2 * steps);
    trainer.initialize(config.seed);
    const source: RowSource = {
      splits: data.sources.map(({ shards }) => shards.splits.train),
      rows: config.batch_size,
      length: config.sequence_length,
      seed: config.seed,
      sharesAt: sharesOf(config.data, timelineOf(config)),
    };
    const scalarsAt = scalarsOf(config.optimizer, timelineOf(config));
    let cursor = firstDataCursor(data, config.data.packing);
    const times = { rows: [] as number[], step: [] as number[] };
    for (let step = 0; step < steps; step++) {
      let at = performance.now(), batch;
      for (let n = 0; n < batches; n++) ({ batch, cursor } = nextRows(source, cursor, step));
      times.rows.push((performance.now() - at) / batches);
      at = performance.now();
      trainer.update([batch!], scalarsAt(step));
      await device.idle();
      times.step.push(performance.now() - at);
    }
    const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1];
    const [rows, step] = [median(times.rows), median(times.step)];
    console.log(
      `${["one folder", "three sources"][i]}: rows ${rows.toFixed(2)} ms, step ${
        step.toFixed(0)
      } ms on ${device.info.name}: ${(100 * rows / step).toFixed(2)} %`,
    );
  }
});

async function tokenizeCorpus(seed: number, folder: string): Promise<void> {
  const text = `${folder}.txt`;
  await Deno.writeTextFile(text, makeCorpus({ seed, bytes: 2 ** 20 }).documents.join("\n"));
  await tokenizeFiles({
    inputs: [text],
    reading: { format: "text", fields: ["text"], separator: "\n", onError: "stop" },
    tokenizer: "byte",
    valFraction: 0,
    seed: 0,
    target: { folder, ifExists: "fail", shardBytes: 2 ** 28 },
  });
}
