import assert from "node:assert/strict";
import { mapTree, sizeOf, type Spec, type Tensor } from "../../../core/graph/mod.ts";
import { namedParams } from "../../../core/model/mod.ts";
import {
  bindOptimizer,
  completeOptimizer,
  evenClock,
  optimizerConfig,
  scalarsOf,
} from "../../../core/optim/mod.ts";
import { bias, gain, matrix, table } from "../../../core/nn/mod.ts";
import { leavesOf, placeholder } from "../../../core/graph/mod.ts";
import { Values } from "../model/tiny.ts";

const dims = {
  hidden_size: 2,
  vocab_size: 3,
  max_position_embeddings: 4,
  depth: 1,
  initializer_range: 1,
  output_initializer_range: 1,
  layer: 0,
};
const described = {
  table: table(3, 2, dims),
  weight: matrix(2, 2, dims),
  gain: gain(2),
  bias: bias(2),
};
const learning_rate = { kind: "constant", peak: 0.1 };

function updated(config: unknown, finite = 1) {
  const parsed = optimizerConfig.parse(config), values = new Values();
  const filled = (value: number) =>
    values.tree<unknown>(
      mapTree(described, ({ shape }: Spec) => ({ shape, dtype: "f32" })),
      ({ shape }) => new Float32Array(sizeOf(shape)).fill(value),
    );
  const vector = (numbers: ArrayLike<number>) => {
    const tensor = placeholder({ shape: [numbers.length], dtype: "f32" }, "x", "upload");
    values.map.set(tensor, numbers);
    return tensor;
  };
  const byPath = (value: number) =>
    Object.fromEntries(
      leavesOf<Tensor>(filled(value)).map(({ path, leaf }) => [path, leaf]),
    );
  const { params } = bindOptimizer(parsed, namedParams(described)).update({
    params: byPath(1),
    grads: byPath(0),
    buffers: { m: byPath(0), v: byPath(0) },
    hyper: vector(scalarsOf(parsed, evenClock(1))(0).hyper),
    gate: vector([1, finite]),
  });
  const paths = Object.keys(params);
  return Object.fromEntries(
    values.run(Object.values(params)).map((x, i) => [paths[i], x[0]]),
  );
}

Deno.test("adamw: a number decays matrices alone; a map decays the roles that it names", () => {
  const close = (found: Record<string, number>, expected: Record<string, number>) => {
    for (const [name, value] of Object.entries(expected)) {
      assert.ok(Math.abs(found[name] - value) < 1e-6, `${name}: ${found[name]}`);
    }
  };
  close(updated({ kind: "adamw", learning_rate, weight_decay: 0.5 }), {
    table: 1,
    weight: 0.95,
    gain: 1,
    bias: 1,
  });
  const weight_decay = { embedding: 1, gain: 0.5 };
  close(updated({ kind: "adamw", learning_rate, weight_decay }), {
    table: 0.9,
    weight: 1,
    gain: 0.95,
    bias: 1,
  });
  const complete = completeOptimizer(optimizerConfig.parse({ kind: "adamw", learning_rate }));
  assert.deepEqual("weight_decay" in complete && complete.weight_decay, {
    matrix: 0.1,
    embedding: 0,
    gain: 0,
    bias: 0,
    router: 0,
  });
});

Deno.test("adamw: nothing moves where the gate says that a gradient is not finite", () => {
  const found = updated({ kind: "adamw", learning_rate, weight_decay: 0.5 }, 0);
  assert.ok(Object.values(found).every((x) => x === 1));
});

Deno.test("adamw: every scalar may be a schedule, also by role; numbers stay what they were", () => {
  const clock = evenClock(10),
    points = (from: number, to: number) => ({
      kind: "points",
      points: [[0, from], ["100%", to]],
    });
  const scalars = scalarsOf(
    optimizerConfig.parse({
      kind: "adamw",
      learning_rate: points(1, 0),
      weight_decay: { matrix: points(0.5, 0), gain: 0.25 },
      max_norm: points(2, 1),
    }),
    clock,
  );
  const { hyper, learningRate, maxNorm } = scalars(5);
  assert.deepEqual([learningRate, maxNorm], [0.5, 1.5]);
  const betas = [1 - 0.9 ** 6, 1 - 0.95 ** 6, 0.9, 1 - 0.9, 0.95, 1 - 0.95];
  assert.deepEqual([...hyper], [0.5, ...betas, 0.25, 0, 0.25, 0, 0]);
});

Deno.test("adamw: with changing betas a moment's weights add up to its bias correction, in any order of asking", () => {
  const beta = { kind: "linear", peak: 0.9, start: 0.5, warmup: 3, end: 0.2 };
  const config = optimizerConfig.parse({ kind: "adamw", learning_rate, beta1: beta, beta2: beta });
  const scalars = scalarsOf(config, evenClock(8)), resumed = scalarsOf(config, evenClock(8));
  let weights = 0; // a moment of gradients that are all 1
  const corrections = Array.from({ length: 8 }, (_, step) => {
    const [, first, second, beta1, rest1] = scalars(step).hyper;
    weights = beta1 * weights + rest1;
    assert.ok(Math.abs(first - weights) < 1e-15 && first === second, `step ${step}`);
    return first;
  });
  for (const step of [5, 6, 2, 7]) assert.equal(resumed(step).hyper[1], corrections[step]);
});
