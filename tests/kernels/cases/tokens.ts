/** Samples of positions, tables, caches and random numbers. */

import * as k from "../../../kernels/mod.ts";
import {
  type Case,
  f32,
  i32,
  inHalves,
  type InputCase,
  list,
  normal,
  ONE,
  spread,
  stored,
  SUM,
} from "./case.ts";

const tables = (positions: number, half: number): InputCase[] => [
  f32([positions, half], spread(-1, 1)),
  f32([positions, half], spread(-1, 1)),
];
/** Runs of equal ids. */
const segments = list(1, 1, 2, 2, 2, 3, 4, 4);

const ropes = (["half", "interleaved"] as const).flatMap((layout): Case[] =>
  ([1, -1] as const).flatMap((direction) =>
    [2, 4, 6].map((rotary_dim) => ({
      name: `rope ${layout}, ${rotary_dim} of 6, direction ${direction}`,
      op: k.ropeOp,
      attrs: { rotary_dim, layout, direction },
      inputs: [
        f32([2, 3, 5, 6]),
        i32([2, 3], list(0, 3, 8, -1, 2, 99)),
        ...tables(9, rotary_dim / 2),
      ],
      tolerance: ONE,
    }))
  )
);
export const others: Case[] = [
  ...ropes,
  ...ropes.map((sample) => inHalves(sample, [0], [0])),
  ...ropes.map((sample) => inHalves(sample, [0], [])),
  ...(["f32", "bf16", "f16"] as const).map((dtype): Case => ({
    name: `embedding of ${dtype}`,
    op: k.embeddingOp,
    attrs: {},
    inputs: [stored(dtype, [7, 5]), i32([2, 3], list(0, 6, 3, -1, 7, 3))],
    tolerance: 0,
    rough: dtype !== "f32",
  })),
  {
    name: "embedding of i32",
    op: k.embeddingOp,
    attrs: {},
    inputs: [i32([7, 2], list(0, -5, 16777217, 3)), i32([2, 3], list(0, 6, 3, -1, 7, 3))],
    tolerance: 0,
    rough: true,
  },
  {
    name: "embedding_grad",
    op: k.embeddingGradOp,
    attrs: { rows: 4 },
    inputs: [f32([5, 300]), i32([5], list(0, 2, 2, 5, 5)), i32([5], list(1, 4, 0, 2, 3))],
    tolerance: ONE,
  },
  {
    name: "positions",
    op: k.positionsOp,
    attrs: { time: 3 },
    inputs: [i32([2], list(5, -2))],
    tolerance: 0,
    rough: true,
  },
  ...([1, -3] as const).flatMap((by): Case[] =>
    (["i32", "u32"] as const).map((dtype) => ({
      name: `add_integer ${dtype} ${by}`,
      op: k.addIntegerOp,
      attrs: { by },
      inputs: [{
        shape: [5],
        dtype,
        values: dtype === "i32" ? list(0, 7, -9, 2 ** 31 - 9) : list(4, 7, 2 ** 32 - 9),
      }],
      tolerance: 0,
      rough: true,
    }))
  ),
  {
    name: "to_float",
    op: k.toFloatOp,
    attrs: {},
    inputs: [i32([5], list(0, 7, -9, 16777215, -(2 ** 31)))],
    tolerance: 0,
    rough: true,
  },
  ...[[1, 1, 1], [2, 5, 3], [1, 17, 65], [3, 2, 257]].flatMap(([batch, time, channels]): Case[] =>
    [undefined, segments].flatMap((ids) =>
      [false, true].map((reverse) => ({
        name: `running_sum [${batch}, ${time}, ${channels}]${ids ? ", segments" : ""}${
          reverse ? ", reverse" : ""
        }`,
        op: k.runningSumOp,
        attrs: { reverse },
        inputs: [f32([batch, time, channels]), ...(ids ? [i32([batch, time], ids)] : [])],
        tolerance: ONE * 10, // 17 terms one after another
      }))
    )
  ),
  ...[[1, 1, 1, 1], [2, 5, 3, 3], [1, 300, 5, 4], [2, 9, 65, 2], [1, 3, 4, 7]].flatMap(
    ([batch, time, channels, taps]): Case[] =>
      [undefined, segments].flatMap((ids) => {
        const rows = f32([batch, time, channels]), seen = ids ? [i32([batch, time], ids)] : [];
        const name = `[${batch}, ${time}, ${channels}], ${taps} taps${ids ? ", segments" : ""}`;
        return [
          ...[1, -1].map((direction) => ({
            name: `causal_conv ${name}, direction ${direction}`,
            op: k.causalConvOp,
            attrs: { direction },
            inputs: [rows, f32([taps, channels]), ...seen],
            tolerance: ONE * 5,
          })),
          {
            name: `causal_conv_weights ${name}`,
            op: k.causalConvWeightsOp,
            attrs: { taps },
            inputs: [rows, f32([batch, time, channels]), ...seen],
            tolerance: SUM,
            rough: true, // a gradient, which has none of its own
          },
        ];
      }),
  ),
  ...[[1, 1], [3, 3], [2, 17], [1, 64], [2, 65]].map(([count, n]): Case => ({
    name: `unit_lower_inverse of ${count} [${n}, ${n}]`,
    op: k.unitLowerInverseOp,
    attrs: {},
    // small enough that the inverse stays of the order of 1
    inputs: [
      f32([count, n, n], (size, seed) => Float64Array.from(normal(size, seed), (x) => x / n)),
    ],
    tolerance: SUM,
  })),
  ...[[1], [3], [4], [5, 13], [257, 5]].map((shape): Case => ({
    name: `uniform of keys [${shape}]`,
    op: k.uniformOp,
    attrs: { shape, stream: 7 },
    inputs: [{
      shape: [shape[0], 3],
      dtype: "u32",
      values: (count) => Float64Array.from({ length: count }, (_, i) => (i * 2654435761) % 2 ** 32),
    }],
    tolerance: 0,
    rough: true,
  })),
  ...[[1], [3], [4], [5, 13], [257, 5]].map((shape): Case => ({
    name: `uniform [${shape}]`,
    op: k.uniformOp,
    attrs: { shape, stream: 0xdeadbeef },
    inputs: [{ shape: [3], dtype: "u32", values: list(0xffff0001, 7, 123456789) }],
    tolerance: 0,
    rough: true,
  })),
  ...[undefined, list(3, 1, 0)].map((lengths): Case => ({
    name: `bigram_step${lengths ? ", lengths" : ""}`,
    op: k.bigramStepOp,
    attrs: { buckets: 61 },
    // products that wrap, and a row that begins
    inputs: [
      i32([3, 3], list(1, 300, 160000, 59999, 0, 0, 7, 7, 123456)),
      i32([3], list(123456, 9, 2 ** 31 - 1)),
      i32([3], list(4, 0, 1)),
      ...(lengths ? [i32([3], lengths)] : []),
    ],
    tolerance: 0,
    rough: true,
  })),
  ...(["f32", "bf16", "f16"] as const).flatMap((dtype): Case[] =>
    [1, 3, 4].map((width) => ({
      name: `cache_write ${dtype} width ${width}`,
      op: k.cacheWriteOp,
      attrs: {},
      // Rows that begin inside, run over the end, and begin before the start.
      inputs: [stored(dtype, [3, 5, width]), f32([3, 2, width]), i32([3], list(1, 4, -1))],
      tolerance: 0,
      rough: true,
    }))
  ),
];
