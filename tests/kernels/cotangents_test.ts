import assert from "node:assert/strict";
import fc from "fast-check";
import { interpret, nodesOf, placeholder, spec, type Tensor } from "../../core/graph/mod.ts";
import { add, gradients, mul, slice, sumAll, sumTo } from "../../kernels/mod.ts";

const width = 7;
const part = fc.tuple(fc.nat(width - 1), fc.integer({ min: 1, max: width }))
  .map(([from, length]) => [from, Math.min(length, width - from)] as const);

/** The gradient of Σ (i + 1) · x[:, part i]. */
function gradientOf(parts: readonly (readonly [number, number])[]): Tensor {
  const x = placeholder(spec([2, width]), "x", "upload");
  const terms = parts.map(([from, length], i) => sumAll(mul(slice(x, 1, from, length), i + 1)));
  return gradients(terms.reduce((sum, term) => add(sum, term)), [x])[0];
}

Deno.test("cotangents: parts of a tensor, overlapping or not, add up where they lie", () => {
  fc.assert(fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
    const [found] = interpret([gradientOf(parts)], new Map());
    const expected = new Array(2 * width).fill(0);
    parts.forEach(([from, length], i) => {
      for (let at = from; at < from + length; at++) {
        for (const row of [0, 1]) expected[row * width + at] += i + 1;
      }
    });
    assert.deepEqual([...found], expected);
  }));
});

Deno.test("cotangents: parts that do not overlap are joined once, without sums and zeros", () => {
  const parts = [[2, 1], [0, 2], [3, 4]] as const;
  const names = nodesOf([gradientOf(parts)]).map(({ op }) => op.name);
  assert.equal(names.filter((name) => name === "concat").length, 1);
  assert.ok(!names.includes("add"));
});

Deno.test("reductions: a short axis in the middle is summed where it lies", () => {
  const x = placeholder(spec([2, 3, 4, 2]), "x", "upload");
  const values = Float32Array.from({ length: 48 }, (_, i) => i * i % 17);
  for (const [shape, axis] of [[[2, 1, 4, 2], 1], [[2, 3, 1, 2], 2]] as const) {
    const [found] = interpret([sumTo(x, shape)], new Map([[x, values]]));
    const inner = axis === 1 ? 8 : 2, n = [0, 3, 4][axis];
    const expected = Array.from({ length: 48 / n }, (_, i) => {
      const first = Math.floor(i / inner) * inner * n + i % inner;
      return Array.from({ length: n }, (_, t) => values[first + t * inner]).reduce((a, b) => a + b);
    });
    assert.deepEqual([...found], expected);
  }
});
