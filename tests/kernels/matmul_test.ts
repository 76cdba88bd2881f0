import assert from "node:assert/strict";
import type { Dtype, OpContext, Spec } from "../../core/graph/mod.ts";
import { assumedLimits, openWebgpu, type WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import type { FusedProgram } from "../../kernels/fused.ts";
import { matmulOp } from "../../kernels/matmul.ts";
import { gemmVariants, planGemm } from "../../kernels/webgpu/gemm.ts";
import { matmulKernels } from "../../kernels/webgpu/matmul.ts";
import { webgpuTest } from "../support.ts";
import { caseOf, checkVariants, f32, runKernel } from "./variants.ts";

const forms = [[false, false], [false, true], [true, false], [true, true]] as const;

function operands(
  [batch, m, n, k]: readonly number[],
  [transA, transB]: readonly [boolean, boolean],
  dtype: Dtype = "f32",
): Spec[] {
  const a = transA ? [k, m] : [m, k], b = transB ? [n, k] : [k, n];
  return [a, b].map((shape) => ({ shape: [batch, ...shape], dtype }));
}

/**
 * Rounding of f32 sums of k products: √k roundings of half a unit in the last place, with room for
 * unlucky runs.
 */
const rounding = (k: number) => 4 * Math.sqrt(k) * 2 ** -24;

/**
 * relu(product + bias) · 0.5, stored as `dtype`, and the sum before the relu; the bias has an
 * offset and repeats over rows.
 */
function epilogue([batch, m, n]: readonly number[], dtype: Dtype): FusedProgram {
  const shape = [batch, m, n];
  return {
    shape,
    accesses: [{ strides: [m * n, n, 1], offset: 0 }, { strides: [0, 0, 1], offset: 1 }],
    steps: [
      { op: "input", input: 0 },
      { op: "input", input: 1 },
      { op: "add", args: [0, 1] },
      { op: "relu", args: [2] },
      { op: "constant", value: 0.5 },
      { op: "mul", args: [3, 4] },
    ],
    outputs: [
      { value: 5, extent: "element", spec: { shape, dtype } },
      { value: 2, extent: "element", spec: { shape, dtype: "f32" } },
    ],
  };
}

async function checkForms(
  device: WebgpuDevice,
  sizes: readonly number[],
  dtype: Dtype = "f32",
  some: readonly (readonly [boolean, boolean])[] = forms,
) {
  for (const form of some) {
    const [transA, transB] = form;
    const given = caseOf(matmulOp, operands(sizes, form, dtype), { transA, transB });
    await checkVariants(device, matmulKernels, given, rounding(sizes[3]));
  }
}

webgpuTest("every matmul kernel multiplies as the loop does", async (t) => {
  await using device = await openWebgpu();
  await t.step("where nothing divides by anything", () => checkForms(device, [2, 65, 17, 67]));
  const mixed = [forms[1], forms[2]];
  await t.step("where quads are whole", () => checkForms(device, [1, 36, 68, 132], "f32", mixed));
  await t.step("one by one", () => checkForms(device, [1, 1, 1, 1]));
  await t.step("three rows against many columns", () => checkForms(device, [1, 3, 257, 65]));
  await t.step("of bf16", () => checkForms(device, [1, 17, 20, 65], "bf16", mixed));
  await t.step("of f16", () => checkForms(device, [1, 17, 20, 64], "f16", [forms[0]]));
  // Tiles of all sizes are printed by one function: the smallest stands for them, as software
  // adapters are slow to compile.
  const printed = matmulKernels.filter(({ name }) => /plain|rows|32/.test(name));
  // Halves are stored in pairs: rows of odd length cut them, of even length keep them, and fours
  // are stored at once.
  const stored = [
    ["f32", [2, 9, 33, 40]],
    ["bf16", [2, 9, 33, 40]],
    ["bf16", [1, 40, 34, 70]],
    ["f16", [1, 5, 64, 40]],
  ] as const;
  for (const [dtype, sizes] of stored) {
    await t.step(`with an epilogue that stores ${dtype}, ${sizes.slice(0, 3)}`, async () => {
      const [transA, transB] = forms[1];
      const given = caseOf(
        matmulOp,
        [...operands(sizes, forms[1]), f32(sizes[2] + 1)],
        { transA, transB, epilogue: epilogue(sizes, dtype) },
      );
      // bf16 keeps 8 binary digits, f16 eleven.
      const storage = { f32: 0, bf16: 2 ** -8, f16: 2 ** -11, i32: 0, u32: 0 }[dtype];
      const sums = rounding(sizes[3]);
      await checkVariants(device, printed, given, [storage + sums, sums]);
    });
  }
  await t.step("twice alike where K is split", async () => {
    const given = caseOf(matmulOp, operands([1, 20, 24, 700], forms[2]), {
      transA: true,
      transB: false,
    });
    for (const kernel of matmulKernels.filter(({ name }) => name.startsWith("split"))) {
      const [first] = await runKernel(device, kernel, given);
      assert.deepEqual(await runKernel(device, kernel, given), [first]);
    }
  });
});

function nodeOf(sizes: readonly number[], form: readonly [boolean, boolean]): OpContext {
  const inputs = operands(sizes, form), attrs = { transA: form[0], transB: form[1] };
  return { inputs, attrs, outputs: matmulOp.check(inputs, attrs) };
}

Deno.test("matmul passes respect the limits for shapes of any size", () => {
  const small = {
    ...assumedLimits,
    maxWorkgroupStorageBytes: 16384,
    maxWorkgroupsPerDimension: 65535,
    maxBindingBytes: 1 << 27,
  };
  const shapes = [
    [1, 1, 300_000, 64],
    [1, 8, 2_000_000, 2],
    [4096, 3, 5, 7],
    [70_000, 1, 1, 1],
    [1, 768, 768, 65_536],
    [1, 100_000, 260, 8],
  ];
  for (const target of [assumedLimits, small]) {
    for (const sizes of shapes) {
      for (const kernel of matmulKernels) {
        const node = nodeOf(sizes, forms[0]);
        if (!(kernel.when?.(node, target) ?? true)) continue;
        const scratch = kernel.scratch?.(node, target) ?? [];
        for (const { shape } of scratch) assert.ok(4 * shape[0] <= target.maxBindingBytes);
        for (const pass of kernel.passes(node, target)) {
          assert.ok(pass.grid.every((n) => n >= 1 && n <= target.maxWorkgroupsPerDimension));
          assert.ok((pass.workgroupBytes ?? 0) <= target.maxWorkgroupStorageBytes);
        }
      }
    }
  }
});

Deno.test("a product's shape picks its kernel", () => {
  const pick = (m: number, n: number, k: number, limits = assumedLimits) =>
    planGemm(
      {
        batch: 1,
        m,
        n,
        k,
        transA: false,
        transB: false,
        a: { at: { from: "input", index: 0 } },
        b: { at: { from: "input", index: 1 } },
        sink: { outputs: [{ at: { from: "output", index: 0 }, dtype: "f32" }] },
      },
      limits,
    ).variant;
  assert.equal(pick(1, 50_000, 768), "rows");
  assert.equal(pick(4096, 4096, 4096), "tile128");
  assert.equal(pick(2048, 1024, 128), "tile64");
  assert.equal(pick(768, 768, 16_384), "split128"); // 36 tiles, 7 parts: one full round
  assert.equal(pick(2304, 768, 8192), "split64"); // 108 tiles of 128 would leave a second round half empty
  assert.equal(pick(16, 768, 768), "split32");
  assert.equal(pick(8, 768, 16_384), "split32");
  assert.equal(pick(100, 100, 64), "tile32");
  // llvmpipe
  assert.equal(pick(64, 64, 64, { ...assumedLimits, subgroupSizes: [8, 8] }), "plain");
  assert.deepEqual(matmulKernels.map(({ name }) => name), ["by_shape", ...gemmVariants]);
});
