import assert from "node:assert/strict";
import { openDevice } from "../../../core/device/mod.ts";
import { estimateTime, pretrainConfig, resolveConfig, timesOf } from "../../../core/train/mod.ts";
import { tinyConfig } from "./tiny_run.ts";

const config = (changes: Record<string, unknown>) =>
  resolveConfig(pretrainConfig.parse(tinyConfig("none", changes)), 257);

Deno.test("time estimate: a run is its updates, its measurements and its checkpoints", async () => {
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  const estimate = async (changes: Record<string, unknown>, heldOut: number[] | undefined) =>
    (await estimateTime(config({ steps: 100, ...changes }), device, { heldOut }))!;
  const plain = await estimate({ accumulation: 2 }, [5000]);
  assert.ok(plain.update > 0 && plain.validation! > 0 && plain.saving > 0);
  assert.equal(plain.updates, 100 * plain.update);
  assert.equal(plain.tokensPerSecond, 8 * 32 / plain.update);
  assert.equal(plain.run, plain.updates + plain.validation! + plain.saving);
  const short = await estimate({ max_minutes: 2 ** -20 }, undefined);
  assert.deepEqual([short.run, short.validation], [60 * 2 ** -20, undefined]);
});

Deno.test("time estimate: how often a run measures and saves", () => {
  const counts = (changes: Record<string, unknown>) => timesOf(config({ steps: 100, ...changes }));
  assert.deepEqual(counts({}), { validations: 1, saves: 1 });
  assert.deepEqual(counts({ validation: { every: 10 }, checkpoint: { every: 25 } }), {
    validations: 10,
    saves: 4,
  });
  const best = { every: 25, keep_best: 1 };
  assert.deepEqual(counts({ checkpoint: best }), { validations: 4, saves: 4 });
  assert.deepEqual(timesOf(config({ steps: 100, validation: { every: 10 } }), 50).validations, 5);
  const averages = { ema: { decay: 0.9 }, swa: { every: 5 } };
  assert.deepEqual(counts({ averages }), { validations: 3, saves: 1 });
  // 10, 20, 25, 30, … 90, 75, and the end; 50 is both
  assert.deepEqual(counts({ validation: { every: 10 }, checkpoint: best }), {
    validations: 12,
    saves: 4,
  });
});
