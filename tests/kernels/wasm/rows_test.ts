/** The row kernels in WASM against the plain loops in doubles, for odd sizes and splits. */

import {
  layerNormGradOp,
  layerNormOp,
  rmsNormGradOp,
  rmsNormOp,
  sumLeadingOp,
} from "../../../kernels/mod.ts";
import { checkWasm, sample } from "./harness.ts";

const sizes = [1, 3, 17, 65, 257];

// Row sums round to about 1e-6 of their terms; gradients of gains are sums of hundreds of signs that partly cancel.
const rowTolerance = 5e-6, columnTolerance = 2e-5;

Deno.test("norms: forward and backward, with and without gain", () => {
  const attrs = { eps: 1e-6 };
  for (const n of sizes) {
    for (const rows of [1, 5, 65]) {
      const x = sample([rows, n], 1), dy = sample([rows, n], 2), gain = sample([n], 3);
      const bias = sample([n], 4);
      checkWasm(rmsNormOp, [x], attrs, rowTolerance);
      checkWasm(rmsNormOp, [x, gain], attrs, rowTolerance);
      if (n === 1) continue; // of one channel eps alone is left: differences that cancel, on both sides
      checkWasm(rmsNormGradOp, [x, dy], attrs, rowTolerance);
      checkWasm(rmsNormGradOp, [x, dy, gain], attrs, columnTolerance);
      checkWasm(layerNormOp, [x], attrs, rowTolerance);
      checkWasm(layerNormOp, [x, gain], attrs, rowTolerance);
      checkWasm(layerNormOp, [x, gain, bias], attrs, rowTolerance);
      checkWasm(layerNormGradOp, [x, dy], attrs, columnTolerance);
      checkWasm(layerNormGradOp, [x, dy, gain], attrs, columnTolerance);
    }
  }
  checkWasm(rmsNormOp, [sample([2, 3, 64], 1, "bf16"), sample([64], 2, "bf16")], attrs, 5e-6);
});

Deno.test("sum_leading: few and many rows and columns", () => {
  for (const shape of [[3, 5], [300, 1], [300, 3], [257, 17], [1000, 65], [2, 5001], [50, 4100]]) {
    checkWasm(sumLeadingOp, [sample(shape, 1)], { axes: 1 }, columnTolerance);
    checkWasm(sumLeadingOp, [sample(shape, 1, "bf16")], { axes: 1 }, columnTolerance);
  }
  checkWasm(sumLeadingOp, [sample([7, 9, 33], 1)], { axes: 2 }, columnTolerance);
});
