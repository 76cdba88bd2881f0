/**
 * Weights that stay small whole numbers in memory: each row of a matrix has a scale, each weight a level of a few bits.
 * Decoding reads the levels as they are; where there are many rows to multiply, the matrix is widened first.
 *
 * Four neighbouring words hold 4 · ⌊32 / bits⌋ levels: vector t of them is bits t · bits and up of the four words, so that
 * four levels come out by one shift. Rows are filled up to whole groups with zeros. A level is in two's complement.
 */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { defineOp, type Kernel } from "./lowering.ts";
import { matmulLevelsWasm, widenWasm } from "./wasm/levels.ts";
import { matmulLevelsKernels, widenKernels } from "./webgpu/levels.ts";

export interface LevelAttrs {
  /** Of a level: 2 to 16. */
  readonly bits: number;
  /** Levels of a row. */
  readonly columns: number;
}

/** Levels in four words. */
export function groupOf(bits: number): number {
  return 4 * Math.floor(32 / bits);
}

/** Words of a row. */
export function wordsOf({ bits, columns }: LevelAttrs): number {
  return 4 * Math.ceil(columns / groupOf(bits));
}

/** The words of a matrix of levels [rows, columns]. */
export function packLevels(levels: Int8Array, attrs: LevelAttrs): Int32Array<ArrayBuffer> {
  const { bits, columns } = attrs, mask = 2 ** bits - 1, words = wordsOf(attrs);
  const rows = columns === 0 ? 0 : levels.length / columns, packed = new Int32Array(rows * words);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      const { word, shift } = placeOf(i, bits);
      packed[row * words + word] |= (levels[row * columns + i] & mask) << shift;
    }
  }
  return packed;
}

/** Where level i of a row stands: the word within the row, and its lowest bit. */
function placeOf(i: number, bits: number): { word: number; shift: number } {
  const group = groupOf(bits), within = i % group;
  return { word: 4 * Math.floor(i / group) + within % 4, shift: bits * Math.floor(within / 4) };
}

function levelAt(words: ArrayLike<number>, row: number, i: number, { bits }: LevelAttrs): number {
  const { word, shift } = placeOf(i, bits);
  return (words[row + word] << (32 - bits - shift)) >> (32 - bits);
}

const attrsOf = ({ attrs }: Pick<OpContext, "attrs">) => attrs as unknown as LevelAttrs;

function checkLevels(words: Spec, scales: Spec, attrs: Attrs): void {
  const { bits } = attrs as unknown as LevelAttrs, width = wordsOf(attrs as unknown as LevelAttrs);
  expect(bits >= 2 && bits <= 16, "takes levels of 2 to 16 bits");
  expect(words.dtype === "i32" && words.shape.length === 2, "takes i32 words [rows, words]");
  expect(words.shape[1] === width, `rows of ${width} words hold its columns`);
  expect(
    scales.dtype === "f32" && scales.shape.join() === `${words.shape[0]}`,
    "wants an f32 scale for each row",
  );
}

/** (words [rows, …] i32, scales [rows]) → the matrix [rows, columns]. */
export const widenOp: Kernel = defineOp({
  name: "widen_levels",
  kernels: widenKernels,
  check([words, scales]: readonly Spec[], attrs: Attrs) {
    checkLevels(words, scales, attrs);
    const { columns } = attrs as unknown as LevelAttrs;
    return [{ shape: [words.shape[0], columns], dtype: "f32" }];
  },
  reference([words, scales], [out], context) {
    const attrs = attrsOf(context), width = wordsOf(attrs), { columns } = attrs;
    for (let row = 0; row < scales.length; row++) {
      for (let i = 0; i < columns; i++) {
        out[row * columns + i] = levelAt(words, row * width, i, attrs) * scales[row];
      }
    }
  },
  cost: ({ inputs: [words], outputs: [y] }) => ({
    flops: sizeOf(y.shape),
    bytes: 4 * (sizeOf(words.shape) + sizeOf(y.shape)),
  }),
  wasm: widenWasm,
});

/** (a [m, columns], words [n, …] i32, scales [n]) → a Wᵀ [m, n] for the matrix W that they are. */
export const matmulLevelsOp: Kernel = defineOp({
  name: "matmul_levels",
  kernels: matmulLevelsKernels,
  check([a, words, scales]: readonly Spec[], attrs: Attrs) {
    checkLevels(words, scales, attrs);
    const { columns } = attrs as unknown as LevelAttrs;
    expect(
      a.dtype === "f32" && a.shape.length === 2 && a.shape[1] === columns,
      "takes f32 rows as long as the matrix's",
    );
    return [{ shape: [a.shape[0], words.shape[0]], dtype: "f32" }];
  },
  reference([a, words, scales], [out], context) {
    const attrs = attrsOf(context), width = wordsOf(attrs), { columns } = attrs;
    const [m, n] = context.outputs[0].shape;
    for (let row = 0; row < m; row++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let i = 0; i < columns; i++) {
          sum += a[row * columns + i] * levelAt(words, j * width, i, attrs);
        }
        out[row * n + j] = sum * scales[j];
      }
    }
  },
  cost({ inputs: [a, words, scales], outputs: [y], attrs }) {
    const { columns } = attrs as unknown as LevelAttrs;
    return {
      flops: 2 * sizeOf(y.shape) * columns,
      bytes: 4 * [a, words, scales, y].reduce((sum, x) => sum + sizeOf(x.shape), 0),
    };
  },
  wasm: matmulLevelsWasm,
});

/** A matrix that is stored as levels; `matmul` and `embedding` read those where that is faster. */
export function widenLevels(words: Tensor, scales: Tensor, attrs: LevelAttrs): Tensor {
  return apply(widenOp, [words, scales], { ...attrs })[0];
}

/** Rows up to which levels are multiplied as they are. */
const fewRows = 8;

/** a Wᵀ straight from the levels of W, if W is stored so and a has few rows: a [m, k]. */
export function fromLevels(a: Tensor, weight: Tensor): Tensor | undefined {
  const { op, inputs, attrs } = weight.node;
  if (op !== widenOp || a.shape.length !== 2 || a.shape[0] > fewRows) return undefined;
  return a.dtype === "f32" ? apply(matmulLevelsOp, [a, ...inputs], attrs)[0] : undefined;
}

/** The words and scales of a table's rows, to be looked up apart; undefined where it is not stored so. */
export function levelsOf(
  table: Tensor,
): { words: Tensor; scales: Tensor; attrs: LevelAttrs } | undefined {
  const { op, inputs: [words, scales], attrs } = table.node;
  return op === widenOp ? { words, scales, attrs: attrs as unknown as LevelAttrs } : undefined;
}
