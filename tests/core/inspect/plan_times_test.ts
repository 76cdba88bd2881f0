import assert from "node:assert/strict";
import { cpuTarget } from "../../../core/device/cpu/target.ts";
import type { Device, Executable } from "../../../core/device/mod.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";
import { timePlans } from "../../../core/inspect/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import type { Plan, Target } from "../../../core/plan/mod.ts";
import {
  planTraining,
  pretrainConfig,
  resolveConfig,
  trainingOf,
} from "../../../core/train/mod.ts";
import { root } from "../../support.ts";

const target = cpuTarget({ threads: 1, relaxed: false, blas: false });

async function planned(overrides: string[] = [], on: Target = target): Promise<Plan> {
  const config = await loadConfig(pretrainConfig, `${root}configs/llama-5m.yaml`, overrides);
  return planTraining(trainingOf(resolveConfig(config, 4096)), on).stages[0].update;
}

/** 20 GFLOP/s, 10 GB/s, and 5 µs to start a kernel. */
const secondsOf = ({ steps }: Plan) =>
  steps.reduce((sum, { op, context }) => {
    const { flops, bytes } = op.cost?.(context) ?? { flops: 0, bytes: 0 };
    return sum + 5e-6 + Math.max(flops / 2e10, bytes / 1e10);
  }, 0);

/** Runs `use` with a device that only lets the clock go on. */
async function withSimulated<T>(
  use: (device: Device, spent: () => number) => Promise<T>,
  delay: () => number = () => 0,
) {
  const real = performance.now;
  let now = 0;
  performance.now = () => now;
  const compile = (plan: Plan): Promise<Executable> =>
    Promise.resolve({
      plan,
      run: (_, times = 1) => void (now += 1000 * (times * secondsOf(plan) + delay())),
      outputs: () => Promise.resolve([]),
      [Symbol.dispose]() {},
    });
  const nothing = {
    entries: [],
    bytes: 0,
    write() {},
    fill() {},
    fillBf16() {},
    read: () => Promise.reject(),
  };
  try {
    return await use({
      target,
      info: { kind: "cpu", name: "simulated", details: {} },
      createState: () => ({ ...nothing, [Symbol.dispose]() {} }),
      compile,
      usedBytes: () => 0,
      idle: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }, () => now / 1000);
  } finally {
    performance.now = real;
  }
}

Deno.test("plan times: a plan takes what its kernels take, each timed once for all layers", async () => {
  const plans = [await planned(), await planned(["model.num_hidden_layers=2"])];
  await withSimulated(async (device, spent) => {
    const { seconds, timedShare } = (await timePlans(device, plans, { limit: 1000 }))!;
    assert.ok(timedShare > 1 - 1e-9, `${timedShare}`);
    plans.forEach((plan, i) => assert.ok(Math.abs(seconds[i] / secondsOf(plan) - 1) < 1e-6));
    assert.ok(spent() < 2 * (secondsOf(plans[0]) + secondsOf(plans[1])), `${spent()} s`);
  });
});

Deno.test("plan times: what there is no time for follows from what was timed", async () => {
  const plan = await planned(["batch_size=64"]), whole = secondsOf(plan);
  const small = await planned(["batch_size=1"]);
  const options = { limit: 1, smaller: () => [small] };
  await withSimulated(async (device, spent) => {
    const { seconds: [found], timedShare } = (await timePlans(device, [plan], options))!;
    assert.ok(timedShare < 0.9, `${timedShare}`);
    assert.ok(Math.abs(found / whole - 1) < 0.1, `${found} of ${whole}`);
    assert.ok(spent() < 1.5, `${spent()} s`);
  });
});

Deno.test("plan times: kernels run on a device as they are, and leave nothing there", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const small = ["model.num_hidden_layers=1", "sequence_length=16", "batch_size=1"];
  const plan = await planned(small, device.target),
    times = (await timePlans(device, [plan], { limit: 60 }))!;
  assert.ok(times.timedShare > 0.99 && times.seconds[0] > 0);
  assert.equal(device.usedBytes(), 0);
});

/** Seconds that other programs take of a machine: mostly none, now and then very many. */
function disturbances(part: number, seconds: number): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < part ? seconds : 0;
  };
}

Deno.test("plan times: what other programs take now and then is not taken for the kernels' time", async () => {
  const plan = await planned(), whole = secondsOf(plan);
  // one in ten that is long, up to every other that is seven times what a kernel takes
  for (const [part, seconds] of [[0.3, 0.02], [0.5, 0.1], [0.1, 0.5]]) {
    await withSimulated(async (device) => {
      const { seconds: [found], timedShare, spread } = (await timePlans(device, [plan]))!;
      const said = `${part} ${seconds}: ${found} of ${whole}, ${timedShare}, ${spread}`;
      assert.ok(found > 0.8 * whole && found < 4 * whole, said);
    }, disturbances(part, seconds));
  }
});

Deno.test("plan times: a machine that is always busy gives a bounded guess or none, in a bounded time", async () => {
  const plan = await planned(["batch_size=64"]), whole = secondsOf(plan);
  for (const seconds of [0.05, 0.3, 1, 5]) {
    await withSimulated(async (device, spent) => {
      const times = await timePlans(device, [plan], { limit: 1 });
      const said = JSON.stringify({ seconds, whole, spent: spent(), ...times });
      assert.ok(!times || times.seconds[0] < whole + 2 * plan.steps.length * seconds, said);
      assert.ok(spent() < 1 + 4 * seconds, said);
    }, disturbances(1, seconds));
  }
});

Deno.test("plan times: a part that is too small says nothing of the whole", async () => {
  const plan = await planned(["batch_size=64"]);
  await withSimulated(async (device) => {
    assert.equal(await timePlans(device, [plan], { limit: 0.01 }), undefined);
  });
});
