import assert from "node:assert/strict";
import { ShapeError, type Tensor } from "../../../core/graph/mod.ts";
import {
  bindOptimizer,
  evenClock,
  optimizerConfig,
  type OptimizerParam,
  scalarsOf,
} from "../../../core/optim/mod.ts";
import { Values } from "../model/tiny.ts";

const params: OptimizerParam[] = [
  { path: "layers.0.mlp.up", shape: [2], role: "matrix" },
  { path: "layers.0.mlp.router.out", shape: [2], role: "router" },
  { path: "norm.gain", shape: [2], role: "gain" },
];

const adamw = { kind: "adamw", learning_rate: 0.1, weight_decay: 0.5 };
const freeze = [
  { except: ["*.router.*"], until: "30%" },
  { params: ["norm.*", "*.up"], until: 5 },
];

for (
  const [name, form] of Object.entries({
    "one optimizer": adamw,
    "groups": {
      groups: [{ ...adamw, roles: ["router"] }, {
        kind: "ademamix",
        learning_rate: 0.1,
      }],
    },
  })
) {
  Deno.test(`freeze: weights and moments rest until their time, and are no part of the norm: ${name}`, () => {
    const config = optimizerConfig.parse({ ...form, freeze });
    const optimizer = bindOptimizer(config, params), scalars = scalarsOf(config, evenClock(20));
    const after = (step: number) => {
      const values = new Values();
      const vector = (numbers: ArrayLike<number>) =>
        values.tensor({ shape: [numbers.length], dtype: "f32" }, numbers);
      const each = (first: number) =>
        Object.fromEntries(params.map(({ path }, i) => [path, vector([first + i, 1])]));
      const hyper = vector(scalars(step).hyper), grads = each(3);
      const buffers = Object.fromEntries(
        Object.entries(optimizer.buffers).map(([buffer, of]) => [
          buffer,
          Object.fromEntries(Object.keys(of).map((path) => [path, vector([0.5, 0.5])])),
        ]),
      );
      const next = optimizer.update({
        params: each(1),
        grads,
        buffers,
        hyper,
        gate: vector([1, 1]),
      });
      const trained = optimizer.trained(grads, hyper);
      const read = (tensor: Tensor) => [...values.run([tensor])[0]];
      return params.filter(({ path }, i) => {
        const kept = Object.values(next.buffers).flatMap((of) => of[path] ? read(of[path]) : []);
        const isNorm = read(trained[path]).some((x) => x !== 0);
        const isMoved = read(next.params[path])[0] !== 1 + i;
        assert.deepEqual([isMoved, kept.some((x) => x !== 0.5)], [isNorm, isNorm], path);
        return isMoved;
      }).map(({ path }) => path);
    };
    assert.deepEqual([0, 5, 6].map(after), [
      ["layers.0.mlp.router.out"],
      ["layers.0.mlp.router.out"],
      params.map(({ path }) => path),
    ]);
  });
}

Deno.test("freeze: an entry that fits no parameter is refused", () => {
  const config = optimizerConfig.parse({
    ...adamw,
    freeze: [{ params: ["*.routre.*"], until: 5 }],
  });
  assert.throws(() => bindOptimizer(config, params), (error) => {
    assert.ok(error instanceof ShapeError);
    assert.match(error.message, /freeze\.0 \(\*\.routre\.\*\) fits no parameter/);
    return true;
  });
});
