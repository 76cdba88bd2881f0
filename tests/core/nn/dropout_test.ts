import assert from "node:assert/strict";
import { interpret, placeholder, scope, spec, type Tensor } from "../../../core/graph/mod.ts";
import { dropped, gatedDeltaMixer, polyNormMlp } from "../../../core/nn/mod.ts";
import { gradients, mul, sumAll } from "../../../kernels/mod.ts";
import { tinyModel } from "../model/tiny.ts";
import { wave } from "../model/tiny.ts";

const shape = [3, 40, 50], size = 6000;

/** What is dropped of x by keys of three rows, and the gradient of Σ out · weight. */
function run(keys: readonly number[], path = "here") {
  const x = placeholder(spec(shape), "x", "upload"),
    weight = placeholder(spec(shape), "w", "upload");
  const key = placeholder(spec([3, 3], "u32"), "keys", "upload");
  const out = scope(path, () => dropped(x, 0.2, key));
  const values = new Map<Tensor, ArrayLike<number>>([
    [x, wave(size, 1)],
    [weight, wave(size, 2)],
    [key, keys],
  ]);
  const [found, gradient] = interpret([out, ...gradients(sumAll(mul(out, weight)), [x])], values);
  return { found, gradient };
}

const rows = [1, 0, 5, 2, 0, 5, 1, 0, 5];

Deno.test("dropout: a share becomes 0, the rest grow by as much, and gradients pass where numbers did", () => {
  const { found, gradient } = run(rows), x = wave(size, 1), weight = wave(size, 2);
  const zeros = found.filter((y) => y === 0).length / size;
  assert.ok(Math.abs(zeros - 0.2) < 0.02, `${zeros}`); // four standard deviations
  found.forEach((y, i) => {
    const factor = y === 0 ? 0 : 1.25;
    assert.ok(
      Math.abs(y - factor * x[i]) < 1e-6 && Math.abs(gradient[i] - factor * weight[i]) < 1e-6,
    );
  });
});

Deno.test("dropout: a row's key and the place decide, and nothing else; without keys nothing is dropped", () => {
  const isZero = (path?: string, keys = rows) => run(keys, path).found.map((y) => +(y === 0));
  const here = isZero(),
    [first, second, third] = [0, 1, 2].map((row) => here.slice(row * 2000, (row + 1) * 2000));
  assert.deepEqual(first, third);
  assert.notDeepEqual(first, second);
  assert.deepEqual(here, isZero());
  assert.notDeepEqual(here, isZero("there"));
  const x = placeholder(spec(shape), "x", "upload");
  assert.equal(dropped(x, 0.2, undefined), x);
});

Deno.test("dropout: parts draw in training alone where they drop; a branch's dropout counts; drawing always beside it is refused", () => {
  const mlp = { kind: "polynorm", intermediate_size: 8 }, dropping = { ...mlp, dropout: 0.1 };
  const mixer = { kind: "gated_delta", num_key_heads: 1, key_head_dim: 4, value_head_dim: 4 };
  const model = (...blocks: unknown[]) => tinyModel({ hidden_size: 8, blocks });
  assert.equal(model({ mixer, mlp }).noise, "never");
  assert.equal(model({ mixer, mlp: dropping }).noise, "training");
  assert.equal(model({ mixer: { ...mixer, dropout: 0.5 }, mlp }).noise, "training");
  const branches = { kind: "polymorphic", branches: [mlp, dropping] };
  assert.equal(model({ mixer, mlp: branches }).noise, "training");
  const always = { kind: "polyglu", intermediate_size: 8, routing_noise: "always" };
  assert.throws(
    () => model({ mixer, mlp: dropping }, { mixer, mlp: always }),
    /draw random numbers always/,
  );
  for (const part of [gatedDeltaMixer.config, polyNormMlp.config]) {
    const config = part === polyNormMlp.config ? mlp : mixer;
    assert.ok(!part.safeParse({ ...config, dropout: 1 }).success);
  }
});
