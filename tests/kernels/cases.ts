/**
 * One table of sample cases for every op: each device runs it against the plain loops, and the slope tests take it as their samples.
 * Sizes are odd where a kernel could be careless: 1, 3, one past a workgroup.
 *
 * @module
 */

import {
  type Attrs,
  type Dtype,
  normals,
  type Op,
  roundBf16,
  roundF16,
  sizeOf,
  type Spec,
} from "../../core/graph/mod.ts";
import * as k from "../../kernels/mod.ts";

/** Values of an input, given how many and a seed. */
export type Values = (count: number, seed: number) => ArrayLike<number>;

export interface InputCase extends Spec {
  readonly values: Values;
}

export interface Case {
  readonly name: string;
  readonly op: Op;
  readonly attrs: Attrs;
  readonly inputs: readonly InputCase[];
  /**
   * Largest error against the loops in double precision, relative to the value or, below 1, absolute. Halves may
   * be off by one unit of their last place beyond it: both sides round.
   */
  readonly tolerance: number;
  /** The loop is not differentiable at (or near) these values, or not at all. */
  readonly rough?: boolean;
}

/** A few units of the last place of f32 (6e-8): single operations, and functions accurate to some 1e-7. */
const ONE = 1e-6;
/** Sums of up to some hundred terms of size 1, in another order than the loop's. */
const SUM = 2e-5;

const spread = (low: number, high: number): Values => (count, seed) =>
  normals(seed, "case", count).map((x) => low + (high - low) / (1 + Math.exp(-1.7 * x)) // roughly even
  );
const normal: Values = (count, seed) => normals(seed, "case", count);
const positive = spread(0.2, 3);
const list = (...values: number[]): Values => (count) =>
  Array.from({ length: count }, (_, i) => values[i % values.length]);
const integers = (low: number, high: number): Values => (count, seed) =>
  Int32Array.from(spread(low, high + 0.999)(count, seed), Math.floor);

const f32 = (shape: number[], values: Values = normal): InputCase => ({
  shape,
  dtype: "f32",
  values,
});
const half = (dtype: "bf16" | "f16", shape: number[], values: Values = normal): InputCase => {
  const round = dtype === "bf16" ? roundBf16 : roundF16;
  return {
    shape,
    dtype,
    values: (count, seed) => Array.from(values(count, seed) as ArrayLike<number>, round),
  };
};
const stored = (dtype: Dtype, shape: number[], values: Values = normal): InputCase =>
  dtype === "bf16" || dtype === "f16" ? half(dtype, shape, values) : { shape, dtype, values };
const i32 = (shape: number[], values: Values): InputCase => ({ shape, dtype: "i32", values });

/** Values of a case's inputs; the same on each call. */
export function valuesOf({ inputs }: Case): ArrayLike<number>[] {
  return inputs.map(({ shape, values }, i) => values(sizeOf(shape), 17 * (i + 1)));
}

// ----------------------------------------------------------------------------------------------------- element-wise

const ranges: Partial<Record<k.ScalarName, Values[]>> = {
  div: [normal, positive],
  sqrt: [positive],
  rsqrt: [positive],
  reciprocal: [positive],
  log: [spread(1e-3, 8)],
  exp: [spread(-12, 4)],
  sin: [spread(-40, 40)],
  cos: [spread(-40, 40)],
  tanh: [spread(-12, 12)],
  sigmoid: [spread(-30, 30)],
  softplus: [spread(-30, 30)],
  erf: [spread(-5, 5)],
  gelu: [spread(-8, 8)],
  gelu_tanh: [spread(-8, 8)],
  silu: [spread(-20, 20)],
  less: [list(1, 2, 3, -1), list(2, 2, -1)],
  equal: [list(1, 2, 3, -1), list(2, 2, -1)],
  where: [list(0, 1, -2), normal, normal],
  round_f16: [list(1, 0.1, -3.14159, 6.1e-5, 3e-8, 9.1e-8, 65519, 65520, -70000, 1e-9, 0)],
  round_bf16: [list(1, 0.1, -3.14159, 1.00390625, 1.01171875, 1e30, -1e-30, 0)],
};
const roughScalars = new Set<k.ScalarName>([
  "less",
  "equal",
  "floor",
  "sign",
  "round_bf16",
  "round_f16",
  "where",
]);

const elementwise: Case[] = (Object.keys(k.scalars) as k.ScalarName[]).flatMap((name) => {
  const { arity } = k.scalars[name], values = ranges[name] ?? [];
  const shapes = arity === 1 ? [[[3, 65]]] : [
    Array.from({ length: arity }, () => [3, 17]),
    [[5, 1, 3], [4, 1], [3]].slice(0, arity),
  ];
  return shapes.map((inputs, variant) => ({
    name: `${name}${variant === 0 ? "" : ", broadcast"}`,
    op: k.elementwiseOps[name],
    attrs: {},
    inputs: inputs.map((shape, i) => f32(shape, values[i] ?? normal)),
    tolerance: ONE,
    rough: roughScalars.has(name),
  }));
});

// ----------------------------------------------------------------------------------------------------------- layout

const layout: Case[] = [
  ...(["f32", "bf16", "f16"] as const).flatMap((from): Case[] =>
    (["f32", "bf16", "f16"] as const).filter((to) => to !== from).map((to) => ({
      name: `cast ${from} to ${to}`,
      op: k.castOp,
      attrs: { dtype: to },
      inputs: [stored(from, [3, 17])],
      tolerance: 0,
      rough: true,
    }))
  ),
  {
    name: "cast to f16 at its edges",
    op: k.castOp,
    attrs: { dtype: "f16" },
    inputs: [f32([11], ranges.round_f16![0])],
    tolerance: 0,
    rough: true,
  },
  {
    name: "expand",
    op: k.expandOp,
    attrs: { shape: [4, 3, 5] },
    inputs: [f32([3, 1])],
    tolerance: 0,
  },
  {
    name: "expand a scalar",
    op: k.expandOp,
    attrs: { shape: [257] },
    inputs: [f32([])],
    tolerance: 0,
  },
  { name: "fill", op: k.fillOp, attrs: { shape: [3, 5], value: 0.25 }, inputs: [], tolerance: 0 },
  {
    name: "fill with minus infinity",
    op: k.fillOp,
    attrs: { shape: [7], value: -Infinity },
    inputs: [],
    tolerance: 0,
    rough: true,
  },
  ...[[1, 0, 2], [2, 0, 1], [2, 1, 0]].flatMap((order): Case[] =>
    (["f32", "bf16", "i32"] as const).map((dtype) => ({
      name: `permute ${order} of ${dtype}`,
      op: k.permuteOp,
      attrs: { order },
      inputs: [stored(dtype, [3, 5, 17], dtype === "i32" ? integers(-1000, 1000) : normal)],
      tolerance: 0,
      rough: dtype !== "f32",
    }))
  ),
  ...[[0, 1, 2], [1, 2, 3], [2, 4, 9]].flatMap(([axis, start, length]): Case[] =>
    (["f32", "f16"] as const).map((dtype) => ({
      name: `slice ${dtype} axis ${axis}`,
      op: k.sliceOp,
      attrs: { axis, start, length },
      inputs: [stored(dtype, [3, 5, 17])],
      tolerance: 0,
      rough: dtype !== "f32",
    }))
  ),
  ...[0, 1, 2].map((axis): Case => ({
    name: `concat axis ${axis}`,
    op: k.concatOp,
    attrs: { axis },
    inputs: [1, 3, 2].map((n) => f32([2, 3, 4].with(axis, n))),
    tolerance: 0,
  })),
];

// ---------------------------------------------------------------------------------------------------------- reduce

const widths = [1, 3, 17, 65, 257, 1100];
const reduce: Case[] = [
  ...widths.flatMap((width): Case[] => [
    {
      name: `sum_last ${width}`,
      op: k.sumLastOp,
      attrs: {},
      inputs: [f32([3, width])],
      tolerance: SUM,
    },
    {
      name: `max_last ${width}`,
      op: k.maxLastOp,
      attrs: {},
      inputs: [f32([3, width])],
      tolerance: 0,
      rough: true,
    },
  ]),
  {
    name: "sum_last of bf16, many rows",
    op: k.sumLastOp,
    attrs: {},
    inputs: [half("bf16", [300, 5])],
    tolerance: SUM,
    rough: true,
  },
  ...[[1, 5], [3, 1], [65, 17], [257, 3], [700, 1], [2500, 33]].map(([rows, columns]): Case => ({
    name: `sum_leading ${rows} × ${columns}`,
    op: k.sumLeadingOp,
    attrs: { axes: 1 },
    inputs: [f32([rows, columns])],
    tolerance: SUM,
  })),
  {
    name: "sum_leading two axes of f16",
    op: k.sumLeadingOp,
    attrs: { axes: 2 },
    inputs: [half("f16", [5, 7, 9])],
    tolerance: SUM,
    rough: true,
  },
];

// ------------------------------------------------------------------------------------------------------------ norms

const norms: Case[] = [1, 3, 65, 257].flatMap((width): Case[] => {
  const x = f32([2, 3, width]), dy = f32([2, 3, width]), gain = f32([width], positive);
  const attrs = { eps: 1e-5 }, bias = f32([width]);
  // Divided by a deviation that may be small at width 1 and 3, so errors of the input's last place grow.
  const tolerance = width < 4 ? 1e-3 : SUM;
  const one = (name: string, op: Op, inputs: InputCase[]): Case => ({
    name: `${name} ${width}`,
    op,
    attrs,
    inputs,
    tolerance,
  });
  return [
    one("rms_norm", k.rmsNormOp, [x, gain]),
    one("rms_norm without gain", k.rmsNormOp, [x]),
    one("rms_norm_grad", k.rmsNormGradOp, [x, dy, gain]),
    one("rms_norm_grad without gain", k.rmsNormGradOp, [x, dy]),
    one("layer_norm", k.layerNormOp, [x, gain, bias]),
    one("layer_norm without bias", k.layerNormOp, [x, gain]),
    one("layer_norm plain", k.layerNormOp, [x]),
    one("layer_norm_grad", k.layerNormGradOp, [x, dy, gain]),
    one("layer_norm_grad without gain", k.layerNormGradOp, [x, dy]),
  ];
});
norms.push({
  name: "rms_norm of bf16",
  op: k.rmsNormOp,
  attrs: { eps: 1e-5 },
  inputs: [half("bf16", [5, 33]), half("bf16", [33], positive)],
  tolerance: SUM,
  rough: true,
}, {
  name: "rms_norm_grad, many rows",
  op: k.rmsNormGradOp,
  attrs: { eps: 1e-5 },
  inputs: [f32([600, 20]), f32([600, 20]), f32([20], positive)],
  tolerance: 1e-4, // sums of 600 terms
});

// ------------------------------------------------------------------------------------------- rope, embedding, integers

const tables = (positions: number, half: number): InputCase[] => [
  f32([positions, half], spread(-1, 1)),
  f32([positions, half], spread(-1, 1)),
];
const others: Case[] = [
  ...(["half", "interleaved"] as const).flatMap((layout): Case[] =>
    ([1, -1] as const).flatMap((direction) =>
      [4, 6].map((rotary_dim) => ({
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
  ),
  {
    name: "rope of bf16",
    op: k.ropeOp,
    attrs: { rotary_dim: 4, layout: "half", direction: 1 },
    inputs: [half("bf16", [1, 3, 1, 4]), i32([1, 3], list(0, 1, 2)), ...tables(5, 2)],
    tolerance: ONE,
    rough: true,
  },
  ...(["f32", "bf16", "f16"] as const).map((dtype): Case => ({
    name: `embedding of ${dtype}`,
    op: k.embeddingOp,
    attrs: {},
    inputs: [stored(dtype, [7, 5]), i32([2, 3], list(0, 6, 3, -1, 7, 3))],
    tolerance: 0,
    rough: dtype !== "f32",
  })),
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
  ...[[1], [3], [4], [5, 13], [257, 5]].map((shape): Case => ({
    name: `uniform [${shape}]`,
    op: k.uniformOp,
    attrs: { shape, stream: 0xdeadbeef },
    inputs: [{ shape: [3], dtype: "u32", values: list(0xffff0001, 7, 123456789) }],
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

// -------------------------------------------------------------------------------------------------------- optimizer

const optimizer: Case[] = [
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
    attrs: { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 },
    inputs: [
      f32([3, 100]),
      f32([3, 100]),
      f32([3, 100]),
      f32([3, 100], positive),
      f32([3], list(1e-2, 0.1, 0.05)),
      f32([2], list(...gate)),
    ],
    tolerance: ONE,
    rough: true,
  })),
];

// ------------------------------------------------------------------------------------------------------------ sample

const settings: [string, number, number, number][] = [
  ["greedy", 0, 0, 1],
  ["plain", 1, 0, 1],
  ["cold", 0.3, 0, 1],
  ["top-k", 1, 5, 1],
  ["top-k beyond the vocabulary", 1, 5000, 1],
  ["top-p", 1, 0, 0.7],
  ["top-p of nearly all", 0.8, 0, 0.999],
  ["both", 1.3, 40, 0.5],
];
const sampling: Case[] = settings.flatMap(([name, temperature, top_k, top_p]): Case[] =>
  [1, 17, 700].map((vocab) => ({
    name: `sample ${name}, of ${vocab}`,
    op: k.sampleOp,
    attrs: {},
    inputs: [
      f32([5, vocab], spread(-4, 9)),
      f32([5], list(0.03, 0.35, 0.5, 0.81, 0.99)),
      f32([3], list(temperature, top_k, top_p)),
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
    f32([3], list(1, 2, 0.9)),
  ],
  tolerance: SUM,
  rough: true,
});

// ----------------------------------------------------------------------------------------------- products and attention

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
const products: Case[] = [
  ...layouts.flatMap(([name, trans]) => [
    product(name, [1, 1, 1], trans),
    product(name, [1, 65, 33], trans),
    product(name, [17, 3, 65], trans),
    product(name, [65, 66, 17], trans, [2]),
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
const attention: Case[] = [
  heads("one token", [1, 1, 1, 1, 4]),
  heads("causal", [2, 17, 2, 2, 8]),
  heads("of all", [1, 5, 2, 1, 8], { causal: false }),
  heads("grouped, window", [1, 33, 4, 2, 16], { window: 7 }),
  heads("softcap", [1, 9, 1, 1, 32], { softcap: 2 }),
  heads("documents", [2, 11, 2, 1, 8], {}, true),
];
// The gradient's loop takes any output and log-sum-exp, so these need not be the forward pass's own.
const headsGrad = (sample: Case): Case => {
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
const decoding: Case[] = [
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
const lossHeads: Case[] = [
  ...head("of one token", [1, 3, 2]),
  ...head("of odd sizes", [17, 33, 257]),
  ...head("with token weights", [9, 8, 64], {}, true),
  ...head("with all options", [5, 4, 17], { softcap: 3, label_smoothing: 0.1, z_loss: 0.01 }, true),
];

export const cases: readonly Case[] = [
  ...elementwise,
  ...layout,
  ...reduce,
  ...norms,
  ...others,
  ...optimizer,
  ...sampling,
  ...products,
  ...attention,
  ...attention.map(headsGrad),
  ...decoding,
  ...lossHeads,
];
