import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import {
  type Dtype,
  interpret,
  normals,
  sizeOf,
  type Tensor,
  trace,
} from "../../core/graph/mod.ts";
import { type Plan, planGraph } from "../../core/plan/mod.ts";
import { openCpu, shortName } from "../../core/device/cpu/device.ts";
import { findBlas } from "../../core/device/cpu/blas.ts";
import { createSharedMemory } from "../../core/device/cpu/memory.ts";
import { type Device, OutOfMemoryError } from "../../core/device/mod.ts";

type Inputs = Record<string, Tensor>;
const f32 = (...shape: number[]) => ({ shape, dtype: "f32" as Dtype });

/**
 * State counts runs, an output tells the count: what order, repetition and rings are tested with.
 */
const counter = () =>
  trace(({ n }: Inputs, { by }: Inputs) => {
    const next = k.add(n, by);
    return { state: { n: next }, outputs: { n: next } };
  }, { state: { n: f32(3) }, batch: { by: f32() } });

Deno.test("runs keep their order and count; outputs wait in the ring until they are read", async () => {
  await using device = await openCpu({ threads: 2, blas: "off" });
  const plan = planGraph(counter(), device.target);
  using store = device.createState(plan.state);
  using executable = await device.compile(plan, store, { ring: 4 });
  executable.run({ by: 1 });
  executable.run({ by: 10 }, 2);
  assert.deepEqual((await executable.outputs()).map(({ n }) => n[0]), [1, 11, 21]);
  assert.deepEqual(await executable.outputs(), []);
  assert.deepEqual([...await store.read("n")], [21, 21, 21]);
});

Deno.test("a BLAS is named by its name and version, or by its file where it has none", () => {
  const version = "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Zen MAX_THREADS=64 on Zen";
  const named = [version, "/opt/homebrew/lib/libopenblas.dylib", "libblas.so.3"];
  assert.deepEqual(
    named.map((version) => shortName({ version })),
    ["OpenBLAS 0.3.21", "libopenblas.dylib", "libblas.so.3"],
  );
});

Deno.test("outputs that were overwritten before they were read are an error, not a gap", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const plan = planGraph(counter(), device.target);
  using store = device.createState(plan.state);
  using executable = await device.compile(plan, store, { ring: 2 });
  executable.run({ by: 1 }, 3);
  await assert.rejects(executable.outputs(), /overwritten/);
  executable.run({ by: 1 });
  assert.deepEqual((await executable.outputs()).map(({ n }) => n[0]), [4]); // told once
});

Deno.test("plans may be compiled side by side, and run meanwhile", async () => {
  await using device = await openCpu({ threads: 3, blas: "off" });
  const plan = planGraph(counter(), device.target);
  using store = device.createState(plan.state);
  using first = await device.compile(plan, store);
  const others = Promise.all(Array.from({ length: 5 }, () => device.compile(plan, store)));
  first.run({ by: 1 });
  for (const other of await others) {
    other.run({ by: 1 });
    other[Symbol.dispose]();
    first.run({ by: 1 });
  }
  assert.deepEqual([...await store.read("n")], [11, 11, 11]);
});

Deno.test("what was closed is refused; closing twice does nothing", async () => {
  const device = await openCpu({ threads: 2, blas: "off" });
  const plan = planGraph(counter(), device.target);
  const store = device.createState(plan.state), executable = await device.compile(plan, store);
  for (const closed of [executable, executable, store, store]) closed[Symbol.dispose]();
  assert.throws(() => executable.run({ by: 1 }), /after it was closed/);
  assert.throws(() => store.write("n", [1, 2, 3]), /closed/);
  assert.equal(device.usedBytes(), 0);
  await device[Symbol.asyncDispose]();
  await device[Symbol.asyncDispose]();
});

Deno.test("state takes as many values as it holds, or nothing", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  using store = device.createState([{ name: "a", ...f32(4) }]);
  assert.throws(() => store.write("a", [1, 2]), /2 values do not fill/);
  assert.throws(() => store.write("a", [1, 2, 3, 4, 5]), /5 values do not fill/);
  const before = device.usedBytes(), large = { name: "c", ...f32(2 ** 30) };
  assert.throws(() => device.createState([{ name: "b", ...f32(8) }, large]), OutOfMemoryError);
  assert.equal(device.usedBytes(), before);
});

Deno.test("a missing, unknown or wrongly sized input is named", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const plan = planGraph(counter(), device.target);
  using store = device.createState(plan.state);
  using executable = await device.compile(plan, store);
  assert.throws(() => executable.run({}), /needs an input by/);
  assert.throws(() => executable.run({ by: [1, 2] }), /by has 2 values/);
  assert.throws(() => executable.run({ by: 1, bye: 1 }), /no input bye/);
});

/**
 * A little network of products, norms and a head, with a gradient step: every job kind of the
 * device.
 */
function network() {
  return trace(({ w, head }: Inputs, { x, t }: Inputs) => {
    const { value, grads } = k.valueAndGrad((p: Inputs) => {
      const h = k.rmsNorm(k.silu(k.linear(x, p.w)), undefined, { eps: 1e-6 });
      return [k.linearCrossEntropy(h, p.head, t).sum, null] as const;
    })({ w, head });
    return {
      state: { w: k.sub(w, k.mul(grads.w, 0.01)), head: k.sub(head, k.mul(grads.head, 0.01)) },
      outputs: { loss: value },
    };
  }, {
    state: { w: f32(65, 33), head: f32(130, 65) },
    batch: { x: f32(257, 33), t: { shape: [257], dtype: "i32" as Dtype } },
  });
}

interface Trained {
  readonly losses: number[];
  readonly w: number[];
}

async function train(options: Parameters<typeof openCpu>[0], steps = 3): Promise<Trained> {
  await using device = await openCpu(options);
  return await trainOn(device, steps);
}

async function trainOn(device: Device, steps: number): Promise<Trained> {
  const plan = planGraph(network(), device.target);
  using store = device.createState(plan.state);
  for (const { name, shape } of plan.state) {
    store.write(
      name,
      normals(1, name, sizeOf(shape)).map((v) => v * 0.2),
    );
  }
  using executable = await device.compile(plan, store);
  for (let i = 0; i < steps; i++) {
    executable.run({
      x: normals(2, "x", 257 * 33),
      t: Int32Array.from({ length: 257 }, (_, j) => j * 7 % 130),
    });
  }
  const losses = (await executable.outputs()).map(({ loss }) => loss[0]);
  return { losses, w: [...await store.read("w")] };
}

Deno.test("addresses above 2 GiB, negative as signed words, compute the same", async () => {
  await using device = await openCpu({ threads: 2, blas: "off" });
  // A plan that is never run: its arena takes the lower addresses, and no page of it is touched.
  const graph = trace(
    (_state, { x, y }: Inputs) => ({ outputs: { a: k.matmul(x, y), b: k.matmul(x, k.exp(y)) } }),
    {
      state: {},
      batch: { x: f32(17_000, 1), y: f32(1, 17_000) },
    },
  );
  using store = device.createState([]);
  using _lower = await device.compile(planGraph(graph, device.target), store);
  assert(device.usedBytes() > 2 ** 32 * 0.5);
  assert.deepEqual(await trainOn(device, 3), await train({ threads: 2, blas: "off" }));
});

Deno.test("one, two and three members give the same bits", async () => {
  const [one, two, three] = [
    await train({ threads: 1, blas: "off" }),
    await train({ threads: 2, blas: "off" }),
    await train({ threads: 3, blas: "off" }),
  ];
  assert.deepEqual(two, one);
  assert.deepEqual(three, one);
  assert(one.losses[2] < one.losses[0]);
});

Deno.test("wasm, plain loops and a BLAS train alike", async () => {
  const plain = await train({ threads: 1, blas: "off", wasm: false });
  // Sums in another order and exp to an ulp: 257 tokens of loss near 5 agree to 1e-5 of their sum.
  for (
    const other of [
      await train({ threads: 2, blas: "off" }),
      await train({ threads: 2, blas: "auto" }),
    ]
  ) {
    other.losses.forEach((loss, i) =>
      assert(
        Math.abs(loss - plain.losses[i]) < 1e-5 * plain.losses[i],
        `${loss} is not ${plain.losses[i]}`,
      )
    );
    other.w.forEach((w, i) => assert(Math.abs(w - plain.w[i]) < 2e-5));
  }
});

Deno.test("used bytes are what the plan said, and nothing is left when all is closed", async () => {
  await using device = await openCpu({ threads: 2, blas: "off" });
  const plan = planGraph(network(), device.target), before = device.usedBytes();
  {
    using store = device.createState(plan.state);
    using _executable = await device.compile(plan, store);
    const used = device.usedBytes() - before;
    assert(
      used >= plan.totals.peakBytes * 0.95,
      `${used} bytes used, ${plan.totals.peakBytes} planned`,
    );
  }
  assert.equal(device.usedBytes(), before);
});

Deno.test("replay: ekzhang/jax-js 81: 1,000 runs keep the device's bytes and the process' memory flat", async () => {
  await using device = await openCpu({ threads: 2, blas: "off" });
  const plan = planGraph(counter(), device.target);
  using store = device.createState(plan.state);
  using executable = await device.compile(plan, store);
  const runs = async (count: number) => {
    for (let i = 0; i < count; i++) {
      executable.run({ by: 1 });
      if (i % 50 === 49) await executable.outputs();
    }
  };
  await runs(500);
  const bytes = device.usedBytes(), rss = Deno.memoryUsage().rss;
  await runs(1000);
  assert.equal(device.usedBytes(), bytes);
  assert(Deno.memoryUsage().rss - rss < 24 * 2 ** 20, "the process grew"); // garbage that is not collected yet stays below this
});

Deno.test("a loop that throws stops the run with its words, and the pool lives on", async () => {
  await using device = await openCpu({ threads: 2, blas: "off" });
  const plan = planGraph(counter(), device.target) as Plan;
  const broken = {
    ...plan,
    steps: plan.steps.map((step) => ({
      ...step,
      op: {
        ...step.op,
        reference: () => {
          throw new Error("no such luck");
        },
      },
      lowered: { jobs: undefined, memberBytes: 0 },
    })),
  };
  using store = device.createState(plan.state);
  using bad = await device.compile(broken, store);
  assert.throws(() => bad.run({ by: 1 }), /no such luck/);
  using good = await device.compile(plan, store);
  good.run({ by: 2 });
  assert.equal((await good.outputs())[0].n[0], 2);
});

Deno.test("more than the device can hold is one clear error with sizes and a knob", async () => {
  const memory = createSharedMemory();
  const first = memory.allocate(1000, "a"), second = memory.allocate(1000, "b");
  assert.throws(
    () => memory.allocate(2 ** 33, "intermediate tensors"),
    (error) =>
      error instanceof OutOfMemoryError && /intermediate tensors.*batch_size/.test(error.message),
  );
  memory.free(first);
  memory.free(second);
  assert.equal(memory.usedBytes(), 0);
  assert.equal(memory.allocate(1500, "c").offset, first.offset); // freed neighbours join
  await Promise.resolve();
});

Deno.test("a library that is not a BLAS is refused by name", () => {
  assert.throws(() => findBlas("libc.so.6"), /libc\.so\.6 is not a BLAS/);
});

Deno.test("half-precision state comes and goes as numbers", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  for (const dtype of ["bf16", "f16"] as const) {
    const graph = trace(
      ({ h }: Inputs, { x }: Inputs) => ({
        state: { h: k.cast(k.add(k.cast(h, "f32"), x), dtype) },
      }),
      {
        state: { h: { shape: [5], dtype: dtype as Dtype } },
        batch: { x: f32(5) },
      },
    );
    const plan = planGraph(graph, device.target), x = [0.1, 1.5, -3.0625, 100, 1e-3];
    using store = device.createState(plan.state);
    store.write("h", [1, 2, 3, 4, 5]);
    using executable = await device.compile(plan, store);
    executable.run({ x });
    const given = new Map(
      graph.inputs.map(({ name, tensor }) => [tensor, name === "h" ? [1, 2, 3, 4, 5] : x]),
    );
    assert.deepEqual([...await store.read("h")], [
      ...interpret([graph.updates[0].value], given)[0],
    ]);
  }
});

Deno.test("state begins at 0, also where other state stood before", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const count = 1000, first = device.createState([{ name: "a", ...f32(count) }]);
  first.write("a", new Float32Array(count).fill(1));
  first[Symbol.dispose]();
  using second = device.createState([{ name: "a", ...f32(3 * count) }]);
  assert.ok((await second.read("a")).every((x) => x === 0));
});

Deno.test("state is filled in place, halves piece by piece", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const count = 2 ** 20 + 3;
  using store = device.createState([
    { name: "f32", ...f32(count) },
    { name: "bf16", shape: [count], dtype: "bf16" },
    { name: "i32", shape: [2], dtype: "i32" },
  ]);
  for (const name of ["f32", "bf16"]) {
    const asked: number[] = [];
    store.fill(name, (into, at) => {
      asked.push(at, into.length);
      for (let i = 0; i < into.length; i++) into[i] = (at + i) % 255;
    });
    assert.deepEqual(asked, name === "f32" ? [0, count] : [0, 2 ** 20, 2 ** 20, 3]);
    assert.ok((await store.read(name)).every((x, i) => x === i % 255), name);
  }
  assert.throws(() => store.fill("i32", () => {}), /no filling i32/);
  store.fillBf16("bf16", (into) => into.fill(0xbf80));
  assert.ok((await store.read("bf16")).every((x) => x === -1));
  assert.throws(() => store.fillBf16("f32", () => {}), /state f32 is/);
});
