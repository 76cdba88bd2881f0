import assert from "node:assert/strict";
import { OutOfMemoryError } from "../../../core/device/types.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { cpuTarget } from "../../../core/device/cpu/target.ts";
import { assumedLimits, webgpuTarget } from "../../../core/device/webgpu/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import { UserError } from "../../../core/io/errors.ts";
import {
  anyRows,
  type BatchSizes,
  dryRun,
  fitSizes,
  pretrainConfig,
  resolveConfig,
  type ResolvedConfig,
  roomOf,
  sizeAdvice,
  Trainer,
  trainingOf,
  withFittingSizes,
} from "../../../core/train/mod.ts";
import type { Target } from "../../../core/plan/mod.ts";
import { root } from "../../support.ts";

/** The benchmark model with one layer: a plan takes milliseconds. */
async function load(...overrides: string[]) {
  const changes = ["model.num_hidden_layers=1", ...overrides];
  return await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, changes);
}

async function benchmark(...overrides: string[]) {
  const config = await load(...overrides);
  return resolveConfig(config, 4096);
}

const cpu = cpuTarget({ threads: 1, relaxed: false, blas: false });
const small = webgpuTarget({ ...assumedLimits, maxBindingBytes: 2 ** 27, maxBufferBytes: 2 ** 27 });

Deno.test("fitting sizes: the largest batch and the fewest parts that fit, and no more", async () => {
  const config = await benchmark("batch_size=1024"), room = roomOf(cpu);
  const [, batch, parts] = sizeAdvice(config, cpu, room)
    .match(/^use batch_size (\d+) or less, or accumulation (\d+)$/)!.map(Number);
  const bytes = (changes: Partial<typeof config>) =>
    dryRun({ ...config, ...changes }, cpu).totalBytes;
  assert.ok(bytes({ batch_size: batch }) <= room && bytes({ batch_size: batch + 1 }) > room);
  assert.ok(bytes({ accumulation: parts }) <= room && bytes({ accumulation: parts / 2 }) > room);
});

Deno.test("fitting sizes: with no time to plan many, what is named is smaller but fits", async () => {
  const config = await benchmark("batch_size=1024"), room = roomOf(cpu);
  const [, batch] = sizeAdvice(config, cpu, room, 0).match(/^use batch_size (\d+) or less$/)!;
  assert.ok(dryRun({ ...config, batch_size: Number(batch) }, cpu).totalBytes <= room);
});

Deno.test("fitting sizes: a tensor too large to bind is answered with sizes that bind", async () => {
  const config = await benchmark("batch_size=512");
  assert.throws(() => dryRun(config, small), (error) => {
    const { hint, exitCode } = withFittingSizes(error, config, small) as UserError;
    const [, batch, parts] = hint!.match(/batch_size (\d+) or less, or accumulation (\d+)/)!;
    dryRun({ ...config, batch_size: Number(batch) }, small);
    dryRun({ ...config, accumulation: Number(parts) }, small);
    return exitCode === 4;
  });
});

Deno.test("fitting sizes: of a GPU's memory nothing is known but that it was too little", async () => {
  const config = await benchmark("batch_size=16");
  const full = new OutOfMemoryError("the device has no room");
  const { message, hint } = withFittingSizes(full, config, small) as UserError;
  assert.equal(message, "the device has no room");
  assert.match(hint!, /^for half of the memory: use batch_size [5-8] or less, or accumulation/);
  const other = new Error("another");
  assert.equal(withFittingSizes(other, config, small), other);
});

Deno.test("fitting sizes: where not even one row fits, that is said", async () => {
  const config = await benchmark("batch_size=2", "sequence_length=200000");
  assert.match(sizeAdvice(config, small, roomOf(small)), /not even one row fits/);
});

// The knob stood in a tutorial, not in the error.
Deno.test("replay: Lightning-AI/litgpt 399, 684: the dry run predicts what runs out, and the sizes that the error names fit", async () => {
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  const config = await benchmark("batch_size=1024"), { target } = device;
  assert.ok(dryRun(config, target).totalBytes > roomOf(target));
  const create = (changes: Partial<ResolvedConfig>) =>
    Trainer.create(trainingOf({ ...config, ...changes }), device, 1);
  const error = await create({}).catch((error) => withFittingSizes(error, config, target));
  assert.ok(error instanceof UserError && error.exitCode === 4, String(error));
  const [, batch, parts] = error.hint!.match(/batch_size (\d+) or less, or accumulation (\d+)/)!
    .map(Number);
  (await create({ batch_size: batch }))[Symbol.dispose]();
  (await create({ accumulation: parts }))[Symbol.dispose]();
});

async function automatic(target: Target, room: number, ...overrides: string[]) {
  const config = await load(...overrides);
  const resolve = (sizes: BatchSizes) => resolveConfig(config, 4096, sizes);
  const fitting = { resolve, target, room, mostRows: anyRows };
  const bytes = (changes: Partial<ResolvedConfig>) =>
    dryRun({ ...fitSizes(config, fitting), ...changes }, target).totalBytes;
  return { config, fitting, bytes, ...fitSizes(config, fitting) };
}

Deno.test("batch_size: auto is as many rows, in eights, as fit; with accumulation, so many times that", async () => {
  for (const accumulation of [1, 4]) {
    const { batch_size, bytes } = await automatic(
      cpu,
      2 ** 30,
      "batch_size=auto",
      `accumulation=${accumulation}`,
    );
    assert.equal(batch_size % (8 * accumulation), 0);
    assert.ok(bytes({}) <= 2 ** 30);
    assert.ok(bytes({ batch_size: batch_size + 8 * accumulation }) > 2 ** 30);
  }
  const { batch_size } = await automatic(cpu, 80 * 2 ** 20, "batch_size=auto");
  assert.equal(batch_size, 4); // below eight, powers of two
});

Deno.test("batch_size: auto stops at a tensor that cannot be bound, and at what the data have", async () => {
  const { batch_size, config, fitting } = await automatic(small, 1e15, "batch_size=auto");
  const at = (batch_size: number) => dryRun(resolveConfig(config, 4096, sizes(batch_size)), small);
  const sizes = (batch_size: number) => ({ batch_size, accumulation: 1 });
  at(batch_size);
  assert.throws(() => at(batch_size + 8), /more than the .* that this device can bind/);
  assert.equal(fitSizes(config, { ...fitting, mostRows: 21 }).batch_size, 16);
  assert.equal(fitSizes(config, { ...fitting, mostRows: 1 }).batch_size, 1);
});

Deno.test("accumulation: auto is the fewest equal parts that fit, and keeps the batch", async () => {
  const found = await automatic(cpu, 2 ** 30, "batch_size=480", "accumulation=auto");
  assert.equal(found.batch_size, 480);
  assert.ok(found.accumulation > 1 && found.bytes({}) <= 2 ** 30);
  const fewer = [1, 2, 3, 4, 5, 6, 8, 10].filter((n) => n < found.accumulation);
  for (const accumulation of fewer) assert.ok(found.bytes({ accumulation }) > 2 ** 30);
});

Deno.test("sizes that are auto: where not even one row fits, that is said", async () => {
  await assert.rejects(
    () => automatic(cpu, 2 ** 23, "batch_size=auto"),
    ({ where, exitCode }: UserError) => where === "batch_size" && exitCode === 4,
  );
  await assert.rejects(
    () => automatic(cpu, 2 ** 23, "accumulation=auto"),
    ({ where, exitCode }: UserError) => where === "accumulation" && exitCode === 4,
  );
});

Deno.test("sizes that are auto are found by few plans, two a try", async () => {
  const config = await load("batch_size=auto");
  let plans = 0;
  const target: Target = {
    ...cpu,
    get aliasing() { // read once a plan
      plans++;
      return true;
    },
  };
  const resolve = (sizes: BatchSizes) => resolveConfig(config, 4096, sizes);
  fitSizes(config, { resolve, target, room: 3 * 2 ** 30, mostRows: anyRows });
  assert.ok(plans > 0 && plans <= 20, `${plans} plans`);
});
