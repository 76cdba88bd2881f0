import assert from "node:assert/strict";
import { interpret, placeholder, ShapeError, type Tensor } from "../../../core/graph/mod.ts";
import {
  attention,
  type BoundPart,
  type Dims,
  geluMlp,
  layerNormPart,
  type RowContext,
  swiglu,
  type TensorTree,
} from "../../../core/nn/mod.ts";
import { Values, wave } from "../model/tiny.ts";
import { sizeOf } from "../../../core/graph/mod.ts";

const dims: Dims = {
  hidden_size: 8,
  vocab_size: 11,
  max_position_embeddings: 16,
  depth: 2,
  initializer_range: 0.02,
  output_initializer_range: 0.01,
  layer: 0,
};

/** What rows at these positions tell a part. */
const at = (positions: Tensor): RowContext => ({
  ids: positions,
  positions,
  segment_ids: undefined,
  scalars: {},
  noise: undefined,
  streams: {},
  isReplay: false,
});

/** A part on rows of `time` tokens: its output for inputs where one token may be changed. */
function runner(part: BoundPart, time: number) {
  const values = new Values();
  const params = values.tree<TensorTree>(
    part.params,
    ({ shape }, path) => wave(sizeOf(shape), path.length).map((x) => 0.3 * x), // attention must not be certain
  );
  const x = placeholder({ shape: [1, time, 8], dtype: "f32" }, "x", "upload");
  const positions = values.integers([Array.from({ length: time }, (_, t) => t)]);
  const { out } = part.apply(params, x, at(positions));
  return (changed?: number): number[][] => {
    const input = wave(time * 8, 0);
    if (changed !== undefined) input.fill(3, changed * 8, changed * 8 + 8);
    const [y] = interpret([out], new Map<Tensor, ArrayLike<number>>([...values.map, [x, input]]));
    return Array.from({ length: time }, (_, t) => Array.from(y.subarray(t * 8, t * 8 + 8)));
  };
}

/** Which tokens' outputs depend on token `from`. */
function reached(part: BoundPart, time: number, from: number): number[] {
  const run = runner(part, time), before = run(), after = run(from);
  return before.flatMap((row, t) => row.every((y, i) => y === after[t][i]) ? [] : [t]);
}

const attentionWith = (options: Record<string, unknown>) =>
  attention.bind(
    attention.config.parse({ kind: "attention", num_attention_heads: 2, ...options }),
    dims,
  );

Deno.test("attention: later tokens see a token, earlier ones do not; a window ends that", () => {
  assert.deepEqual(reached(attentionWith({}), 6, 2), [2, 3, 4, 5]);
  assert.deepEqual(reached(attentionWith({ window: 2 }), 6, 2), [2, 3]);
});

Deno.test("attention: without rotary channels the order of what was seen does not matter", () => {
  // token 0 and 1 exchanged: the last output stays, unless positions turn
  const difference = (options: Record<string, unknown>) => {
    const part = attentionWith(options), values = new Values();
    const params = values.tree<TensorTree>(part.params, ({ shape }) => wave(sizeOf(shape), 1));
    const x = placeholder({ shape: [1, 3, 8], dtype: "f32" }, "x", "upload");
    const { out } = part.apply(params, x, at(values.integers([[0, 1, 2]])));
    const rows = [0, 1, 2].map((t) => wave(8, 5 * t));
    const [a, b] = [[0, 1, 2], [1, 0, 2]].map((order) => {
      const input = order.flatMap((t) => Array.from(rows[t]));
      return interpret([out], new Map<Tensor, ArrayLike<number>>([...values.map, [x, input]]))[0];
    });
    return Math.max(...[...Array(8).keys()].map((i) => Math.abs(a[16 + i] - b[16 + i])));
  };
  assert.ok(difference({ partial_rotary_factor: 0 }) < 1e-6);
  assert.ok(difference({ partial_rotary_factor: 0.5 }) > 1e-3);
  assert.ok(difference({}) > 1e-3);
});

Deno.test("mlps and norms look at each position alone, and step as they apply", () => {
  const parts = [
    swiglu.bind({ kind: "swiglu", intermediate_size: 12 }, dims),
    geluMlp.bind({ kind: "gelu", intermediate_size: 12 }, dims),
    layerNormPart.bind(layerNormPart.config.parse({ kind: "layer_norm" }), dims),
  ];
  for (const part of parts) {
    assert.deepEqual(reached(part, 4, 1), [1]);
    assert.deepEqual(part.state({ batch: 1, capacity: 4 }), {});
  }
});

Deno.test("parts: an input of another width is refused with the part's place", () => {
  const part = swiglu.bind({ kind: "swiglu", intermediate_size: 12 }, dims), values = new Values();
  const params = values.tree<TensorTree>(part.params, () => []);
  const x = placeholder({ shape: [1, 2, 9], dtype: "f32" }, "x", "upload");
  const positions = values.integers([[0, 1]]);
  assert.throws(
    () => part.apply(params, x, at(positions)),
    (error) => error instanceof ShapeError && /inner sizes 9 and 8.* at gate/.test(error.message),
  );
});
