import assert from "node:assert/strict";
import type { Op } from "../../../core/graph/mod.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";
import { type Device, OutOfMemoryError } from "../../../core/device/mod.ts";
import { openWebgpu } from "../../../core/device/webgpu/mod.ts";
import { adviceFor, type Findings } from "../../../core/inspect/mod.ts";
import { takeMore } from "../../../core/inspect/room.ts";
import { samples } from "../../../core/inspect/samples.ts";
import { selfTest } from "../../../core/inspect/self_test.ts";
import * as k from "../../../kernels/mod.ts";
import { webgpuTest } from "../../support.ts";
import { wrongAt } from "./wrong_device.ts";

const tested = async (device: Device) => await Array.fromAsync(selfTest(device));

Deno.test("self-test: no op with a kernel is left out", () => {
  const isOp = (value: unknown): value is Op =>
    typeof value === "object" && value !== null && "check" in value && "name" in value;
  const sampled = new Set(samples().map(({ op }) => op));
  // without a kernel, or made from others' chains, of which the test has one
  const others = new Set<Op>([
    k.reshapeOp,
    k.constantOp,
    k.tokenListsOp,
    k.bigramBucketsOp,
    k.fusedOp,
  ]);
  const all = [...Object.values(k).filter(isOp), ...Object.values(k.elementwiseOps)];
  const forgotten = all.filter((op) => !sampled.has(op) && !others.has(op));
  assert.deepEqual(forgotten.map(({ name }) => name), []);
});

Deno.test("self-test: the cpu device is right, with and without WASM, and takes a moment", async () => {
  for (const wasm of [true, false]) {
    await using device = await openCpu({ threads: 2, blas: "off", wasm });
    const began = performance.now(), results = await tested(device);
    assert.deepEqual(results.filter(({ fault }) => fault !== undefined), []);
    assert.ok(results.some(({ worst }) => worst > 0), "f32 against f64 is never all equal");
    assert.ok(performance.now() - began < 10_000);
  }
});

webgpuTest("self-test: the GPU is right", async () => {
  await using device = await openWebgpu();
  assert.deepEqual((await tested(device)).filter(({ fault }) => fault !== undefined), []);
});

Deno.test("self-test: wrong numbers and kernels that cannot be made are found, each by its op", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const results = await tested(wrongAt(device, {
    layer_norm: (values) => values.map((x) => x * 1.001),
    matmul: (values) => values.map((x, i) => i === 7 ? NaN : x),
    rope: () => {
      throw new Error("the shader of rope does not compile");
    },
  }));
  const faults = Object.fromEntries(results.map(({ op, fault }) => [op, fault]));
  assert.match(faults.layer_norm ?? "", /^element \d+ is -?[\d.]+, not -?[\d.]+$/);
  assert.match(faults.matmul ?? "", /^element 7 is NaN, not /);
  assert.equal(faults.rope, "the shader of rope does not compile");
  assert.equal(results.filter(({ fault }) => fault !== undefined).length, 3);
});

Deno.test("self-test: a lost device ends it", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const lost = () => {
    throw new Error("the GPU was lost");
  };
  const results = await tested({
    ...wrongAt(device, { attention: lost }),
    idle: () => Promise.reject(new Error("the GPU was lost")),
  });
  assert.equal(results.at(-1)?.op, "attention");
});

Deno.test("replay: denoland/deno 35195: memory is taken in steps until the device refuses; that is the ceiling, and it is given back", async () => {
  await using cpu = await openCpu({ threads: 1, blas: "off" });
  const MiB = 2 ** 20, target = { ...cpu.target, maxTensorBytes: MiB };
  assert.deepEqual(await takeMore({ ...cpu, target }, 3.5 * MiB), {
    bytes: 3 * MiB,
    refused: false,
  });
  let stores = 0;
  const narrow: Device = {
    ...cpu,
    target,
    createState(entries) {
      if (++stores > 2) throw new OutOfMemoryError("a small heap");
      return cpu.createState(entries);
    },
  };
  assert.deepEqual(await takeMore(narrow, 1e9), { bytes: 2 * MiB, refused: true });
  assert.equal(cpu.usedBytes(), 0);
});

const machine = {
  system: "linux",
  deno: "2.9.6",
  processors: 2,
  memoryBytes: 2 ** 34,
  availableBytes: 2 ** 33,
  vulkanDrivers: [],
  nvidiaDriver: undefined,
};
const gpu = (details: Findings["device"]["details"]): Findings => ({
  machine,
  adapter: { name: "A card", software: false },
  device: { kind: "webgpu", name: "A card", details: { features: ["subgroups"], ...details } },
  maxTensorBytes: 2 ** 31,
  wrong: [],
  room: { bytes: 2 ** 33, refused: true },
});

Deno.test("advice: none for a sound GPU, else what is most urgent first", () => {
  assert.deepEqual(adviceFor(gpu({})), []);
  assert.match(adviceFor(gpu({ software: true }))[0], /--device cpu is faster/);
  assert.match(adviceFor({ ...gpu({}), room: { bytes: 2 ** 28, refused: true } })[0], /refuses/);
  assert.match(
    adviceFor({ ...gpu({}), maxTensorBytes: 2 ** 27 })[0],
    /33,554,432 numbers at most .*--dry-run/,
  );
  const [first] = adviceFor({ ...gpu({ software: true }), wrong: ["matmul"] });
  assert.match(first, /^do not train on this device/);
  const cpu: Findings = {
    ...gpu({}),
    adapter: "none",
    device: { kind: "cpu", name: "cpu", details: { blas: "none", relaxed_simd: true } },
  };
  const [drivers, blas] = adviceFor(cpu);
  if (Deno.build.os === "linux") assert.match(drivers, /no Vulkan driver is installed|no GPU is/);
  assert.match(blas, /no system BLAS is used/);
});
