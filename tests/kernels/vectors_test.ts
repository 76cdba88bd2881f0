import assert from "node:assert/strict";
import { packHalves } from "../../core/graph/mod.ts";
import { testVectors } from "../vector_tests.ts";
import { vectorSet } from "../vectors.ts";
import { caseOps } from "./vectors_cases.ts";
import { optimizerCases } from "./vectors_optimizer.ts";

const set = vectorSet(".");

testVectors("golden vectors", set, caseOps, optimizerCases);

Deno.test("golden vectors: the bit patterns of halves", () => {
  const { tensors } = set.read("half_rounding");
  for (const dtype of ["bf16", "f16"] as const) {
    const { values } = tensors.get("in/x")!, bits = tensors.get(`out/${dtype}_bits`)!.values;
    const packed = new Uint16Array(packHalves(dtype, values).buffer, 0, values.length);
    assert.deepEqual([...packed], [...bits]);
  }
});
