import assert from "node:assert/strict";
import { OutOfMemoryError } from "../../../core/device/types.ts";
import { cpuTarget } from "../../../core/device/cpu/target.ts";
import { assumedLimits, webgpuTarget } from "../../../core/device/webgpu/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import type { UserError } from "../../../core/io/errors.ts";
import {
  dryRun,
  pretrainConfig,
  resolveConfig,
  roomOf,
  sizeAdvice,
  withFittingSizes,
} from "../../../core/train/mod.ts";
import { root } from "../../support.ts";

async function benchmark(...overrides: string[]) {
  const config = await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, overrides);
  return resolveConfig(config, 4096);
}

const cpu = cpuTarget({ threads: 1, relaxed: false, blas: false });
const small = webgpuTarget({ ...assumedLimits, maxBindingBytes: 2 ** 27, maxBufferBytes: 2 ** 27 });

Deno.test("fitting sizes: the largest batch and the fewest parts that fit, and no more", async () => {
  const config = await benchmark("batch_size=256"), room = roomOf(cpu);
  const [, batch, parts] = sizeAdvice(config, cpu, room)
    .match(/^use batch_size (\d+) or less, or accumulation (\d+)$/)!.map(Number);
  const bytes = (changes: Partial<typeof config>) =>
    dryRun({ ...config, ...changes }, cpu).totalBytes;
  assert.ok(bytes({ batch_size: batch }) <= room && bytes({ batch_size: batch + 1 }) > room);
  assert.ok(bytes({ accumulation: parts }) <= room && bytes({ accumulation: parts / 2 }) > room);
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
