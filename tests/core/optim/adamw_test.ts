import assert from "node:assert/strict";
import { mapTree, sizeOf, type Spec } from "../../../core/graph/mod.ts";
import { adamWConfig, adamWUpdate, decayTable, hyperAt } from "../../../core/optim/mod.ts";
import { bias, gain, matrix, table } from "../../../core/nn/mod.ts";
import { leavesOf, placeholder } from "../../../core/graph/mod.ts";
import { Values } from "../model/tiny.ts";

const dims = {
  hidden_size: 2,
  vocab_size: 3,
  max_position_embeddings: 4,
  depth: 1,
  initializer_range: 1,
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
  const parsed = adamWConfig.parse(config), values = new Values();
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
  const { params } = adamWUpdate(described, {
    params: filled(1),
    grads: filled(0),
    moments: { m: filled(0), v: filled(0) },
    hyper: vector(hyperAt(parsed, 0.1, 0)),
    gate: vector([1, finite]),
  }, parsed);
  const found = leavesOf<never>(params);
  return Object.fromEntries(
    values.run(found.map(({ leaf }) => leaf)).map((x, i) => [found[i].path, x[0]]),
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
  assert.deepEqual(decayTable(adamWConfig.parse({ kind: "adamw", learning_rate })), {
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
