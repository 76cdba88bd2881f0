/** Samples of weights that are kept as levels. */

import * as k from "../../../kernels/mod.ts";
import { type Case, f32, i32, list, SUM, type Values } from "./case.ts";

const words: Values = (count, seed) =>
  Int32Array.from({ length: count }, (_, i) => Math.imul(i + seed, 0x9e3779b1) ^ (i << 7));

// a fifth of the largest level or so: sums of size 1
const scales = (bits: number): Values => (count) =>
  Float32Array.from({ length: count }, (_, i) => (1 + i % 3) / (2 ** bits * 16));

const matrix = (rows: number, columns: number, bits: number) => [
  i32([rows, k.wordsOf({ bits, columns })], words),
  f32([rows], scales(bits)),
];

const sizes = [
  [1, 1, 1],
  [1, 3, 17],
  [2, 9, 24],
  [3, 17, 65],
  [5, 4, 256],
  [7, 65, 257],
  [8, 33, 96],
  [17, 5, 40],
] as const;

export const levels: Case[] = [5, 6, 8].flatMap((bits) =>
  sizes.flatMap(([m, n, columns]): Case[] => [
    {
      name: `widen_levels ${bits} bits ${n}×${columns}`,
      op: k.widenOp,
      attrs: { bits, columns },
      inputs: matrix(n, columns, bits),
      tolerance: 0, // one product
      rough: true,
    },
    {
      name: `matmul_levels ${bits} bits ${m}×${n}×${columns}`,
      op: k.matmulLevelsOp,
      attrs: { bits, columns },
      inputs: [f32([m, columns]), ...matrix(n, columns, bits)],
      tolerance: SUM,
      rough: true,
    },
  ])
).concat({
  name: "embedding of words",
  op: k.embeddingOp,
  attrs: {},
  inputs: [i32([7, 5], words), i32([2, 3], list(0, 6, 3, -1, 7, 3))],
  tolerance: 0,
  rough: true,
});
