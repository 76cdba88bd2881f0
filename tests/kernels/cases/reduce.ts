/** Samples of sums, maxima and norms. */

import type { Op } from "../../../core/graph/mod.ts";
import * as k from "../../../kernels/mod.ts";
import { type Case, f32, half, inHalves, type InputCase, positive, SUM } from "./case.ts";

const widths = [1, 3, 17, 65, 257, 1100];
export const reduce: Case[] = [
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
    {
      name: `max_last_grad ${width}`,
      op: k.maxLastGradOp,
      attrs: {},
      inputs: [f32([3, width]), f32([3, 1])],
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

export const norms: Case[] = [1, 3, 64, 65, 257].flatMap((width): Case[] => {
  const x = f32([2, 3, width]), dy = f32([2, 3, width]), gain = f32([width], positive);
  const attrs = { eps: 1e-5 }, bias = f32([width]);
  // Divided by a deviation that may be small at width 1 and 3, so errors of the input's last place
  // grow.
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
// Of what training in bf16 stores: rows of an even width are written as bf16, too.
norms.push(
  ...norms.flatMap((sample) => {
    const even = sample.inputs[0].shape.at(-1)! % 2 === 0;
    const isGradient = sample.op === k.rmsNormGradOp || sample.op === k.layerNormGradOp;
    return isGradient ? [inHalves(sample, [0, 1], [])] : even ? [inHalves(sample, [0], [0])] : [];
  }),
);
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
