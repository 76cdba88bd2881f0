import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import {
  bf16Bits,
  interpret,
  leavesOf,
  mapTree,
  nodesOf,
  normals,
  packHalves,
  philox,
  placeholder,
  remat,
  scope,
  ShapeError,
  stopGradient,
  streamOf,
  type Tensor,
  unitInterval,
  unpackHalves,
} from "../../../core/graph/mod.ts";

const input = (name: string, ...shape: number[]) =>
  placeholder({ shape, dtype: "f32" }, name, "upload");
const hex = (words: number[]) => words.map((w) => w.toString(16).padStart(8, "0")).join(" ");

Deno.test("philox: the known answers of Random123", () => {
  assert.equal(hex(philox(0, 0, 0, 0, 0, 0)), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  const ones = 0xffffffff;
  assert.equal(
    hex(philox(ones, ones, ones, ones, ones, ones)),
    "408f276d 41c83b0e a20bc7c6 6d5451fd",
  );
});

Deno.test("uniform numbers are in (0, 1) at both ends and exact in f32", () => {
  for (const word of [0, 1, 0x7fffffff, 0xffffffff]) {
    const u = unitInterval(word);
    assert(u > 0 && u < 1 && Math.fround(u) === u);
  }
});

Deno.test("normal numbers have mean 0 and deviation 1, and differ by name and seed", () => {
  const x = normals(1, "a", 20000), mean = x.reduce((a, b) => a + b) / x.length;
  const deviation = Math.sqrt(x.reduce((a, b) => a + b * b, 0) / x.length - mean ** 2);
  assert(Math.abs(mean) < 0.03 && Math.abs(deviation - 1) < 0.03); // 4 standard errors
  assert.deepEqual(normals(1, "a", 5), x.slice(0, 5));
  assert.notDeepEqual(normals(1, "b", 5), x.slice(0, 5));
  assert.notDeepEqual(normals(2, "a", 5), x.slice(0, 5));
  assert.notEqual(streamOf("layers.0"), streamOf("layers.1"));
});

Deno.test("halves round to nearest even, keep NaN, and survive packing at odd sizes", () => {
  assert.equal(bf16Bits(1), 0x3f80);
  assert.equal(bf16Bits(1 + 2 ** -8), 0x3f80); // a tie, to even
  assert.equal(bf16Bits(1 + 3 * 2 ** -8), 0x3f82);
  assert((bf16Bits(NaN) & 0x7fff) > 0x7f80);
  for (const dtype of ["bf16", "f16"] as const) {
    const values = [1, -2.5, 0.15625, Infinity, -0];
    assert.deepEqual([...unpackHalves(dtype, packHalves(dtype, values), 5)], values);
  }
});

Deno.test("a shape error names op, shapes and model path, and reaches no kernel", () => {
  const x = input("x", 2, 3), w = input("w", 5, 4);
  assert.throws(
    () => scope("layers.3", () => scope("mlp.up", () => k.linear(x, w))),
    (error: unknown) =>
      error instanceof ShapeError && /matmul/.test(error.message) &&
      /\[2, 3\] \[5, 4\]/.test(error.message) &&
      /at layers\.3\.mlp\.up/.test(error.message),
  );
  assert.throws(() => k.rmsNorm(x, input("g", 4), { eps: 1e-6 }), /one gain for each channel/);
  assert.throws(() => k.add(x, input("y", 2)), ShapeError);
});

Deno.test("the path is left again when a part throws", () => {
  assert.throws(() => scope("broken", () => k.linear(input("x", 2, 3), input("w", 4, 4))));
  assert.equal(k.exp(input("x", 1)).node.path, "");
});

Deno.test("trees keep their keys and order", () => {
  const tree = { a: [input("p", 1), input("q", 2)], b: { c: input("r", 3) } };
  assert.deepEqual(leavesOf(tree).map(({ path }) => path), ["a.0", "a.1", "b.c"]);
  assert.deepEqual(mapTree(tree, (leaf: Tensor) => leaf.shape[0]), { a: [1, 2], b: { c: 3 } });
});

const value = (loss: Tensor, inputs: [Tensor, number[]][], of: Tensor[] = [loss]) =>
  interpret(of, new Map(inputs), { precision: "f64" }).map((x) => [...x]);

Deno.test("a tensor used twice gets the sum of both cotangents", () => {
  const x = input("x", 2), [dx] = k.gradients(k.sumAll(k.mul(x, k.add(x, 3))), [x]);
  assert.deepEqual(value(dx, [[x, [1, 2]]]), [[5, 7]]);
});

Deno.test("stopGradient is a constant; a loss that ignores a leaf gives zeros", () => {
  const x = input("x", 2), y = input("y", 2);
  const [dx, dy] = k.gradients(k.sumAll(k.mul(x, stopGradient(x))), [x, y]);
  assert.deepEqual(value(dx, [[x, [1, 2]], [y, [0, 0]]], [dx, dy]), [[1, 2], [0, 0]]);
});

Deno.test("the same leaf at two places is refused, and so is a loss that is not a scalar", () => {
  const x = input("x", 2);
  assert.throws(() => k.gradients(k.sumAll(x), [x, x]), /two places/);
  assert.throws(() => k.gradients(x, [x]), /only a scalar/);
});

Deno.test("an op without a derivative in the way is named", () => {
  const x = input("x", 1, 2, 1, 4),
    start = placeholder({ shape: [1], dtype: "i32" }, "s", "upload");
  const y = scope("attn", () => k.cachedAttention(x, x, x, start));
  assert.throws(
    () => k.gradients(k.sumAll(y), [x]),
    /cached_attention cannot be differentiated \(at attn\)/,
  );
});

Deno.test("remat: equal gradients, from nodes that are built again", () => {
  const x = input("x", 3), w = input("w", 3);
  const layer = (y: Tensor, p: Tensor) =>
    k.tanh(k.mul(k.rmsNorm(k.mul(y, p), undefined, { eps: 1e-6 }), p));
  const run = (f: typeof layer) => {
    const loss = k.sumAll(f(f(x, w), w));
    return [loss, ...k.gradients(loss, [x, w])];
  };
  const plain = run(layer), rebuilt = run(remat(layer));
  const inputs: [Tensor, number[]][] = [[x, [0.1, -0.2, 0.3]], [w, [0.5, 0.6, -0.7]]];
  assert.deepEqual(value(plain[0], inputs, rebuilt), value(plain[0], inputs, plain));
  const count = (roots: readonly Tensor[]) =>
    nodesOf(roots).filter(({ op }) => op.name === "rms_norm").length;
  assert.equal(count(plain), 2);
  assert.equal(count(rebuilt), 4);
});

Deno.test("element-wise work is done again for the backward pass, unless something else reads it", () => {
  const x = input("x", 3), w = input("w", 3, 3);
  const middle = k.exp(k.mul(x, 2)), read = k.exp(k.neg(middle));
  const loss = k.sumAll(k.square(k.matmul(k.reshape(read, [1, 3]), w)));
  const grads = k.gradients(loss, [x, w]);
  const names = (roots: readonly Tensor[]) =>
    nodesOf(roots).map(({ op }) => op.name).filter((name) => name === "exp" || name === "matmul");
  assert.deepEqual(names([loss]), ["exp", "exp", "matmul"]);
  // `middle` and the product's square are made again, `read` and the product are kept
  assert.deepEqual(names(grads).sort(), ["exp", "exp", "exp", "matmul", "matmul", "matmul"]);
});
