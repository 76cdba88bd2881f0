import assert from "node:assert/strict";
import {
  interpret,
  nodesOf,
  type Numbers,
  placeholder,
  sizeOf,
  spec,
  type Tensor,
} from "../../../core/graph/mod.ts";
import { gatedDeltaMixer, type StepContext, type TensorTree } from "../../../core/nn/mod.ts";
import { initialValues, namedParams } from "../../../core/model/mod.ts";
import { concat, fill, inPrecision, slice } from "../../../kernels/mod.ts";
import { Values, wave } from "../model/tiny.ts";
import { checkClose } from "../../vectors.ts";

const dims = {
  hidden_size: 6,
  vocab_size: 1,
  max_position_embeddings: 1,
  depth: 1,
  initializer_range: 0.5,
  output_initializer_range: 0.5,
  layer: 0,
};
const config = gatedDeltaMixer.config.parse({
  kind: "gated_delta",
  num_key_heads: 2,
  num_value_heads: 4,
  key_head_dim: 3,
  value_head_dim: 2,
});
const part = gatedDeltaMixer.bind(config, dims);

function weights(values: Values): TensorTree {
  return values.tree<TensorTree>(part.params, (_, path) => {
    const param = namedParams(part.params).find((param) => param.path === path)!;
    return initialValues(param, 3);
  });
}

const rest = {
  positions: fill([], 0),
  scalars: {},
  noise: undefined,
  streams: {},
  isReplay: false,
};

/** A row through steps of these lengths, each with padding behind; and all at once. */
function inParts(parts: readonly number[], padding: number): { whole: Numbers; found: Numbers } {
  const values = new Values(), params = weights(values), time = parts.reduce((a, b) => a + b);
  const x = placeholder(spec([1, time, 6]), "x", "upload");
  values.map.set(x, wave(time * 6, 2).map((v) => 2 * v));
  const ids = (length: number) => values.integers([new Array(length).fill(0)]);
  const whole = part.apply(params, x, { ...rest, ids: ids(time), segment_ids: undefined }).out;
  let state = values.tree<TensorTree>(
    part.state({ batch: 1, capacity: time }),
    ({ shape }) => new Float32Array(sizeOf(shape)).fill(NaN),
  );
  const outs: Tensor[] = [];
  let done = 0;
  for (const length of parts) {
    const own = slice(x, 1, done, length);
    const context: StepContext = {
      ...rest,
      ids: ids(length + padding),
      start: values.vector([done]),
      lengths: padding > 0 ? values.vector([length]) : undefined,
    };
    const given = padding > 0 ? concat([own, fill([1, padding, 6], 100)], 1) : own;
    const stepped = part.step(params, given, context, state);
    outs.push(slice(stepped.out, 1, 0, length));
    state = stepped.state;
    done += length;
  }
  const [expected, ...found] = interpret([whole, ...outs], values.map, { precision: "f64" });
  return { whole: expected, found: Float64Array.from(found.flatMap((out) => [...out])) };
}

Deno.test("replay: huggingface/transformers 46190: a full pass is prefill and decoding, in any parts, and padding leaves no trace", () => {
  for (const time of [1, 63, 64, 65, 200]) {
    const half = Math.floor(time / 2), split = half > 0 ? [half, time - half] : [time];
    const last = time > 1 ? [time - 1, 1] : [time];
    for (const parts of [[time], last, split, [...split, 1, 1]]) {
      for (const padding of [0, 5]) {
        const { whole, found } = inParts(parts, padding);
        // double precision; sums of some hundred terms
        checkClose(`parts of ${parts}, padding ${padding}`, found, whole, 1e-11, 1e-11);
      }
    }
  }
});

Deno.test("gated delta: the rule is f32 where all else is trained in bf16", () => {
  const values = new Values(), params = weights(values), ids = values.integers([[0, 0, 0]]);
  const x = placeholder(spec([1, 3, 6]), "x", "upload");
  const { out } = inPrecision(
    "bf16",
    () => part.apply(params, x, { ...rest, ids, segment_ids: undefined }),
  );
  const nodes = nodesOf([out]), rule = nodes.filter(({ path }) => path.includes("rule"));
  assert.ok(rule.some(({ op }) => op.name === "matmul"));
  for (const { op, outputs } of rule) assert.equal(outputs[0].dtype, "f32", op.name);
  assert.ok(nodes.some(({ path, outputs }) => path.includes("qkv") && outputs[0].dtype === "bf16"));
});

Deno.test("gated delta: decays begin as ln u with u below 16, their bias with 1, the convolution within half", () => {
  const wide = gatedDeltaMixer.bind({ ...config, num_key_heads: 200, num_value_heads: 400 }, dims);
  const first = Object.fromEntries(
    namedParams(wide.params).map((param) => [param.path, initialValues(param, 1)]),
  );
  const decays = first.A_log.map(Math.exp), mean = decays.reduce((a, b) => a + b) / decays.length;
  assert.ok(decays.every((x) => x > 0 && x < 16) && Math.abs(mean - 8) < 0.7, `${mean}`);
  assert.ok(first.dt_bias.every((x) => x === 1) && first.norm.every((x) => x === 1));
  const taps = first.conv, square = taps.reduce((sum, x) => sum + x * x, 0) / taps.length;
  assert.ok(taps.every((x) => Math.abs(x) < 0.5) && Math.abs(square * 12 - 1) < 0.05, `${square}`);
});

Deno.test("gated delta: value heads that key heads cannot serve evenly are refused", () => {
  const { error } = gatedDeltaMixer.config.safeParse({ ...config, num_value_heads: 5 });
  assert.match(error!.message, /2 key heads cannot serve 5 value heads evenly/);
});
