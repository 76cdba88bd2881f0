/** Samples of what only moves or converts elements. */

import * as k from "../../../kernels/mod.ts";
import { ranges } from "./elementwise.ts";
import { type Case, f32, integers, normal, stored } from "./case.ts";

export const layout: Case[] = [
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
