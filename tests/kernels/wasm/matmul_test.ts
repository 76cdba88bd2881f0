import assert from "node:assert/strict";
import fc from "fast-check";
import type { FusedProgram } from "../../../kernels/fused.ts";
import { matmulOp } from "../../../kernels/matmul.ts";
import { storingHalves } from "../cases/case.ts";
import { checkWasm, load, plain, sample } from "./harness.ts";

const forms = [[false, false], [false, true], [true, false], [true, true]] as const;

function operands(
  m: number,
  n: number,
  k: number,
  [transA, transB]: readonly boolean[],
  batch: readonly number[] = [],
) {
  return [
    sample([...batch, ...(transA ? [k, m] : [m, k])], 1),
    sample([...batch, ...(transB ? [n, k] : [k, n])], 2),
  ];
}

Deno.test("matmul, WASM: every form, odd sizes, with and without a fused multiply-add", () => {
  for (const [transA, transB] of forms) {
    for (
      const [m, n, k] of [[1, 1, 1], [3, 17, 5], [17, 65, 3], [65, 257, 31], [257, 8, 300], [
        96,
        100,
        257,
      ], [12, 24, 600]]
    ) {
      for (const relaxed of [true, false]) {
        checkWasm(matmulOp, operands(m, n, k, [transA, transB]), { transA, transB }, 1e-6, {
          ...plain,
          relaxed,
        });
      }
    }
  }
});

Deno.test("matmul, WASM: any sizes", () => {
  const size = fc.integer({ min: 1, max: 70 });
  fc.assert(
    fc.property(
      size,
      size,
      size,
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom(...forms),
      (m, n, k, batch, form) => {
        checkWasm(
          matmulOp,
          operands(m, n, k, form, [batch]),
          { transA: form[0], transB: form[1] },
          1e-6,
        );
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("matmul, WASM: few rows are read as they lie", () => {
  for (const m of [1, 2, 3, 8, 31]) {
    for (const [transA, transB] of forms) {
      for (const [n, k] of [[1, 7], [3, 4], [13, 66], [300, 19], [8, 256]]) {
        checkWasm(matmulOp, operands(m, n, k, [transA, transB], [2]), { transA, transB }, 1e-6);
      }
    }
  }
});

Deno.test("matmul, WASM: weights in bf16", () => {
  for (const [transA, transB] of forms) {
    for (const m of [1, 2, 50]) {
      const [a, b] = operands(m, 37, 29, [transA, transB]);
      checkWasm(matmulOp, [a, sample(b.shape, 3, "bf16")], { transA, transB }, 1e-6);
      checkWasm(matmulOp, [sample(a.shape, 4, "bf16"), b], { transA, transB }, 1e-6, {
        ...plain,
        relaxed: false,
      });
    }
  }
});

Deno.test("matmul, WASM: all in bf16, results too", () => {
  const rounding = storingHalves(matmulOp, [0]);
  for (const [transA, transB] of forms) {
    for (const [m, n, k] of [[1, 5, 9], [17, 3, 5], [97, 66, 257], [50, 37, 600]]) {
      for (const relaxed of [true, false]) {
        const halves = operands(m, n, k, [transA, transB], [2]).map(({ shape }, i) =>
          sample(shape, i, "bf16")
        );
        checkWasm(rounding, halves, { transA, transB }, 1e-6, { ...plain, relaxed });
      }
    }
  }
});

Deno.test("matmul, WASM: a BLAS gets halves as f32, and its results are rounded", () => {
  const target = { ...plain, blas: true };
  for (const [transA, transB] of forms) {
    const [a, b] = operands(41, 11, 13, [transA, transB], [2]);
    const halves = [a, b].map(({ shape }, i) => sample(shape, i, "bf16")),
      attrs = { transA, transB };
    for (const inputs of [halves, [a, halves[1]], [halves[0], b]]) {
      for (const op of [matmulOp, storingHalves(matmulOp, [0])]) {
        checkWasm(op, inputs, attrs, 1e-6, target);
        const { lowering } = load(op, inputs, attrs, target)!;
        assert.equal(lowering.jobs.filter((job) => "gemm" in job).length, 2);
      }
    }
  }
});

Deno.test("matmul, WASM: a token has the same bits alone and in a batch of up to 24", () => {
  for (const [m, n, k] of [[5, 70, 99], [2, 9, 3], [24, 12, 38], [23, 5, 256]] as const) {
    for (const dtype of ["f32", "bf16"] as const) {
      const weight = sample([n, k], 5, dtype), rows = sample([m, k], 6);
      const together = load(matmulOp, [rows, weight], { transA: false, transB: true })!;
      together.run();
      for (let row = 0; row < m; row++) {
        const values = rows.values.slice(row * k, row * k + k);
        const one = { shape: [1, k], dtype: "f32" as const, values };
        const alone = load(matmulOp, [one, weight], { transA: false, transB: true })!;
        alone.run();
        assert.deepEqual(alone.outputs[0], together.outputs[0].slice(row * n, row * n + n));
      }
    }
  }
});

Deno.test("matmul, WASM: a BLAS is asked for what it does well", () => {
  const target = { ...plain, blas: true };
  for (const [transA, transB] of forms) {
    checkWasm(
      matmulOp,
      operands(9, 11, 13, [transA, transB], [2]),
      { transA, transB },
      1e-6,
      target,
    );
  }
  const [a, b] = operands(1, 11, 13, [false, true]);
  assert.ok(
    load(matmulOp, [a, b], { transA: false, transB: true }, target)!.lowering.jobs.every((job) =>
      "fn" in job
    ),
  );
});

Deno.test("matmul, WASM: a fused epilogue, in place where it can be", () => {
  const [m, n, k] = [7, 21, 33], dense = { strides: [n, 1], offset: 0 };
  const epilogue: FusedProgram = { // silu(product + bias) + residual, and the product in bf16
    shape: [m, n],
    accesses: [dense, { strides: [0, 1], offset: 0 }, dense],
    steps: [
      { op: "input", input: 0 },
      { op: "input", input: 1 },
      { op: "add", args: [0, 1] },
      { op: "silu", args: [2] },
      { op: "input", input: 2 },
      { op: "add", args: [3, 4] },
    ],
    outputs: [
      { value: 0, extent: "element", spec: { shape: [m, n], dtype: "bf16" } },
      { value: 5, extent: "element", spec: { shape: [m, n], dtype: "f32" } },
    ],
  };
  const rest = [sample([n], 8), sample([m, n], 9)];
  const attrs = { transA: false, transB: true, epilogue };
  const inputs = [...operands(m, n, k, [false, true]), ...rest];
  for (const blas of [false, true]) checkWasm(matmulOp, inputs, attrs, 4e-3, { ...plain, blas });
  assert.deepEqual(load(matmulOp, inputs, attrs)!.lowering.scratchBytes, []);

  const normed: FusedProgram = { // product − its row's largest: reads a row twice, so not in place
    shape: [m, n],
    accesses: [dense],
    steps: [{ op: "input", input: 0 }, { op: "reduce_max", args: [0] }, {
      op: "sub",
      args: [0, 1],
    }],
    outputs: [{ value: 2, extent: "element", spec: { shape: [m, n], dtype: "f32" } }],
  };
  const reducing = { ...attrs, epilogue: normed };
  checkWasm(matmulOp, inputs.slice(0, 2), reducing, 1e-6);
  assert.deepEqual(load(matmulOp, inputs.slice(0, 2), reducing)!.lowering.scratchBytes, [
    4 * m * n,
  ]);
});
