import assert from "node:assert/strict";
import type { Dtype } from "../../core/graph/mod.ts";
import { assumedLimits, openWebgpu } from "../../core/device/webgpu/mod.ts";
import {
  type CrossEntropyAttrs,
  IGNORE,
  linearCrossEntropyGradOp,
  linearCrossEntropyOp,
} from "../../kernels/cross_entropy.ts";
import { lossKernel } from "../../kernels/webgpu/cross_entropy.ts";
import { webgpuTest } from "../support.ts";
import { type Case, caseOf, checkVariants, contextOf, f32, i32, runKernel } from "./variants.ts";

interface Head {
  readonly tokens: number;
  readonly width: number;
  readonly vocab: number;
  readonly dtype?: Dtype;
  readonly weighted?: boolean;
  readonly attrs?: Partial<CrossEntropyAttrs>;
}

/**
 * Every fifth target is ignored, by its sign or beyond the vocabulary; weights are 0, 1/2, 1 and
 * 3/2 in turn.
 */
function headCase({ tokens, width, vocab, dtype = "f32", weighted, attrs }: Head, grad: boolean) {
  const inputs = [
    { shape: [tokens, width], dtype },
    { shape: [vocab, width], dtype },
    i32(tokens),
    ...(weighted ? [f32(tokens)] : []),
  ];
  const targets = Int32Array.from(
    { length: tokens },
    (_, i) => i % 5 !== 3 ? i * 7 % vocab : i % 2 ? IGNORE : vocab,
  );
  const weights = Float32Array.from({ length: tokens }, (_, i) => i % 4 / 2);
  const op = grad ? linearCrossEntropyGradOp : linearCrossEntropyOp;
  const all = { softcap: 0, label_smoothing: 0, z_loss: 0, ...attrs };
  return caseOf(op, inputs, all, { 2: targets, 3: weights });
}

/**
 * Logits are f32 sums of `width` products, a few units in size; their absolute error is a relative
 * one of the slopes, which are summed again over tokens or the vocabulary.
 */
const TOLERANCE = 4e-6;

/** A chunk of so many rows of logits. */
const chunkOf = (rows: number, { vocab }: Head) => 4 * vocab * rows;

webgpuTest("the loss head and its gradient do as the loops", async (t) => {
  await using device = await openWebgpu();
  const step = (name: string, head: Head, rows = Infinity) =>
    t.step(name, async () => {
      for (const grad of [false, true]) {
        const kernels = [lossKernel(grad, chunkOf(rows, head))];
        await checkVariants(device, kernels, headCase(head, grad), TOLERANCE);
      }
    });
  await step("for one token and two words", { tokens: 1, width: 1, vocab: 2 });
  await step("for odd sizes", { tokens: 17, width: 33, vocab: 257 });
  await step("with token weights, in chunks of five", {
    tokens: 17,
    width: 12,
    vocab: 64,
    weighted: true,
  }, 5);
  await step("a row at a time", { tokens: 6, width: 16, vocab: 2000 }, 1);
  await step("with everything at once", {
    tokens: 65,
    width: 20,
    vocab: 257,
    weighted: true,
    attrs: { softcap: 3, label_smoothing: 0.1, z_loss: 0.01 },
  }, 40);
  await step("with label smoothing and whole quads", {
    tokens: 9,
    width: 8,
    vocab: 68,
    attrs: { label_smoothing: 0.2, z_loss: 0.1 },
  });
  await step("of bf16", { tokens: 9, width: 8, vocab: 36, dtype: "bf16" }, 4);
});

webgpuTest("ignored tokens get exact zeros, whatever their logits", async () => {
  await using device = await openWebgpu();
  const given: Case = headCase({ tokens: 10, width: 8, vocab: 36 }, true);
  // The tokens at 3 and 8 are ignored.
  for (const token of [3, 8]) {
    (given.values[0] as Float64Array).fill(1e30, token * 8, token * 8 + 8);
  }
  const [sum, losses, dx, dhead] = await runKernel(device, lossKernel(true), given);
  for (const token of [3, 8]) {
    assert.equal(losses[token], 0);
    assert.ok(dx.subarray(token * 8, token * 8 + 8).every((x) => x === 0));
  }
  assert.ok([sum, dhead].every((x) => (x as Float32Array).every(Number.isFinite)));
});

Deno.test("logits stay within their bound, and one row of them always fits", () => {
  const sizes = (vocab: number, width: number, maxBindingBytes: number) => {
    const head = { tokens: 10_000, width, vocab };
    const inputs = [f32(head.tokens, width), f32(vocab, width), i32(head.tokens)];
    const context = contextOf({ op: linearCrossEntropyGradOp, inputs, attrs: {}, values: [] });
    const target = { ...assumedLimits, maxBindingBytes };
    const attrs = { softcap: 0, label_smoothing: 0, z_loss: 0 }, kernel = lossKernel(true);
    const node = { ...context, attrs }, passes = kernel.passes(node, target);
    for (const { grid } of passes) assert.ok(grid.every((n) => n >= 1 && n <= 65535));
    return kernel.scratch!(node, target).map(({ shape }) => 4 * shape[0]);
  };
  assert.ok(sizes(50_304, 768, 2 ** 31)[0] <= 64 * 2 ** 20);
  assert.ok(sizes(150_000, 64, 2 ** 27).every((bytes) => bytes <= 2 ** 27));
  // A vocabulary of which the device binds no more than a single row of logits.
  assert.deepEqual(sizes(262_144, 1, 2 ** 20)[0], 2 ** 20);
});
