import assert from "node:assert/strict";
import type { Attrs, Dtype, Spec } from "../../core/graph/mod.ts";
import { assumedLimits, openWebgpu, type WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import {
  type AttentionAttrs,
  attentionGradOp,
  attentionOp,
  cachedAttentionOp,
} from "../../kernels/attention.ts";
import {
  attentionGradKernels,
  attentionKernels,
  cachedAttentionKernels,
} from "../../kernels/webgpu/attention.ts";
import type { GpuKernel } from "../../kernels/lowering.ts";
import { webgpuTest } from "../support.ts";
import { caseOf, checkVariants, contextOf, expected, f32, i32, runKernel } from "./variants.ts";

interface Shape {
  readonly batch?: number;
  readonly time: number;
  readonly heads?: number;
  readonly kv_heads?: number;
  readonly width: number;
  readonly dtype?: Dtype;
  /** Length of documents: query and key must be of one. */
  readonly documents?: number;
}

/**
 * Scores are sums of `width` f32 products; their absolute error becomes a relative one of the
 * weights through exp, which drivers compute to a few units in the last place; sums over keys add
 * theirs. Scores of the cases stay below ten.
 */
const TOLERANCE = 4e-6;

function attrsOf({ width }: Shape, attrs: Partial<AttentionAttrs>): Attrs {
  return { causal: true, window: 0, scale: 1 / Math.sqrt(width), softcap: 0, ...attrs };
}

/**
 * Wide tiles are printed by the functions of narrow ones; of wide heads they would only take
 * software adapters long to compile.
 */
const waysFor = (kernels: readonly GpuKernel[], { width }: Shape) =>
  kernels.filter(({ name }) => width <= 64 || !name.startsWith("wide"));

/** Forward, then backward from the forward's own exact results. */
async function check(device: WebgpuDevice, shape: Shape, options: Partial<AttentionAttrs> = {}) {
  const { batch = 1, time, heads = 1, kv_heads = heads, width, dtype = "f32", documents } = shape;
  const of = (...sizes: number[]): Spec => ({ shape: sizes, dtype });
  const rows = of(batch, time, heads, width), keys = of(batch, time, kv_heads, width);
  const attrs = attrsOf(shape, options);
  const segments = documents ? [i32(batch, time)] : [];
  const ids = Int32Array.from({ length: batch * time }, (_, i) => Math.floor(i / (documents ?? 1)));
  const forward = caseOf(attentionOp, [rows, keys, keys, ...segments], attrs, { 3: ids });
  await checkVariants(device, waysFor(attentionKernels, shape), forward, TOLERANCE);
  const [out, lse] = expected(forward);
  const given = [...forward.values.slice(0, 3), out, lse];
  const backward = caseOf(
    attentionGradOp,
    [
      rows,
      keys,
      keys,
      f32(...rows.shape),
      f32(batch, heads, time),
      f32(...rows.shape),
      ...segments,
    ],
    attrs,
    { ...given, 6: ids },
  );
  await checkVariants(device, waysFor(attentionGradKernels, shape), backward, TOLERANCE);
}

webgpuTest("attention and its gradient do as the loops", async (t) => {
  await using device = await openWebgpu();
  const step = (name: string, shape: Shape, options: Partial<AttentionAttrs> = {}) =>
    t.step(name, () => check(device, shape, options));
  await step("of one position and one channel", { time: 1, width: 1 });
  await step("over odd lengths and widths, heads in groups", {
    batch: 2,
    time: 65,
    heads: 6,
    kv_heads: 2,
    width: 17,
  });
  await step("with a window and a softcap", { batch: 2, time: 40, heads: 2, width: 33 }, {
    window: 7,
    softcap: 2,
  });
  await step("without a mask", { time: 70, heads: 2, kv_heads: 1, width: 64 }, { causal: false });
  await step("with documents", { batch: 2, time: 65, heads: 2, width: 16, documents: 13 });
  await step("with documents, a window, a softcap and no causal mask", {
    time: 65,
    width: 80,
    documents: 20,
  }, { causal: false, window: 9, softcap: 3 });
  await step("of bf16", { time: 33, width: 48, dtype: "bf16" });
  await step("of wide heads", { time: 34, heads: 2, kv_heads: 1, width: 256 });
  await step("of width 130, in slices", { time: 33, width: 130 });
});

/** Queries at `start` of each batch row of a cache. */
async function checkCached(
  device: WebgpuDevice,
  shape: Shape & { capacity: number; start: number[] },
  options: Partial<AttentionAttrs> = {},
) {
  const { time, heads = 1, kv_heads = heads, width, dtype = "f32", capacity, start } = shape;
  const batch = start.length, cache: Spec = { shape: [batch, capacity, kv_heads, width], dtype };
  const given = caseOf(
    cachedAttentionOp,
    [f32(batch, time, heads, width), cache, cache, i32(batch)],
    attrsOf(shape, options),
    { 3: start },
  );
  await checkVariants(device, waysFor(cachedAttentionKernels, shape), given, TOLERANCE);
}

webgpuTest("attention over a cache does as the loop", async (t) => {
  await using device = await openWebgpu();
  const step = (
    name: string,
    shape: Shape & { capacity: number; start: number[] },
    options: Partial<AttentionAttrs> = {},
  ) => t.step(name, () => checkCached(device, shape, options));
  await step("in several spans", { time: 1, heads: 2, width: 64, capacity: 300, start: [250] });
  await step("with rows of different lengths, heads in groups", {
    time: 3,
    heads: 4,
    kv_heads: 2,
    width: 33,
    capacity: 70,
    start: [0, 66],
  });
  await step("for many queries", {
    time: 40,
    heads: 2,
    kv_heads: 1,
    width: 24,
    capacity: 65,
    start: [3, 17],
  });
  await step("with a window and a softcap, width 130", {
    time: 1,
    heads: 3,
    width: 130,
    capacity: 600,
    start: [0, 599],
  }, { window: 100, softcap: 4 });
  await step("of bf16", { time: 2, width: 16, capacity: 20, start: [5], dtype: "bf16" });
  await step("beyond its capacity", { time: 2, width: 8, capacity: 10, start: [20] });
  await step("where nothing is to be seen: zeros", {
    time: 9,
    width: 8,
    capacity: 10,
    start: [-20],
  }, { window: 4 });
});

webgpuTest("infinite scores of positions that may not be seen stay out of the result", async () => {
  await using device = await openWebgpu();
  const shape = [1, 40, 1, 8], attrs = attrsOf({ time: 40, width: 8 }, {});
  const given = caseOf(attentionOp, [f32(...shape), f32(...shape), f32(...shape)], attrs);
  // The last key: seen by the last query alone. (A value is multiplied by its weight, and nothing
  // makes 0 · ∞ a zero.)
  (given.values[1] as Float64Array).fill(Infinity, 39 * 8);
  const wanted = expected(given)[0].subarray(0, 39 * 8);
  for (const kernel of attentionKernels) {
    const [out] = await runKernel(device, kernel, given);
    const got = out.subarray(0, 39 * 8);
    assert.ok(got.every((x, i) => Math.abs(x - wanted[i]) < 1e-5), kernel.name);
  }
});

Deno.test("attention passes respect the smallest limits at any width", () => {
  const target = { ...assumedLimits, maxWorkgroupStorageBytes: 16384 };
  for (const width of [1, 3, 32, 64, 100, 128, 255, 256]) {
    const rows = f32(70, 2000, 16, width);
    const given = caseOf(attentionOp, [f32(1, 1, 1, 1)], {});
    const node = { ...contextOf({ ...given, op: attentionOp, inputs: [rows, rows, rows] }) };
    const context = { ...node, attrs: attrsOf({ time: 1, width }, {}) };
    const able = attentionKernels.filter(({ when }) => when?.(context, target) ?? true);
    assert.ok(able.length > 0, `width ${width}`);
    for (const pass of able.flatMap((kernel) => kernel.passes(context, target))) {
      assert.ok(pass.grid.every((n) => n >= 1 && n <= 65535));
      assert.ok(pass.workgroupBytes! <= target.maxWorkgroupStorageBytes);
    }
  }
});
