import assert from "node:assert/strict";
import { join } from "node:path";
import { firstCursor, nextBatch } from "../../../core/data/batches.ts";
import { openShards } from "../../../core/data/shard_reader.ts";
import { assumedLimits, webgpuTarget } from "../../../core/device/webgpu/mod.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { evenClock, scalarsOf } from "../../../core/optim/mod.ts";
import {
  dryRun,
  pretrainConfig,
  resolveConfig,
  sizeAdvice,
  Trainer,
  trainingOf,
} from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, lossesOf, makeData, stepsOf, tinyConfig, train } from "./tiny_run.ts";

/** 256 tokens an update, then 288 in two parts, then 128. */
const stages = [
  { from: 2, sequence_length: 48, batch_size: 6, accumulation: 2 },
  { from: "50%", sequence_length: 16, batch_size: 8, accumulation: 1 },
];
const learning_rate = { kind: "cosine", peak: 0.01, warmup: "600 tokens" };
const optimizer = { kind: "adamw", learning_rate };

for (const packing of ["documents", "windows"]) {
  Deno.test(`stages: stop in any of them, or where one begins, and go on equals never stopping (${packing})`, () =>
    withTempDir(async (dir) => {
      const data = await makeData(dir), validation = { every: 3, max_tokens: 500 };
      const config = tinyConfig(data, {
        data: { path: data, packing },
        stages,
        validation,
        optimizer,
        steps: 8,
      });
      const events = await train(config, { run: join(dir, "whole") }), whole = lossesOf(events);
      assert.deepEqual(
        events.flatMap((e) =>
          e.kind === "stage" ? [[e.step, e.sequence_length, e.batch_size]] : []
        ),
        [[2, 48, 6], [4, 16, 8]],
      );
      const tokens = stepsOf(events).map(({ tokens }) => tokens);
      assert.deepEqual(tokens, [256, 512, 800, 1088, 1216, 1344, 1472, 1600]);
      const measured = new Set(events.map((e) => e.kind === "validation" ? e.targets : 500));
      assert.deepEqual([...measured], [500]);
      for (const stopAfter of [1, 2, 3, 4]) {
        const run = join(dir, `stopped${stopAfter}`);
        const first = await train(config, { run, stopAfter });
        const second = await train(config, { run, resume: true });
        assert.deepEqual(new Map([...lossesOf(first), ...lossesOf(second)]), whole);
        assert.deepEqual(
          await checkpointBytes(run, 8),
          await checkpointBytes(join(dir, "whole"), 8),
        );
      }
    }));
}

Deno.test("stages: another length goes on where the rows before ended: no target is lost or comes twice", () =>
  withTempDir(async (dir) => {
    using data = await openShards(await makeData(dir, 3000));
    const split = data.splits.train;
    const read = (lengths: readonly number[]) => {
      let cursor = firstCursor("documents");
      return lengths.flatMap((length) => {
        const next = nextBatch({ split, rows: 1, length, seed: 4 }, cursor);
        cursor = next.cursor;
        return Array.from(next.batch.targets);
      });
    };
    assert.deepEqual(read([64, 7, 130, 1, 300]), read([502]));
  }));

function tiny(dir: string, changes: Record<string, unknown>) {
  return resolveConfig(pretrainConfig.parse(tinyConfig(join(dir, "data"), changes)), 256);
}

Deno.test("stages: weights and moments stay on the device bit for bit; losses are measured alike", () =>
  withTempDir(async (dir) => {
    await makeData(dir);
    const config = tiny(dir, { stages });
    using data = await openShards(config.data.path!);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    using trainer = await Trainer.create(trainingOf(config), device, 4);
    trainer.initialize(1);
    const batch = (rows: number, length: number) =>
      nextBatch({ split: data.splits.train, rows, length, seed: 1 }, firstCursor("documents"))
        .batch;
    const scalars = scalarsOf(config.optimizer, evenClock(12))(5);
    trainer.update([batch(8, 32)], scalars);
    await trainer.results();
    const values = async () => {
      const { model, optimizer } = trainer.tensors();
      return await Promise.all([...model, ...optimizer].map(({ data }) => data()));
    };
    const before = await values(), loss = await trainer.measure([batch(3, 48)]);
    await trainer.enter(1);
    assert.deepEqual(await values(), before);
    assert.deepEqual(await trainer.measure([batch(3, 48)]), loss);
    trainer.update([batch(3, 48), batch(3, 48)], scalars);
    const [{ lossSum }] = await trainer.results();
    assert.ok(Math.abs(lossSum / (2 * 3 * 48) / loss.loss - 1) < 1e-5);
  }));

Deno.test("stages: one that cannot fit is named when training is set up, with sizes that fit", () =>
  withTempDir(async (dir) => {
    const large = (batch_size: number) => tiny(dir, { stages: [{ from: 9, batch_size }] });
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    await assert.rejects(Trainer.create(trainingOf(large(2 ** 19)), device, 1), {
      name: "OutOfMemoryError",
      message: /^the stage from step 9 \(524,288 rows of 32 tokens\): .*cannot hold/,
    });
    assert.equal(device.usedBytes(), 0); // what came before it is given back
    const config = large(20);
    const target = webgpuTarget(assumedLimits), { stages: [first] } = dryRun(config, target);
    const found = sizeAdvice(config, target, 1.5 * first.totalBytes);
    const [, rows] = found.match(/^in the stage from step 9, use batch_size (\d+) or less/)!;
    assert.ok(Number(rows) >= 8 && Number(rows) < 20, found);
  }));

Deno.test("stages: each must fit the model and the stage before; what is wrong is said at its place", () => {
  const faults = (changes: Record<string, unknown>) => {
    const { error } = pretrainConfig.safeParse(tinyConfig("data", changes));
    return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  };
  const model = { ...tinyConfig("data").model, max_position_embeddings: 40 };
  assert.match(
    faults({ stages, model })![0],
    /^stages\.0\.sequence_length: rows of 48 tokens need/,
  );
  const parts = [{ from: 1, accumulation: 4 }, { from: 2, batch_size: 6 }];
  assert.match(faults({ stages: parts })![0], /^stages\.1: 6 rows .* in 4 equal parts/);
  const order = [{ from: "50%" }, { from: "1000 tokens" }];
  assert.match(faults({ stages: order })![0], /^stages\.1\.from: this is before the stage above/);
  assert.equal(faults({ stages: [{ from: "10%" }, { from: "1000 tokens" }] }), undefined);
});
