/**
 * Training in bf16 beside f32: an update of the model of `configs/llama-5m.yaml`, both in one
 * process and by turns, and what each holds. `deno run -A tests/bench/precision.ts --device cpu
 * --blas off --set batch_size=32`
 */

import { parseArgs } from "node:util";
import type { Batch } from "../../core/data/batches.ts";
import { openDevice } from "../../core/device/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { scalarsOf } from "../../core/optim/mod.ts";
import {
  dryRun,
  pretrainConfig,
  resolveConfig,
  timelineOf,
  Trainer,
  trainingOf,
} from "../../core/train/mod.ts";
import { root } from "../support.ts";
import { interleave } from "./interleave.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    blas: { type: "string", default: "auto" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    rounds: { type: "string", default: "7" },
    // As of the commands: --set model.hidden_size=768
    set: { type: "string", multiple: true, default: [] },
  },
});
const rounds = Number(values.rounds);

await using device = await openDevice({
  device: values.device as "cpu" | "webgpu",
  blas: values.blas,
  threads: Number(values.threads),
});
using stack = new DisposableStack();

async function contender(precision: "f32" | "bf16") {
  const config = resolveConfig(
    await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, [
      ...values.set,
      `precision=${precision}`,
    ]),
    4096,
  );
  const before = device.usedBytes();
  const trainer = stack.use(await Trainer.create(trainingOf(config), device, 4 * rounds + 64));
  trainer.initialize(0);
  const hyper = scalarsOf(config.optimizer, timelineOf(config))(50), batch = rowsOf(config);
  return {
    bytes: device.usedBytes() - before,
    activations:
      dryRun(config, device.target).memory.find(({ kind }) => kind === "intermediate tensors")!
        .bytes,
    async update() {
      const at = performance.now();
      trainer.update([batch], hyper);
      await device.idle();
      return performance.now() - at;
    },
  };
}

function rowsOf({ batch_size, sequence_length, model: { vocab_size } }: {
  batch_size: number;
  sequence_length: number;
  model: { vocab_size: number };
}): Batch {
  const ids = Int32Array.from(
    { length: batch_size * sequence_length },
    (_, i) => i * 7919 % vocab_size,
  );
  return {
    rows: batch_size,
    length: sequence_length,
    ids,
    targets: ids.map((id) => (id * 5 + 3) % vocab_size),
    positions: ids.map((_, i) => i % sequence_length),
    segmentIds: ids.map(() => 1),
  };
}

const f32 = await contender("f32"), bf16 = await contender("bf16");
const times = await interleave({ f32: f32.update, bf16: bf16.update }, { rounds, warmMs: 1500 });
const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
const compare = (what: string, half: number, whole: number, unit: string) =>
  `${what} ${(half / whole).toFixed(2)} of f32's (${Math.round(half)} and ${
    Math.round(whole)
  } ${unit})`;
console.log(
  [
    `bf16 on ${device.info.name}: ${
      compare("an update", times.bf16!.median, times.f32!.median, "ms")
    }`,
    compare("memory", mib(bf16.bytes), mib(f32.bytes), "MiB"),
    compare("intermediate tensors", mib(bf16.activations), mib(f32.activations), "MiB"),
  ].join("; "),
);
