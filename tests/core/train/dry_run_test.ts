import assert from "node:assert/strict";
import { assumedLimits, webgpuTarget } from "../../../core/device/webgpu/mod.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import {
  diskUse,
  dryRun,
  pretrainConfig,
  resolveConfig,
  Trainer,
  trainingOf,
} from "../../../core/train/mod.ts";
import { root } from "../../support.ts";

const gpu = webgpuTarget(assumedLimits);

async function benchmark(overrides: string[] = []) {
  const config = await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, overrides);
  return resolveConfig(config, 4096);
}

Deno.test("dry run: the memory that it says is what training then uses, within 5 %", async () => {
  for (
    const overrides of [[], ["accumulation=4"], ["model.remat=true", "batch_size=2"], [
      "precision=bf16",
    ]]
  ) {
    const config = await benchmark(overrides);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 2 });
    const planned = dryRun(config, device.target).totalBytes;
    using _trainer = await Trainer.create(trainingOf(config), device, 21);
    const used = device.usedBytes();
    assert.ok(
      Math.abs(used / planned - 1) < 0.05,
      `${overrides}: planned ${planned}, used ${used}`,
    );
  }
});

Deno.test("dry run: of several stages it counts the one that takes the most, within 5 %", async () => {
  const stages =
    "stages=[{from: 2, sequence_length: 512}, {from: 50%, batch_size: 4, accumulation: 2}]";
  const config = await benchmark([stages]);
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 2 });
  const { stages: planned, totalBytes } = dryRun(config, device.target);
  using trainer = await Trainer.create(trainingOf(config), device, 21);
  for (const [i, stage] of planned.entries()) {
    await trainer.enter(i);
    const ratio = device.usedBytes() / stage.totalBytes;
    assert.ok(Math.abs(ratio - 1) < 0.05, `stage ${i}: planned ${stage.totalBytes}, × ${ratio}`);
  }
  assert.deepEqual(planned.map(({ tokensPerUpdate }) => tokensPerUpdate), [2048, 4096, 2048]);
  assert.equal(totalBytes, planned[1].totalBytes);
  assert.ok(planned[1].totalBytes > planned[0].totalBytes);
});

Deno.test("dry run: FLOPs a token are six for each weight of a matrix, and attention's", async () => {
  const { params, groups, stages: [{ flopsPerToken, tokensPerUpdate }] } = dryRun(
    await benchmark(),
    gpu,
  );
  assert.equal(params, 5_401_856);
  assert.equal(tokensPerUpdate, 2048);
  // the tied table is the head's matrix too
  const matrices = groups.filter(({ role }) => role === "matrix" || role === "embedding")
    .reduce((sum, { total }) => sum + total, 0);
  const attention = 6 * 14 * 8 * 32 * 257 / 2; // layers, 4 + 10 FLOPs, heads, width, keys seen
  const ratio = flopsPerToken / (6 * matrices + attention);
  assert.ok(ratio > 1 && ratio < 1.05, `${ratio}`);
});

Deno.test("dry run: recomputing layers and smaller parts take less memory", async () => {
  const bytes = async (...overrides: string[]) =>
    dryRun(await benchmark(overrides), gpu).totalBytes;
  const plain = await bytes();
  assert.ok(await bytes("model.remat=true") < plain);
  assert.ok(await bytes("accumulation=8") < plain);
});

Deno.test("dry run: the disk holds the newest and the best checkpoints, and the one being written", async () => {
  const most = async (...overrides: string[]) => {
    const { checkpoints, checkpointBytes, metricsBytes, totalBytes } = diskUse(
      await benchmark(overrides),
    );
    assert.equal(totalBytes, checkpoints * checkpointBytes + metricsBytes);
    return checkpoints;
  };
  const every = ["checkpoint.every=1", "steps=100"];
  assert.equal(await most(...every, "checkpoint.keep=3"), 4);
  assert.equal(await most(...every, "checkpoint.keep=3", "checkpoint.keep_best=2"), 6);
  assert.equal(await most(...every, "checkpoint.keep=0", "checkpoint.keep_best=2"), 100);
  assert.equal(await most("checkpoint.every=0", "checkpoint.keep_best=2"), 1);
});
