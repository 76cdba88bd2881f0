/** Samples of matrix products, attention and the loss head. */

import type { Dtype } from "../../../core/graph/mod.ts";
import * as k from "../../../kernels/mod.ts";
import { type Case, f32, i32, inHalves, list, spread, stored, SUM } from "./case.ts";

const product = (
  name: string,
  [m, n, depth]: [number, number, number],
  [transA, transB]: [boolean, boolean],
  batch: number[] = [],
  dtypes: [Dtype, Dtype] = ["f32", "f32"],
): Case => ({
  name: `matmul ${name} ${[...batch, m, n, depth].join("×")}`,
  op: k.matmulOp,
  attrs: { transA, transB },
  inputs: [
    stored(dtypes[0], [...batch, ...(transA ? [depth, m] : [m, depth])]),
    stored(dtypes[1], [...batch, ...(transB ? [n, depth] : [depth, n])]),
  ],
  tolerance: SUM,
  rough: dtypes.some((dtype) => dtype !== "f32"),
});
const layouts: [string, [boolean, boolean]][] = [
  ["NN", [false, false]],
  ["NT", [false, true]],
  ["TN", [true, false]],
  ["TT", [true, true]],
];
export const products: Case[] = [
  ...layouts.flatMap(([name, trans]) => [
    product(name, [1, 1, 1], trans),
    product(name, [1, 65, 33], trans),
    product(name, [17, 3, 65], trans),
    product(name, [65, 66, 17], trans, [2]),
    ...([[17, 3, 65], [65, 66, 17]] as const).map((sizes) =>
      inHalves(product(name, [...sizes], trans, [2]), [0, 1], [0])
    ),
    product(`${name} bf16`, [5, 17, 33], trans, [], ["f32", "bf16"]),
  ]),
];

const heads = (
  name: string,
  [batch, time, q, kv, width]: [number, number, number, number, number],
  attrs: Partial<k.AttentionAttrs> = {},
  segments = false,
): Case => ({
  name: `attention ${name}`,
  op: k.attentionOp,
  attrs: { causal: true, window: 0, scale: 1 / Math.sqrt(width), softcap: 0, ...attrs },
  inputs: [
    f32([batch, time, q, width]),
    f32([batch, time, kv, width]),
    f32([batch, time, kv, width]),
    ...(segments
      ? [i32([batch, time], (count) => Int32Array.from({ length: count }, (_, i) => i >> 2))]
      : []),
  ],
  tolerance: SUM,
});
export const attention: Case[] = [
  heads("one token", [1, 1, 1, 1, 4]),
  heads("causal", [2, 17, 2, 2, 8]),
  heads("of all", [1, 5, 2, 1, 8], { causal: false }),
  heads("grouped, window", [1, 33, 4, 2, 16], { window: 7 }),
  heads("softcap", [1, 9, 1, 1, 32], { softcap: 2 }),
  heads("documents", [2, 11, 2, 1, 8], {}, true),
];
// The gradient's loop takes any output and log-sum-exp, so these need not be the forward pass's
// own.
export const headsGrad = (sample: Case): Case => {
  const [q, k0, v, ...segments] = sample.inputs, [batch, time, count] = q.shape;
  const lse = f32([batch, count, time], spread(1, 3));
  return {
    ...sample,
    name: `gradient of ${sample.name}`,
    op: k.attentionGradOp,
    inputs: [q, k0, v, f32([...q.shape]), lse, f32([...q.shape]), ...segments],
    rough: true, // has no gradient of its own
  };
};

/** As in training: all but the log-sum-exp is bf16. */
export const attentionHalves: Case[] = [
  ...attention.slice(3).map((sample) => inHalves(sample, [0, 1, 2], [0])),
  ...attention.slice(3).map(headsGrad).map((sample) =>
    inHalves(sample, [0, 1, 2, 3, 5], [0, 1, 2])
  ),
];

const cached = (
  name: string,
  [time, q, kv, width, capacity]: [number, number, number, number, number],
  start: number[],
  attrs: Partial<k.AttentionAttrs> = {},
): Case => ({
  name: `cached attention ${name}`,
  op: k.cachedAttentionOp,
  attrs: { causal: true, window: 0, scale: 1 / Math.sqrt(width), softcap: 0, ...attrs },
  inputs: [
    f32([start.length, time, q, width]),
    f32([start.length, capacity, kv, width]),
    f32([start.length, capacity, kv, width]),
    i32([start.length], list(...start)),
  ],
  tolerance: SUM,
  rough: true,
});
export const decoding: Case[] = [
  cached("of one token", [1, 2, 1, 16, 300], [0, 270]),
  cached("of several", [3, 4, 2, 33, 65], [0, 62]),
  cached("with a window and a softcap", [2, 1, 1, 8, 40], [20], { window: 5, softcap: 2 }),
];

const head = (
  name: string,
  [tokens, width, vocab]: [number, number, number],
  attrs: Partial<k.CrossEntropyAttrs> = {},
  weighted = false,
): Case[] =>
  [k.linearCrossEntropyOp, k.linearCrossEntropyGradOp].map((op, i) => ({
    name: `${i === 0 ? "" : "gradient of "}linear cross-entropy ${name}`,
    op,
    attrs: { softcap: 0, label_smoothing: 0, z_loss: 0, ...attrs },
    inputs: [
      f32([tokens, width]),
      f32([vocab, width]),
      i32([tokens], list(0, vocab - 1, k.IGNORE, 1, vocab)),
      ...(weighted ? [f32([tokens], list(1, 0, 0.5))] : []),
    ],
    tolerance: SUM,
    rough: true, // only the sum of losses has a gradient
  }));
export const lossHeads: Case[] = [
  ...head("of one token", [1, 3, 2]),
  ...head("of odd sizes", [17, 33, 257]),
  ...head("of odd sizes", [17, 33, 257]).map((sample) => inHalves(sample, [0, 1], [])),
  ...head("with token weights", [9, 8, 64], {}, true),
  ...head("with all options", [5, 4, 17], { softcap: 3, label_smoothing: 0.1, z_loss: 0.01 }, true),
];
