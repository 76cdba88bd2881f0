/**
 * A few samples of every op that has a kernel, for the self-test: sizes past a workgroup and a tile, in every
 * layout that training and generating use.
 */

import { type Attrs, normals, type Op, roundBf16, sizeOf, type Spec, spec } from "../graph/mod.ts";
import * as k from "../../kernels/mod.ts";

/** Values of an input, given how many and a seed. */
type Values = (count: number, seed: number) => ArrayLike<number>;

export interface SampleInput extends Spec {
  readonly values: ArrayLike<number>;
}

export interface Sample {
  readonly op: Op;
  readonly attrs: Attrs;
  readonly inputs: readonly SampleInput[];
  /** Largest error against the loop in double precision, relative to the value or, below 1, absolute. */
  readonly tolerance: number;
}

const normal: Values = (count, seed) => normals(seed, "self-test", count);
/** Roughly even between two bounds. */
const spread = (low: number, high: number): Values => (count, seed) =>
  normals(seed, "self-test", count).map((x) => low + (high - low) / (1 + Math.exp(-1.7 * x)));
const positive = spread(0.2, 3);
const list = (...values: number[]): Values => (count) =>
  Array.from({ length: count }, (_, i) => values[i % values.length]);
const counting = (every: number): Values => (count) =>
  Array.from({ length: count }, (_, i) => Math.floor(i / every));

type Input = Spec & { readonly make: Values };
const f32 = (shape: number[], make: Values = normal): Input => ({ ...spec(shape), make });
const i32 = (shape: number[], make: Values): Input => ({ ...spec(shape, "i32"), make });
const bf16 = (shape: number[]): Input => ({
  ...spec(shape, "bf16"),
  make: (count, seed) => normals(seed, "self-test", count).map(roundBf16),
});

/** Single operations, and functions accurate to some 1e-7; sums of some hundred terms of size 1. */
const ONE = 1e-6, SUM = 2e-5;

function sample(op: Op, inputs: readonly Input[], tolerance: number, attrs: Attrs = {}): Sample {
  const filled = inputs.map(({ make, ...rest }, i) => ({
    ...rest,
    values: make(sizeOf(rest.shape), 31 * (i + 1)),
  }));
  return { op, attrs, inputs: filled, tolerance };
}

/** Where a function is defined, or where it does not grow beyond what f32 tells apart. */
const ranges: Partial<Record<k.ScalarName, readonly Values[]>> = {
  div: [normal, positive],
  sqrt: [positive],
  rsqrt: [positive],
  reciprocal: [positive],
  log: [spread(1e-3, 8)],
  exp: [spread(-12, 4)],
  sin: [spread(-40, 40)],
  cos: [spread(-40, 40)],
  less: [list(1, 2, 3, -1), list(2, 2, -1)],
  equal: [list(1, 2, 3, -1), list(2, 2, -1)],
  where: [list(0, 1, -2), normal, normal],
};

function elementwise(): Sample[] {
  const names = Object.keys(k.scalars) as k.ScalarName[];
  return names.map((name) => {
    const shapes = [[5, 67], [67], [5, 1]].slice(0, k.scalars[name].arity);
    const inputs = shapes.map((shape, i) => f32(shape, ranges[name]?.[i] ?? normal));
    return sample(k.elementwiseOps[name], inputs, ONE);
  });
}

/** A matrix kept as levels of so many bits, its numbers below 1. */
function levels(rows: number, columns: number, bits: number): Input[] {
  const words: Values = (count) =>
    Array.from({ length: count }, (_, i) => Math.imul(i, 0x9e3779b1));
  return [
    i32([rows, k.wordsOf({ bits, columns })], words),
    f32([rows], (count) => Array.from({ length: count }, () => 2 ** -bits)),
  ];
}

function moving(): Sample[] {
  const x = f32([3, 5, 67]);
  return [
    ...(["bf16", "f16"] as const).map((dtype) => sample(k.castOp, [f32([3, 17])], 0, { dtype })),
    sample(k.fillOp, [], 0, { shape: [3, 5], value: 0.25 }),
    sample(k.expandOp, [f32([3, 1])], 0, { shape: [4, 3, 65] }),
    sample(k.permuteOp, [x], 0, { order: [2, 0, 1] }),
    sample(k.sliceOp, [x], 0, { axis: 2, start: 4, length: 33 }),
    sample(k.concatOp, [f32([2, 3, 4]), f32([2, 5, 4])], 0, { axis: 1 }),
    sample(k.addIntegerOp, [i32([5], list(0, 7, -9))], 0, { by: -3 }),
    sample(k.runningSumOp, [f32([2, 17, 65])], SUM, { reverse: false }),
    sample(k.causalConvOp, [f32([2, 17, 65]), f32([3, 65])], SUM, { direction: 1 }),
    sample(k.causalConvWeightsOp, [f32([2, 17, 65]), f32([2, 17, 65])], SUM, { taps: 3 }),
    sample(k.unitLowerInverseOp, [f32([2, 33, 33], spread(-0.03, 0.03))], SUM),
    sample(k.toFloatOp, [i32([5], list(0, 7, -9))], 0),
    sample(k.positionsOp, [i32([2], list(5, -2))], 0, { time: 3 }),
    sample(
      k.bigramStepOp,
      [i32([2, 2], list(1, 300, 160000, 7)), i32([2], list(9, 123456)), i32([2], list(4, 0))],
      0,
      { buckets: 61 },
    ),
    sample(k.cacheWriteOp, [f32([2, 9, 4]), f32([2, 3, 4]), i32([2], list(1, 5))], 0),
    sample(k.embeddingOp, [f32([70, 33]), i32([2, 3], list(0, 69, 3, 7, 3))], 0),
    sample(k.widenOp, levels(33, 65, 5), 0, { bits: 5, columns: 65 }),
    sample(k.matmulLevelsOp, [f32([3, 260]), ...levels(65, 260, 8)], SUM, {
      bits: 8,
      columns: 260,
    }),
    sample(
      k.embeddingGradOp,
      [f32([5, 300]), i32([5], list(0, 2, 2, 5, 5)), i32([5], list(1, 4, 0, 2, 3))],
      ONE,
      { rows: 4 },
    ),
  ];
}

function rows(): Sample[] {
  const x = f32([3, 65]), dy = f32([3, 65]), gain = f32([65], positive), eps = { eps: 1e-5 };
  return [
    ...[65, 1100].map((width) => sample(k.sumLastOp, [f32([3, width])], SUM)),
    sample(k.maxLastOp, [f32([3, 1100])], 0),
    sample(k.maxLastGradOp, [f32([3, 257]), f32([3, 1])], 0),
    ...[[65, 17], [700, 33]].map((shape) => sample(k.sumLeadingOp, [f32(shape)], SUM, { axes: 1 })),
    sample(k.rmsNormOp, [x, gain], SUM, eps),
    sample(k.rmsNormGradOp, [x, dy, gain], SUM, eps),
    sample(k.layerNormOp, [x, gain, f32([65])], SUM, eps),
    sample(k.layerNormGradOp, [x, dy, gain], SUM, eps),
  ];
}

function products(): Sample[] {
  const layouts = [[false, false], [false, true], [true, false]];
  const sizes = [[1, 65, 130], [65, 66, 130]];
  const ofFloats = sizes.flatMap(([m, n, depth]) =>
    layouts.map(([transA, transB]) =>
      sample(
        k.matmulOp,
        [f32(transA ? [depth, m] : [m, depth]), f32(transB ? [n, depth] : [depth, n])],
        SUM,
        { transA, transB },
      )
    )
  );
  const ofHalves = sizes.map(([m, n, depth]) =>
    sample(k.matmulOp, [f32([m, depth]), bf16([n, depth])], SUM, { transA: false, transB: true })
  );
  const [m, n, depth] = sizes[1];
  const allHalves = layouts.map(([transA, transB]) =>
    sample(
      k.matmulOp,
      [bf16(transA ? [depth, m] : [m, depth]), bf16(transB ? [n, depth] : [depth, n])],
      SUM,
      { transA, transB },
    )
  );
  return [...ofFloats, ...ofHalves, ...allHalves];
}

function attention(): Sample[] {
  const [batch, time, heads, groups, width] = [2, 67, 4, 2, 16];
  const attrs = { causal: true, window: 0, scale: 0.25, softcap: 0 };
  const q = f32([batch, time, heads, width]), keys = f32([batch, time, groups, width]);
  const lse = f32([batch, heads, time], spread(1, 3)), documents = i32([batch, time], counting(13));
  const halves = [q, keys, keys].map(({ shape }) => bf16([...shape])); // as training in bf16 has them
  const cache = f32([batch, 300, groups, width]);
  return [
    sample(k.attentionOp, [q, keys, keys], SUM, attrs),
    sample(k.attentionOp, [q, keys, keys, documents], SUM, { ...attrs, window: 9 }),
    sample(k.attentionGradOp, [q, keys, keys, q, lse, q], SUM, attrs),
    sample(k.attentionOp, halves, SUM, attrs),
    sample(k.attentionGradOp, [...halves, halves[0], lse, halves[0]], SUM, attrs),
    sample(
      k.cachedAttentionOp,
      [f32([batch, 1, heads, width]), cache, cache, i32([batch], list(0, 270))],
      SUM,
      attrs,
    ),
    ...(["half", "interleaved"] as const).map((layout) =>
      sample(
        k.ropeOp,
        [
          f32([2, 3, 5, 8]),
          i32([2, 3], list(0, 3, 8)),
          f32([9, 4], spread(-1, 1)),
          f32([9, 4], spread(-1, 1)),
        ],
        ONE,
        { rotary_dim: 8, layout, direction: 1 },
      )
    ),
  ];
}

function learning(): Sample[] {
  const head = [
    f32([67, 33]),
    f32([257, 33], spread(-0.5, 0.5)),
    i32([67], list(0, 256, k.IGNORE, 1)),
  ];
  const attrs = { softcap: 0, label_smoothing: 0, z_loss: 0 };
  return [
    sample(k.linearCrossEntropyOp, head, SUM, attrs),
    sample(k.linearCrossEntropyGradOp, head, SUM, attrs),
    sample(
      k.globalNormOp,
      [f32([], list(12)), f32([], list(0.5)), ...[1, 65, 5000].map((n) => f32([n]))],
      SUM,
    ),
    sample(
      k.adamWOp,
      [
        ...[normal, normal, normal, positive].map((values) => f32([3, 100], values)),
        f32([k.hyperSize(1)], list(1e-2, 0.1, 0.05, 0.9, 0.1, 0.95, 0.05, 0.1)),
        f32([2], list(0.5, 1)),
      ],
      ONE,
      { eps: 1e-8, decay: 0 },
    ),
  ];
}

function chance(): Sample[] {
  const words = { ...spec([3], "u32"), make: list(0xffff0001, 7, 123456789) };
  return [
    sample(k.uniformOp, [words], 0, { shape: [257, 5], stream: 0xdeadbeef }),
    ...[[0, 0, 1, 0], [1, 40, 0.7, 0], [1, 0, 1, 0.2]].map((settings) =>
      sample(
        k.sampleOp,
        [f32([5, 700], spread(-4, 9)), f32([5], spread(0, 1)), f32([4], list(...settings))],
        SUM,
      )
    ),
  ];
}

/** All samples, those of an op one after another. */
export function samples(): Sample[] {
  return [
    ...products(),
    ...attention(),
    ...learning(),
    ...rows(),
    ...chance(),
    ...moving(),
    ...elementwise(),
  ];
}
