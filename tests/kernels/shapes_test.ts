import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import {
  apply,
  type Attrs,
  formatSpec,
  type Op,
  placeholder,
  scope,
  ShapeError,
  type Spec,
  spec,
} from "../../core/graph/mod.ts";

interface BadCall {
  readonly op: Op;
  readonly inputs: readonly Spec[];
  readonly attrs?: Attrs;
}

const f32 = (...shape: number[]) => spec(shape);
const i32 = (...shape: number[]) => spec(shape, "i32");
const bad = (op: Op, inputs: readonly Spec[], attrs: Attrs = {}): BadCall => ({
  op,
  inputs,
  attrs,
});

const heads = f32(2, 3, 4, 8), attention = { causal: true, window: 0, scale: 1, softcap: 0 };
const plain = { transA: false, transB: false };
const rope = { rotary_dim: 4, layout: "half", direction: 1 };

const calls: readonly BadCall[] = [
  ...Object.values(k.elementwiseOps).map((op) => {
    const { arity } = k.scalars[op.scalar];
    return bad(op, arity === 1 ? [i32(2, 3)] : [f32(2, 3), f32(4, 3), f32(4, 3)].slice(0, arity));
  }),
  bad(k.castOp, [i32(2, 3)], { dtype: "bf16" }),
  bad(k.expandOp, [f32(2, 3)], { shape: [2, 4] }),
  bad(k.expandOp, [i32(3)], { shape: [2, 3] }),
  bad(k.reshapeOp, [f32(2, 3)], { shape: [4, 2] }),
  bad(k.permuteOp, [f32(2, 3)], { order: [0, 0] }),
  bad(k.sliceOp, [f32(2, 3)], { axis: 1, start: 2, length: 2 }),
  bad(k.concatOp, [f32(2, 3), f32(3, 4)], { axis: 0 }),
  bad(k.sumLastOp, [i32(2, 3)]),
  bad(k.maxLastOp, [f32()]),
  bad(k.sumLeadingOp, [f32(2, 3)], { axes: 3 }),
  bad(k.matmulOp, [f32(2, 3), f32(4, 5)], plain),
  bad(k.matmulOp, [f32(2, 3, 4), f32(3, 4, 5)], plain),
  bad(k.matmulOp, [f32(2, 3), f32(2, 3, 4)], plain),
  bad(k.matmulOp, [f32(2, 3), f32(5, 4)], { transA: false, transB: true }),
  bad(k.matmulOp, [f32(2, 3), f32(3, 4)], { transA: true, transB: false }),
  bad(k.rmsNormOp, [f32(2, 3), f32(4)], { eps: 1e-6 }),
  bad(k.layerNormOp, [f32(2, 3), f32(3), f32(2)], { eps: 1e-6 }),
  bad(k.embeddingOp, [f32(7, 3), f32(2, 5)]),
  bad(k.embeddingOp, [f32(7), i32(2, 5)]),
  bad(k.embeddingOp, [i32(7), i32(2, 5)]),
  bad(k.widenOp, [f32(3, 4), f32(3)], { bits: 8, columns: 16 }),
  bad(k.widenOp, [i32(3, 4), f32(4)], { bits: 8, columns: 16 }),
  bad(k.widenOp, [i32(3, 4), f32(3)], { bits: 8, columns: 17 }),
  bad(k.widenOp, [i32(3, 4), f32(3)], { bits: 1, columns: 16 }),
  bad(k.matmulLevelsOp, [f32(2, 15), i32(3, 4), f32(3)], { bits: 8, columns: 16 }),
  bad(k.matmulLevelsOp, [f32(1, 2, 16), i32(3, 4), f32(3)], { bits: 8, columns: 16 }),
  bad(k.matmulLevelsOp, [f32(2, 16), i32(3, 8), f32(3)], { bits: 8, columns: 16 }),
  bad(k.bigramBucketsOp, [f32(2, 3)], { buckets: 7 }),
  bad(k.bigramBucketsOp, [i32(2, 3)], { buckets: 1 }),
  bad(k.bigramBucketsOp, [i32(2, 3), i32(2, 4)], { buckets: 7 }),
  bad(k.bigramStepOp, [i32(2, 3), i32(2), i32(3)], { buckets: 7 }),
  bad(k.ropeOp, [heads, i32(2, 4), f32(9, 2), f32(9, 2)], rope),
  bad(k.ropeOp, [heads, i32(2, 3), f32(9, 3), f32(9, 3)], rope),
  bad(k.ropeOp, [heads, i32(2, 3), f32(9, 5), f32(9, 5)], { ...rope, rotary_dim: 10 }),
  bad(k.attentionOp, [heads, f32(2, 3, 3, 8), f32(2, 3, 3, 8)], attention),
  bad(k.attentionOp, [heads, f32(2, 3, 2, 8), f32(2, 3, 2, 6)], attention),
  bad(k.attentionOp, [heads, f32(2, 3, 2, 6), f32(2, 3, 2, 6)], attention),
  bad(k.attentionOp, [heads, f32(2, 4, 2, 8), f32(2, 4, 2, 8)], attention),
  bad(k.attentionOp, [heads, heads, heads, i32(3, 2)], attention),
  bad(k.cachedAttentionOp, [heads, f32(2, 9, 2, 8), f32(2, 9, 2, 8), i32(3)], attention),
  bad(k.cacheWriteOp, [f32(2, 9, 4), f32(2, 3, 5), i32(2)]),
  bad(k.cacheWriteOp, [f32(2, 9, 4), f32(2, 3, 4), i32(3)]),
  bad(k.linearCrossEntropyOp, [f32(6, 3), f32(7, 4), i32(6)]),
  bad(k.linearCrossEntropyOp, [f32(6, 3), f32(7, 3), i32(5)]),
  bad(k.linearCrossEntropyOp, [f32(6, 3), f32(7, 3), i32(6), f32(7)]),
  bad(k.linearCrossEntropyGradOp, [f32(6, 3), f32(7, 4), i32(6)]),
  bad(k.globalNormOp, [f32(2), f32(), f32(5)]),
  bad(k.adamWOp, [f32(2, 3), f32(3, 2), f32(2, 3), f32(2, 3), f32(8), f32(2)], { decay: 0 }),
  bad(k.adamWOp, [f32(2, 3), f32(2, 3), f32(2, 3), f32(2, 3), f32(8), f32(2)], { decay: 1 }),
  bad(k.sampleOp, [f32(2, 7), f32(3), f32(4)]),
  bad(k.uniformOp, [f32(3)], { shape: [5] }),
  bad(k.addIntegerOp, [f32(3)], { by: 1 }),
  bad(k.toFloatOp, [f32(3)]),
  bad(k.positionsOp, [i32(2, 3)], { time: 1 }),
  bad(k.uniformOp, [{ shape: [4, 3], dtype: "u32" }], { shape: [5] }),
  bad(k.runningSumOp, [f32(2, 3)]),
  bad(k.runningSumOp, [f32(2, 3, 4), i32(3, 2)]),
  bad(k.causalConvOp, [f32(2, 3, 4), f32(4, 2)], { direction: 1 }),
  bad(k.causalConvOp, [f32(2, 3, 4), f32(2, 4), i32(3, 2)], { direction: 1 }),
  bad(k.causalConvWeightsOp, [f32(2, 3, 4), f32(2, 4, 3)], { taps: 2 }),
  bad(k.unitLowerInverseOp, [f32(2, 3)]),
];

Deno.test("a shape that an op cannot take is refused while tracing, with the op, all operands and the place", () => {
  for (const { op, inputs, attrs } of calls) {
    const operands = inputs.map((input, i) => placeholder(input, `${i}`, "upload"));
    const given = inputs.map(formatSpec).join(" ");
    assert.throws(() => scope("layers.3.mlp", () => apply(op, operands, attrs)), (error) => {
      assert.ok(error instanceof ShapeError, `${op.name} ${given}: ${error}`);
      assert.ok(error.message.startsWith(`${op.name}: `), error.message);
      assert.ok(error.message.endsWith(`(given ${given}) at layers.3.mlp`), error.message);
      return true;
    });
  }
});

// Made by rules and the planner only, from shapes that were checked before; and those that take no
// tensor.
const internal = new Set<Op>([
  k.maxLastGradOp,
  k.attentionGradOp,
  k.rmsNormGradOp,
  k.layerNormGradOp,
  k.embeddingGradOp,
  k.tokenListsOp,
  k.fusedOp,
  k.constantOp,
  k.fillOp,
]);

Deno.test("no op is left out of the shape tests", () => {
  const isOp = (value: unknown): value is Op =>
    typeof value === "object" && value !== null && "check" in value && "name" in value;
  const tested = new Set(calls.map(({ op }) => op));
  const forgotten = Object.values(k).filter(isOp).filter((op) =>
    !tested.has(op) && !internal.has(op)
  );
  assert.deepEqual(forgotten.map(({ name }) => name), []);
});
