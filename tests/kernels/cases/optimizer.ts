/** Samples of the optimizer's kernels and of sampling. */

import * as k from "../../../kernels/mod.ts";
import { type Case, f32, list, ONE, positive, spread, SUM } from "./case.ts";

export const optimizer: Case[] = [
  ...([[1, 0], [1, 1], [12, 0.5]] as const).map(([count, max_norm]): Case => ({
    name: `global_norm of ${count}, at most ${max_norm}`,
    op: k.globalNormOp,
    attrs: {},
    inputs: [
      f32([], list(count)),
      f32([], list(max_norm)),
      ...[1, 3, 65, 5000, 2, 9, 17, 4, 300].map((n) => f32([n])),
    ],
    tolerance: SUM,
    rough: true,
  })),
  ...[Infinity, NaN].map((bad): Case => ({
    name: `global_norm with ${bad}`,
    op: k.globalNormOp,
    attrs: {},
    inputs: [f32([], list(1)), f32([], list(1)), f32([9]), f32([3], list(1, bad, 2))],
    tolerance: SUM,
    rough: true,
  })),
  ...([[0.5, 1], [0, 0]] as const).map((gate): Case => ({
    name: `adamw, gate ${gate}`,
    op: k.adamWOp,
    attrs: { eps: 1e-8, decay: 1 },
    inputs: [
      f32([3, 100]),
      f32([3, 100]),
      f32([3, 100]),
      f32([3, 100], positive),
      f32([9], list(1e-2, 0.1, 0.05, 0.9, 0.1, 0.95, 0.05, 7, 0.1)),
      f32([2], list(...gate)),
    ],
    tolerance: ONE,
    rough: true,
  })),
];

const settings: [string, ...number[]][] = [
  ["greedy", 0, 0, 1, 0],
  ["plain", 1, 0, 1, 0],
  ["cold", 0.3, 0, 1, 0],
  ["top-k", 1, 5, 1, 0],
  ["top-k beyond the vocabulary", 1, 5000, 1, 0],
  ["top-p", 1, 0, 0.7, 0],
  ["top-p of nearly all", 0.8, 0, 0.999, 0],
  ["both", 1.3, 40, 0.5, 0],
  ["min-p", 1, 0, 1, 0.05],
  ["all", 1.3, 40, 0.9, 0.2],
];
export const sampling: Case[] = settings.flatMap(([name, ...values]): Case[] =>
  [1, 17, 700].map((vocab) => ({
    name: `sample ${name}, of ${vocab}`,
    op: k.sampleOp,
    attrs: {},
    inputs: [
      f32([5, vocab], spread(-4, 9)),
      f32([5], list(0.03, 0.35, 0.5, 0.81, 0.99)),
      f32([4], list(...values)),
    ],
    tolerance: SUM,
    rough: true,
  }))
);
sampling.push({
  name: "sample among equals",
  op: k.sampleOp,
  attrs: {},
  inputs: [
    f32([3, 9], list(0, 1, 1, -1, -0, 1, 0)),
    f32([3], list(0.2, 0.5, 0.9)),
    f32([4], list(1, 2, 0.9, 0)),
  ],
  tolerance: SUM,
  rough: true,
});
