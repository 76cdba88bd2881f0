/**
 * The WebGPU device itself: limits, memory, the ring of outputs, errors in words.
 *
 * @module
 */

import assert from "node:assert/strict";
import { openAdapter } from "../../core/device/webgpu/adapter.ts";
import { findAdapter, openWebgpu, WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import { DeviceError, type Executable, OutOfMemoryError } from "../../core/device/types.ts";
import { apply, placeholder, spec, trace } from "../../core/graph/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import {
  add,
  cast,
  defineOp,
  embedding,
  gradients,
  input,
  mul,
  output,
  sumAll,
} from "../../kernels/mod.ts";
import { webgpuTest } from "../support.ts";
import { runGraph } from "../support_device.ts";

/** A plan that adds its input to a counter in the state and hands the sum out. */
async function counter(device: WebgpuDevice, ring?: number) {
  const graph = trace((state, { by }) => {
    const count = add(state.count, by);
    return { state: { count }, outputs: { count, twice: mul(count, 2) } };
  }, { state: { count: spec([3]) }, batch: { by: spec([]) } });
  const state = device.createState([{ name: "count", ...spec([3]) }]);
  const plan = planGraph(graph, device.target);
  return { state, run: await device.compile(plan, state, { ring }) };
}

const counts = async (run: Executable) => (await run.outputs()).map(({ count }) => count[2]);

webgpuTest("webgpu: the device has all that its adapter offers", async () => {
  await using device = await openWebgpu();
  const adapter = await findAdapter();
  for (
    const limit of [
      "maxBufferSize",
      "maxStorageBufferBindingSize",
      "maxComputeWorkgroupStorageSize",
    ] as const
  ) {
    assert.equal(device.gpu.limits[limit], adapter!.limits[limit]);
    assert.equal(device.info.details[limit], adapter!.limits[limit]);
  }
  assert.equal(device.target.limits.f16, adapter!.features.has("shader-f16"));
  assert.ok(device.target.maxTensorBytes <= device.target.slabBytes);
});

webgpuTest(
  "webgpu: outputs come in the order of the runs, also around the ring's end",
  async () => {
    await using device = await openWebgpu();
    const { state, run } = await counter(device, 4);
    assert.deepEqual(await run.outputs(), []);
    run.run({ by: 1 });
    run.run({ by: 10 });
    assert.deepEqual(await counts(run), [1, 11]);
    run.run({ by: 1 }, 3);
    assert.deepEqual(await counts(run), [12, 13, 14]);
    assert.deepEqual(Array.from(await state.read("count")), [14, 14, 14]);
    run[Symbol.dispose]();
    state[Symbol.dispose]();
  },
);

webgpuTest("webgpu: outputs may be awaited after later runs", async () => {
  await using device = await openWebgpu();
  const { run } = await counter(device);
  run.run({ by: 1 });
  const first = counts(run);
  run.run({ by: 5 });
  const second = counts(run);
  run.run({ by: 0 });
  assert.deepEqual(await first, [1]);
  assert.deepEqual(await second, [6]);
  assert.deepEqual(await counts(run), [6]);
});

webgpuTest(
  "webgpu: outputs asked for too late are an error, and the next are there again",
  async () => {
    await using device = await openWebgpu();
    const { run } = await counter(device, 2);
    run.run({ by: 1 }, 3);
    await assert.rejects(run.outputs(), /outputs of 3 runs.*last 2 are kept/);
    run.run({ by: 1 });
    assert.deepEqual(await counts(run), [4]);
  },
);

webgpuTest("webgpu: wrong inputs are named", async () => {
  await using device = await openWebgpu();
  const { run } = await counter(device);
  assert.throws(() => run.run({}), /input by/);
  assert.throws(() => run.run({ by: [1, 2] }), /input by/);
  assert.throws(() => run.run({ by: 1, bye: 2 }), /bye/);
});

webgpuTest("webgpu: state comes back as it was written, in every type", async () => {
  await using device = await openWebgpu();
  const entries = (["f32", "bf16", "f16", "i32", "u32"] as const)
    .map((dtype) => ({ name: dtype, shape: [5], dtype }));
  const state = device.createState(entries);
  for (const { name } of entries) {
    assert.deepEqual(Array.from(await state.read(name)), [0, 0, 0, 0, 0]);
    state.write(name, [1, 2, 300, 4, 5]);
    assert.deepEqual(Array.from(await state.read(name)), [1, 2, 300, 4, 5]);
  }
  assert.throws(() => state.write("f32", [1]), /f32\[5\].*1 values/);
  assert.throws(() => state.write("f64", [1]), /no state f64/);
});

webgpuTest("webgpu: memory is counted and given back", async () => {
  await using device = await openWebgpu();
  assert.equal(device.usedBytes(), 0);
  const { state, run } = await counter(device);
  assert.ok(device.usedBytes() >= run.plan.totals.peakBytes);
  run.run({ by: 1 });
  await run.outputs();
  run[Symbol.dispose]();
  state[Symbol.dispose]();
  assert.throws(() => run.run({ by: 1 }), /closed/);
  assert.throws(() => state.write("count", [1, 2, 3]), /closed/);
  assert.ok(device.usedBytes() <= 65536, "only staging is left");
});

webgpuTest(
  "replay: ekzhang/jax-js 81: memory stays flat over a thousand runs, on WebGPU",
  async () => {
    await using device = await openWebgpu();
    const { run } = await counter(device);
    const rounds = async (n: number) => {
      for (let i = 0; i < n; i++) {
        run.run({ by: 1 }, 4);
        if (i % 10 === 9) await run.outputs();
      }
      return device.usedBytes();
    };
    const before = await rounds(50), rss = Deno.memoryUsage().rss;
    assert.equal(await rounds(250), before);
    assert.ok(Deno.memoryUsage().rss - rss < 40e6, "the process grows");
  },
);

webgpuTest("webgpu: what does not fit is refused with sizes and advice", async () => {
  await using device = await openWebgpu();
  const most = device.target.limits.maxBufferBytes;
  const huge = { name: "huge", ...spec([Math.ceil(most / 4) + 1]) };
  assert.throws(() => device.createState([huge]), (error) => {
    assert.ok(error instanceof OutOfMemoryError);
    assert.match(error.message, /state huge.*GiB.*micro-batch/s);
    return true;
  });
  if (!device.software) return;
  const many = Array.from({ length: 4000 }, (_, i) => ({ name: `${i}`, ...spec([2 ** 28]) }));
  assert.throws(() => device.createState(many), OutOfMemoryError);
  assert.equal(device.usedBytes(), 0);
});

/** x + 1 in a kernel that nothing is fused with; counted as `flops`. */
const plusOne = (flops: number) =>
  defineOp({
    name: "plus_one",
    check: ([x]) => [x],
    reference: ([x], [out]) => x.forEach((value, i) => out[i] = value + 1),
    cost: () => ({ flops, bytes: 0 }),
    kernels: [{
      name: "plain",
      passes: ({ inputs: [{ shape: [size] }] }) => [{
        wgsl: `@compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3<u32>) {
  store_y(id.x, load_x(id.x) + 1.0);
}`,
        bindings: { x: input(0), y: output(0) },
        grid: [size, 1, 1],
      }],
    }],
  });

webgpuTest("webgpu: tensors lie in several slabs, none across two", async () => {
  const opened = await openAdapter();
  const limits = { ...opened.limits, maxBufferBytes: 2048 };
  await using device = new WebgpuDevice({ ...opened, limits });
  const graph = trace((_, { x }) => {
    const parts = Array.from({ length: 6 }, (_, i) => apply(plusOne(0), [x], { i })[0]);
    return { outputs: { sum: parts.reduce((a, b) => add(a, b)) } };
  }, { state: {}, batch: { x: spec([200]) } });
  const plan = planGraph(graph, device.target);
  assert.ok(plan.totals.arenaBytes > 2 * 2048);
  using run = await device.compile(plan, device.createState([]), { ring: 1 });
  run.run({ x: Array.from({ length: 200 }, (_, i) => i) });
  const [{ sum }] = await run.outputs();
  assert.deepEqual(Array.from(sum), Array.from({ length: 200 }, (_, i) => 6 * (i + 1)));
});

webgpuTest("webgpu: long work is cut into several submits", async () => {
  const opened = await openAdapter();
  await using device = new WebgpuDevice({ ...opened, software: false });
  const x = placeholder(spec([1]), "x", "upload");
  let y = x;
  for (let i = 0; i < 5; i++) y = apply(plusOne(1e12), [y])[0];
  let submits = 0;
  const submit = device.submit.bind(device);
  device.submit = (encoder, work) => (submits++, submit(encoder, work));
  const [result] = await runGraph(device, [y], new Map([[x, [1]]]));
  assert.deepEqual([result[0], submits], [6, 5]);
});

webgpuTest("webgpu: host ops are computed when a run is prepared", async () => {
  await using device = await openWebgpu();
  const table = placeholder(spec([4, 2]), "table", "upload");
  const ids = placeholder(spec([3], "i32"), "ids", "upload");
  const [slope] = gradients(sumAll(embedding(table, ids)), [table]);
  const [result] = await runGraph(device, [slope], new Map([[ids, [2, 0, 2]]]));
  assert.deepEqual(Array.from(result), [1, 1, 0, 0, 2, 2, 0, 0]);
});

webgpuTest("webgpu: halves are handed out as numbers", async () => {
  await using device = await openWebgpu();
  const x = placeholder(spec([3]), "x", "upload");
  const results = await runGraph(
    device,
    [cast(x, "bf16"), cast(x, "f16")],
    new Map([[x, [1, 1.001, -3]]]),
  );
  assert.deepEqual(results.map((r) => Array.from(r)), [[1, 1, -3], [1, 1.0009765625, -3]]);
});

webgpuTest("webgpu: a shader that does not compile is told by its kernel", async () => {
  await using device = await openWebgpu();
  const broken = defineOp({
    name: "broken",
    check: ([x]) => [x],
    reference: () => {},
    kernels: [{
      name: "typo",
      passes: () => [{
        wgsl: "@compute @workgroup_size(1) fn main() { store_y(0u, load_z(0u)); }",
        bindings: { x: input(0), y: output(0) },
        grid: [1, 1, 1],
      }],
    }],
  });
  const x = placeholder(spec([1]), "x", "upload");
  await assert.rejects(runGraph(device, [apply(broken, [x])[0]], new Map([[x, [1]]])), (error) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /broken \(typo\) does not compile[^]*load_z/);
    return true;
  });
});

webgpuTest("webgpu: a lost device says so at the next call", async () => {
  await using device = await openWebgpu();
  const { run } = await counter(device);
  device.gpu.destroy();
  await device.gpu.lost;
  assert.throws(() => run.run({ by: 1 }), (error) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /the GPU was lost.*DENO_WEBGPU_BACKEND/);
    return true;
  });
  await assert.rejects(device.idle(), /the GPU was lost/);
});

webgpuTest("webgpu: every dispatch of a run can be timed", async () => {
  await using device = await openWebgpu();
  if (!device.gpu.features.has("timestamp-query")) return;
  const { run, state } = await counter(device);
  const times = await run.profile({ by: 2 });
  assert.equal(times.length, run.plan.totals.dispatches);
  assert.ok(times.every(({ label, milliseconds }) => label.includes("(") && milliseconds >= 0));
  assert.deepEqual(Array.from(await state.read("count")), [2, 2, 2]);
});

webgpuTest("webgpu: state is filled piece by piece, halves too", async () => {
  await using device = await openWebgpu();
  using store = device.createState([
    { name: "f32", ...spec([5]) },
    { name: "bf16", ...spec([7], "bf16") },
  ]);
  for (const name of ["f32", "bf16"]) {
    store.fill(name, (into, at) => into.forEach((_, i) => into[i] = at + i + 1));
    assert.deepEqual(
      Array.from(await store.read(name)),
      name === "f32" ? [1, 2, 3, 4, 5] : [1, 2, 3, 4, 5, 6, 7],
    );
  }
  store.fillBf16("bf16", (into, at) => into.fill(0xbf80 + at));
  assert.deepEqual(Array.from(await store.read("bf16")), Array(7).fill(-1));
});
