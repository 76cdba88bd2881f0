/**
 * One measurement in a process of its own: a training step and decoding of the 5.4 M model of
 * `configs/llama-5m.yaml`, on one device. Prints one JSON line. `deno run -A tests/bench/llama.ts
 * --device cpu --blas off --threads 2`
 */

import { parseArgs } from "node:util";
import { normals, sizeOf } from "../../core/graph/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { buildModel, namedParams } from "../../core/model/mod.ts";
import { bindOptimizer, evenClock, scalarsOf } from "../../core/optim/mod.ts";
import { type Plan, planGraph } from "../../core/plan/mod.ts";
import { type Device, openDevice, type StateStore } from "../../core/device/mod.ts";
import { traceDecode } from "../../core/generate/programs.ts";
import type { WeightType } from "../../core/generate/weights.ts";
import { pretrainConfig, resolveConfig } from "../../core/train/mod.ts";
import { traceUpdate } from "../../core/train/programs.ts";
import { root } from "../support.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    blas: { type: "string", default: "off" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    steps: { type: "string", default: "6" },
    tokens: { type: "string", default: "2048" },
    rows: { type: "string", default: "8" },
    weights: { type: "string", default: "f32" },
    // As of the commands: --set model.hidden_size=768
    set: { type: "string", multiple: true, default: [] },
  },
});
const steps = Number(values.steps), tokens = Number(values.tokens), rows = Number(values.rows);
const config = resolveConfig(
  await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, values.set),
  4096,
);
const model = buildModel(config.model),
  length = config.sequence_length,
  vocab = model.dims.vocab_size,
  optimizer = bindOptimizer(config.optimizer, namedParams(model.params));

await using device = await openDevice({
  device: values.device as "cpu" | "webgpu",
  blas: values.blas,
  threads: Number(values.threads),
});
const train = await measureTraining(device), decode = await measureDecoding(device);
console.log(JSON.stringify({ device: device.info.name, ...train, ...decode }));

function start(device: Device, plan: Plan): StateStore {
  const store = device.createState(plan.state);
  for (const { name, shape } of plan.state) {
    if (!name.startsWith("params.")) continue;
    // Gains near one, matrices as they start.
    const isGain = shape.length === 1;
    store.write(name, normals(1, name, sizeOf(shape)).map((x) => isGain ? 1 : 0.02 * x));
  }
  return store;
}

async function measureTraining(device: Device) {
  const began = performance.now(), before = device.usedBytes();
  const plan = planGraph(
    traceUpdate(model, optimizer, { rows, length, segments: false }),
    device.target,
  );
  const planMs = performance.now() - began;
  using store = start(device, plan);
  store.write("healthy", [1]);
  using step = await device.compile(plan, store);
  const count = rows * length, ids = Int32Array.from({ length: count }, (_, i) => i * 7919 % vocab);
  const inputs = {
    "rows.ids": ids,
    "rows.targets": ids.map((id) => (id * 5 + 3) % vocab),
    "rows.positions": ids.map((_, i) => i % length),
    hyper: scalarsOf(config.optimizer, evenClock(1000))(50).hyper,
    max_norm: 1,
    count,
  };
  const times: number[] = [];
  for (let i = 0; i < steps + 2; i++) {
    const at = performance.now();
    step.run(inputs);
    await device.idle();
    if (i >= 2) times.push(performance.now() - at);
  }
  await step.outputs();
  // Without a wait in between, as training runs.
  const at = performance.now();
  for (let i = 0; i < steps; i++) step.run(inputs);
  const submitted = performance.now() - at;
  await device.idle();
  const whole = (performance.now() - at) / steps;
  const used = device.usedBytes() - before, { flops, peakBytes, dispatches } = plan.totals;
  return {
    train_tok_s: Math.round(count / whole * 1000),
    step_ms: Math.round(whole),
    best_ms: Math.round(Math.min(...times)),
    gflop_s: Math.round(flops / whole / 1e5) / 10,
    submit_ms: Math.round(submitted / steps),
    plan_ms: Math.round(planMs),
    dispatches,
    planned_mib: Math.round(peakBytes / 2 ** 20),
    used_over_planned: Math.round(1000 * used / peakBytes) / 1000,
  };
}

async function measureDecoding(device: Device) {
  const plan = planGraph(
    traceDecode(model, {
      batch: 1,
      capacity: 256,
      weights: values.weights as WeightType,
    }),
    device.target,
  );
  using store = start(device, plan);
  using step = await device.compile(plan, store, { ring: 64 });
  const settings = Float32Array.of(0, 0, 1, 0);
  // The engine compiles twice before it is at its speed.
  for (let i = 0; i < 16; i++) {
    step.run({ settings }, 16);
    await step.outputs();
  }
  const at = performance.now();
  for (let left = tokens; left > 0; left -= 16) {
    step.run({ settings }, Math.min(16, left));
    await step.outputs();
  }
  return {
    decode_tok_s: Math.round(tokens / (performance.now() - at) * 1000),
    decode_dispatches: plan.totals.dispatches,
  };
}
