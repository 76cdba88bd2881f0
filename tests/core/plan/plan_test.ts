import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import {
  type Dtype,
  type Graph,
  remat as rematOf,
  type Tensor,
  trace,
} from "../../../core/graph/mod.ts";
import { type Plan, planGraph, type Target } from "../../../core/plan/mod.ts";
import { cpuTarget } from "../../../core/device/cpu/target.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";

const target: Target = cpuTarget({ threads: 1, relaxed: true, blas: false, wasm: false });
const f32 = (...shape: number[]) => ({ shape, dtype: "f32" as Dtype });
const i32 = (...shape: number[]) => ({ shape, dtype: "i32" as Dtype });
const names = (plan: Plan) => plan.steps.map(({ op }) => op.name);
type Inputs = Record<string, Tensor>;

/** Runs a graph once from the given state; returns the state afterwards. */
async function stateAfter(
  graph: Graph,
  state: Record<string, number[]>,
  inputs = {},
): Promise<Record<string, number[]>> {
  await using device = await openCpu({ threads: 1, blas: "off", wasm: false });
  const plan = planGraph(graph, device.target);
  using store = device.createState(plan.state);
  for (const [name, values] of Object.entries(state)) store.write(name, values);
  using executable = await device.compile(plan, store);
  executable.run(inputs);
  const after: Record<string, number[]> = {};
  for (const name of Object.keys(state)) after[name] = [...await store.read(name)];
  return after;
}

Deno.test("what no result needs is not planned", () => {
  const graph = trace((_s, { x }: Inputs) => {
    k.exp(k.matmul(x, x));
    return { outputs: { y: k.tanh(x) } };
  }, { state: {}, batch: { x: f32(4, 4) } });
  assert.deepEqual(names(planGraph(graph, target)), ["fused"]);
});

Deno.test("equal nodes are computed once", () => {
  const graph = trace(
    (_s, { x }: Inputs) => ({ outputs: { y: k.matmul(k.matmul(x, x), k.matmul(x, x)) } }),
    {
      state: {},
      batch: { x: f32(4, 4) },
    },
  );
  assert.deepEqual(names(planGraph(graph, target)), ["matmul", "matmul"]);
});

Deno.test("multiplying by one and adding zero cost nothing", () => {
  const graph = trace(
    (_s, { x }: Inputs) => ({ outputs: { y: k.add(k.mul(k.matmul(x, x), 1), 0) } }),
    {
      state: {},
      batch: { x: f32(4, 4) },
    },
  );
  assert.deepEqual(names(planGraph(graph, target)), ["matmul"]);
});

Deno.test("loss and gradients of the head come from one sweep", () => {
  const graph = trace(({ w }: Inputs, { x, t }: Inputs) => {
    const { value, grads } = k.valueAndGrad((p: { w: Tensor }) =>
      [k.linearCrossEntropy(x, p.w, t).sum, null] as const
    )({ w });
    return { state: { w: k.sub(w, grads.w) }, outputs: { loss: value } };
  }, { state: { w: f32(7, 4) }, batch: { x: f32(3, 4), t: i32(3) } });
  assert.deepEqual(names(planGraph(graph, target)), ["linear_cross_entropy_grad", "fused"]);
});

Deno.test("element-wise work on a product moves into its kernel where the device can", () => {
  const graph = trace(
    (_s, { x, b, g }: Inputs) => ({ outputs: { y: k.mul(k.silu(k.add(k.matmul(x, x), b)), g) } }),
    {
      state: {},
      batch: { x: f32(4, 4), b: f32(4), g: f32(4, 4) },
    },
  );
  assert.deepEqual(names(planGraph(graph, { ...target, epilogues: true })), ["matmul"]);
  assert.deepEqual(names(planGraph(graph, target)), ["matmul", "fused"]);
});

Deno.test("state is overwritten in place, without copies", () => {
  const graph = trace(({ p, m }: Inputs, { g }: Inputs) => {
    const moved = k.add(k.mul(m, 0.9), g);
    return { state: { p: k.sub(p, moved), m: moved } };
  }, { state: { p: f32(8), m: f32(8) }, batch: { g: f32(8) } });
  const plan = planGraph(graph, target);
  assert.deepEqual(names(plan), ["fused"]);
  assert.equal(plan.totals.arenaBytes, 0);
  assert.deepEqual(plan.steps[0].outputs.map(({ space }) => space), ["state", "state"]);
});

Deno.test("two states may change places", async () => {
  const graph = trace(({ a, b }: Inputs) => ({ state: { a: b, b: a } }), {
    state: { a: f32(2), b: f32(2) },
    batch: {},
  });
  assert.deepEqual(await stateAfter(graph, { a: [1, 2], b: [3, 4] }), { a: [3, 4], b: [1, 2] });
});

Deno.test("state may move on while its old value is kept elsewhere", async () => {
  const graph = trace(({ a }: Inputs) => ({ state: { a: k.mul(a, 2), b: a } }), {
    state: { a: f32(2), b: f32(2) },
    batch: {},
  });
  assert.deepEqual(await stateAfter(graph, { a: [1, 2], b: [0, 0] }), { a: [2, 4], b: [1, 2] });
});

Deno.test("in-place work leaves alone what is still needed", async () => {
  const graph = trace(({ cache, old }: Inputs, { row, start }: Inputs) => {
    const written = k.cacheWrite(cache, row, start);
    return { state: { cache: written, old: k.add(old, cache) } };
  }, {
    state: { cache: f32(1, 3, 2), old: f32(1, 3, 2) },
    batch: { row: f32(1, 1, 2), start: i32(1) },
  });
  const after = await stateAfter(graph, { cache: [1, 2, 3, 4, 5, 6], old: [0, 0, 0, 0, 0, 0] }, {
    row: [8, 9],
    start: [1],
  });
  assert.deepEqual(after, { cache: [1, 2, 8, 9, 5, 6], old: [1, 2, 3, 4, 5, 6] });
});

Deno.test("a write beyond the cache's capacity is dropped", async () => {
  const graph = trace(
    ({ cache }: Inputs, { row, start }: Inputs) => ({
      state: { cache: k.cacheWrite(cache, row, start) },
    }),
    {
      state: { cache: f32(1, 2, 1) },
      batch: { row: f32(1, 3, 1), start: i32(1) },
    },
  );
  assert.deepEqual(await stateAfter(graph, { cache: [1, 2] }, { row: [7, 8, 9], start: [1] }), {
    cache: [1, 7],
  });
});

Deno.test("intermediates share memory: a deep chain of products needs no more than a shallow one", () => {
  const chain = (depth: number) =>
    planGraph(
      trace((_s, { x }: Inputs) => {
        let y = x;
        for (let i = 0; i < depth; i++) y = k.matmul(y, x);
        return { outputs: { y } };
      }, { state: {}, batch: { x: f32(16, 16) } }),
      target,
    ).totals.arenaBytes;
  assert.equal(chain(30), chain(3));
});

Deno.test("rebuilding activations costs FLOPs and saves memory", () => {
  const layers = (wrap: <A extends unknown[], R>(f: (...args: A) => R) => (...args: A) => R) =>
    planGraph(
      trace(
        ({ w }: { readonly w: readonly Tensor[] }, { x }: Inputs) => {
          const layer = wrap((y: Tensor, p: Tensor) =>
            k.matmul(k.silu(k.matmul(k.silu(k.matmul(y, p)), p)), p)
          );
          const { grads } = k.valueAndGrad((p: readonly Tensor[]) =>
            [k.sumAll(p.reduce((y, q) => layer(y, q), x)), null] as const
          )(w);
          return { state: { w: grads } };
        },
        {
          state: { w: Array.from({ length: 6 }, () => f32(8, 8)) },
          batch: { x: f32(256, 8) },
        },
      ),
      target,
    ).totals;
  const kept = layers((f) => f), rebuilt = layers(rematOf);
  assert(rebuilt.flops > kept.flops * 1.2, `${rebuilt.flops} FLOPs against ${kept.flops}`);
  assert(
    rebuilt.arenaBytes < kept.arenaBytes * 0.6,
    `${rebuilt.arenaBytes} bytes against ${kept.arenaBytes}`,
  );
});

Deno.test("a part that is rebuilt within a part that is rebuilt keeps no more than the outer alone", () => {
  type Wrap = <A extends unknown[], R>(f: (...args: A) => R) => (...args: A) => R;
  const bytes = (wrapInner: Wrap) =>
    planGraph(
      trace(({ w }: Inputs, { x }: Inputs) => {
        const inner = wrapInner((y: Tensor) => k.matmul(k.silu(k.matmul(k.silu(y), w)), w));
        const outer = rematOf((y: Tensor) => k.add(y, inner(k.tanh(y))));
        const twice = (y: Tensor) => outer(outer(y));
        return { state: { w: k.gradients(k.sumAll(k.square(twice(twice(x)))), [w])[0] } };
      }, { state: { w: f32(8, 8) }, batch: { x: f32(256, 8) } }),
      target,
    ).totals.arenaBytes;
  assert.equal(bytes(rematOf), bytes((f) => f));
});

Deno.test("a tensor that the device cannot bind is refused before anything is allocated, with what to change", () => {
  const graph = trace((_s, { x }: Inputs) => ({ outputs: { y: k.matmul(k.exp(x), x) } }), {
    state: {},
    batch: { x: f32(64, 64) },
  });
  assert.throws(
    () => planGraph(graph, { ...target, maxTensorBytes: 4096 }),
    /tensor \[64, 64\].*smaller batch_size/,
  );
});

Deno.test("FLOPs and bytes are those of the sizes", () => {
  const { totals } = planGraph(
    trace((_s, { x, w }: Inputs) => ({ outputs: { y: k.matmul(x, w) } }), {
      state: {},
      batch: { x: f32(3, 5), w: f32(5, 7) },
    }),
    target,
  );
  assert.equal(totals.flops, 2 * 3 * 5 * 7);
  assert.equal(totals.bytesMoved, 4 * (15 + 35 + 21));
});

Deno.test("a step that changes the shape of its state is refused while tracing", () => {
  assert.throws(
    () =>
      trace(({ a }: Inputs) => ({ state: { a: k.sumLast(a) } }), {
        state: { a: f32(2, 3) },
        batch: {},
      }),
    /state a changed/,
  );
});

Deno.test("the gradient of a maximum compares what is stored, not what a kernel computes anew", () => {
  const graph = trace(({ x }: Inputs) => {
    const [dx] = k.gradients(k.sumAll(k.maxLast(k.tanh(x))), [x]);
    return { state: { x: dx } };
  }, { state: { x: f32(3, 5) }, batch: {} });
  assert(names(planGraph(graph, target)).includes("max_last_grad"));
});

Deno.test("groups that wait for each other by way of a third are not made", () => {
  const graph = trace((_s, { x, y }: Inputs) => {
    const early = k.exp(x), product = k.matmul(early, early), other = k.exp(y);
    const late = k.mul(early, k.matmul(other, other)); // with `early` one kernel, behind `other`
    return { outputs: { late, last: k.mul(other, product) } }; // not one with `other`: `product` waits for `late`
  }, { state: {}, batch: { x: f32(4, 4), y: f32(4, 4) } });
  const order = names(planGraph(graph, { ...target, epilogues: false } as Target));
  assert.deepEqual(order.toSorted(), ["fused", "fused", "fused", "matmul", "matmul"]);
});
