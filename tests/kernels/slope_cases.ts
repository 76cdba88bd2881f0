/**
 * What the slope tests differentiate: the smooth samples of `cases.ts`, and here what that table
 * leaves out or only a graph of several ops shows. Values stay away from kinks and jumps.
 *
 * @module
 */

import { apply, normals, type Op, spec, type Tensor } from "../../core/graph/mod.ts";
import * as k from "../../kernels/mod.ts";
import { type Case, cases, type InputCase, type Values } from "./cases.ts";

export interface SlopeCase {
  readonly name: string;
  readonly inputs: readonly InputCase[];
  /** What is differentiated, in every float input that is not frozen. */
  f(inputs: readonly Tensor[]): Tensor;
  /** Float inputs that are constants for differentiation: tables, token weights. */
  readonly frozen?: readonly number[];
}

const normal: Values = (count, seed) => normals(seed, "slope", count);
/** Of both signs and at least 0.2 away from 0. */
const apart: Values = (count, seed) =>
  normals(seed, "slope", count).map((x) => x + 0.2 * Math.sign(x));
const list = (...values: number[]): Values => (count) =>
  Array.from({ length: count }, (_, i) => values[i % values.length]);

const f32 = (shape: number[], values: Values = normal): InputCase => ({ ...spec(shape), values });
const i32 = (shape: number[], values: Values): InputCase => ({ ...spec(shape, "i32"), values });

type Body = (...inputs: Tensor[]) => Tensor;
const one = (name: string, inputs: InputCase[], f: Body): SlopeCase => ({
  name,
  inputs,
  f: (tensors) => f(...tensors),
});

// Where a table's angles and a loss's weights come from is not differentiated.
const frozenInputs: Readonly<Record<string, readonly number[]>> = { rope: [2, 3] };

/**
 * A case of an op alone. Where an op has several outputs the first is the one that has a gradient.
 */
function ofOp({ name, op, attrs, inputs }: Case): SlopeCase {
  const frozen = frozenInputs[op.name];
  const f = (tensors: readonly Tensor[]) => apply(op, tensors, attrs)[0];
  return frozen ? { name, inputs, f, frozen } : { name, inputs, f };
}

const { less, equal, floor, round_even, sign, where } = k.elementwiseOps;
const steps: SlopeCase[] = [
  ...[less, equal].map((op: Op) =>
    one(`${op.name}, away from its jump`, [f32([3, 5]), f32([5])], (a, b) => apply(op, [a, b])[0])
  ),
  ...[floor, round_even, sign].map((op: Op) =>
    one(`${op.name}, away from its jump`, [f32([3, 5], apart)], (x) => apply(op, [x])[0])
  ),
  one(
    "where, broadcast",
    [f32([3, 1], list(1, -2, 0.5)), f32([3, 5]), f32([5])],
    (a, b, c) => apply(where, [k.add(a, k.fill([3, 5], 0)), b, c])[0],
  ),
  one("where, the other branch", [f32([3, 5]), f32([1, 5])], (b, c) => k.where(0, b, c)),
];

const reductions: SlopeCase[] = [
  ...[1, 3, 65].map((width) => one(`max_last ${width}`, [f32([3, width])], k.maxLast)),
  one("softmax", [f32([2, 3, 7])], k.softmaxLast),
  one("softmax of large logits", [f32([2, 5], list(300, -500, 299, 298.5, 0))], k.softmaxLast),
  one("log-sum-exp", [f32([3, 9])], k.logSumExpLast),
  one("mean of all", [f32([3, 1, 5])], k.meanAll),
  one("mean of rows", [f32([3, 5])], k.meanLast),
  one("sum over two leading axes", [f32([3, 2, 5])], (x) => k.sumLeading(x, 2)),
  ...[[1, 5], [3, 1, 1], [1, 2, 5], [3, 2, 1], [1, 1, 1], [], [2, 5]].map((shape) =>
    one(`expand [${shape}]`, [f32(shape)], (x) => k.expand(x, [3, 2, 5]))
  ),
  one(
    "product broadcast both ways",
    [f32([3, 1, 5]), f32([2, 1])],
    (a, b) => k.mul(k.tanh(a), k.sigmoid(b)),
  ),
];

const moves: SlopeCase[] = [
  one("reshape", [f32([2, 3, 5])], (x) => k.reshape(x, [5, -1])),
  one("permute and slice", [f32([2, 3, 5])], (x) => k.slice(k.permute(x, [2, 0, 1]), -3, 1, 3)),
  one("slice of all", [f32([2, 5])], (x) => k.slice(x, 1, 0, 5)),
  one("cast to bf16 and back", [f32([3, 5])], (x) => k.cast(k.cast(x, "bf16"), "f32")),
  one("cast to f16", [f32([3, 5])], (x) => k.square(k.cast(x, "f16"))),
  one(
    "the same tensor twice",
    [f32([3, 5])],
    (x) => k.concat([x, k.square(x), k.slice(x, 1, 2, 2)], 1),
  ),
  one(
    "uniform numbers are constants",
    [{ ...spec([3], "u32"), values: list(1, 2, 3) }, f32([5])],
    (key, x) => k.mul(k.uniform(key, "dropout", [5]), k.square(x)),
  ),
];

const products: SlopeCase[] = [
  ...[false, true].flatMap((transA) =>
    [false, true].flatMap((transB) =>
      [[], [2], [2, 3]].map((batch) =>
        one(
          `matmul ${transA ? "T" : "N"}${transB ? "T" : "N"} in ${batch.length} batch axes`,
          [
            f32([...batch, ...(transA ? [5, 3] : [3, 5])]),
            f32([...batch, ...(transB ? [7, 5] : [5, 7])]),
          ],
          (a, b) => k.matmul(a, b, { transA, transB }),
        )
      )
    )
  ),
  one("linear over rows of a batch", [f32([2, 3, 5]), f32([4, 5])], k.linear),
  one("a square of a matrix", [f32([5, 5])], (x) => k.matmul(x, x, { transA: true })),
];

const halfOrWhole = [1, 1, 1, 2, 2, 3, 3];
const attention: SlopeCase[] = [true, false].flatMap((causal) =>
  [0, 3].flatMap((window) =>
    [false, true].flatMap((documents) =>
      [[2, 2], [4, 2], [3, 1]].flatMap(([heads, kv]) =>
        [0, 1.5].map((softcap) => {
          const attrs = { causal, window, softcap, scale: softcap > 0 ? 0.7 : 0.5 };
          const marks = [
            causal ? "causal" : "of all",
            `window ${window}`,
            `${heads} heads on ${kv}`,
            `softcap ${softcap}`,
            ...(documents ? ["documents"] : []),
          ];
          return one(
            `attention ${marks.join(", ")}`,
            [
              f32([2, 7, heads, 4]),
              f32([2, 7, kv, 4]),
              f32([2, 7, kv, 4]),
              ...(documents ? [i32([2, 7], list(...halfOrWhole))] : []),
            ],
            (q, keys, v, segments) => k.attention(q, keys, v, segments, attrs),
          );
        })
      )
    )
  )
);

const losses: SlopeCase[] = [false, true].flatMap((weighted) =>
  [0, 0.1].flatMap((label_smoothing) =>
    [0, 2].flatMap((softcap) =>
      [0, 0.01].map((z_loss): SlopeCase => {
        const attrs = { label_smoothing, softcap, z_loss };
        return {
          name: `linear_cross_entropy ${weighted ? "weighted " : ""}${JSON.stringify(attrs)}`,
          inputs: [
            f32([6, 3]),
            f32([7, 3]),
            i32([6], list(3, -100, 0, 6, 7, -1)),
            ...(weighted ? [f32([6], list(0.5, 1, 2, 0))] : []),
          ],
          f: ([x, head, targets, weights]) =>
            k.linearCrossEntropy(x, head, targets, weights, attrs).sum,
          frozen: [3],
        };
      })
    )
  )
);
losses.push(one(
  "a tied table, looked up and as head",
  [f32([7, 3]), i32([2, 3], list(3, 0, 6, 3, 3, 1))],
  (table, ids) =>
    k.linearCrossEntropy(
      k.reshape(k.tanh(k.embedding(table, ids)), [6, 3]),
      table,
      k.reshape(ids, [6]),
    ).sum,
));

/** Rounding passes gradients as if it were not there, which no slope shows. */
export const straightThrough: readonly Op[] = [
  k.elementwiseOps.round_bf16,
  k.elementwiseOps.round_f16,
];

export const slopeCases: readonly SlopeCase[] = [
  ...cases.filter(({ op, rough }) => op.vjp && !rough).map(ofOp),
  ...steps,
  ...reductions,
  ...moves,
  ...products,
  ...attention,
  ...losses,
];
