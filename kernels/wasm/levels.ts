/** Levels of a few bits in WASM: four at a time come out of four words by two shifts. */

import type { OpContext } from "../../core/graph/tensor.ts";
import { sizeOf } from "../../core/graph/tensor.ts";
import { groupOf, type LevelAttrs, wordsOf } from "../levels.ts";
import { type CpuLowering, type CpuTarget, input, output } from "../lowering.ts";
import { firstLanes, storeDense, storePart } from "./elements.ts";
import {
  f32,
  f32x4,
  type FunctionBuilder,
  i32,
  i32x4,
  type Local,
  madd,
  type V128,
  v128,
} from "./encode.ts";
import { namedJob } from "./job.ts";
import { sumOf } from "./lanes.ts";
import { vectorMath } from "./scalar.ts";

const attrsOf = ({ attrs }: OpContext) => attrs as unknown as LevelAttrs;

/** Vector t of a group, as floats. */
function levelsAt(words: Local<"v128">, bits: number, t: number): V128 {
  const up = 32 - bits * (t + 1);
  return f32x4.convertI32x4S(
    i32x4.shrS(up === 0 ? words : i32x4.shl(words, up), 32 - bits),
  );
}

/**
 * Writes `body` for each vector of a row: whole groups in a loop, then what is left, of which `part` is not whole. `words`
 * is where the row's words are.
 */
function overLevels(
  f: FunctionBuilder,
  bits: number,
  columns: Local<"i32">,
  words: Local<"i32">,
  body: (levels: V128, t: number, part: Local<"i32"> | undefined) => void,
  next: () => void,
): void {
  const group = groupOf(bits), vectors = group / 4, i = f.i32(), four = f.v128();
  const rest = f.i32(i32.remU(columns, group));
  f.forRange(i, 0, i32.sub(columns, rest), group, () => {
    f.set(four, v128.load(words));
    for (let t = 0; t < vectors; t++) body(levelsAt(four, bits, t), t, undefined);
    f.advance(words, 16);
    next();
  });
  f.if(rest, () => {
    f.set(four, v128.load(words));
    const left = f.i32();
    for (let t = 0; t < vectors; t++) {
      f.if(i32.gtU(rest, 4 * t), () => {
        f.set(left, i32.sub(rest, 4 * t));
        f.if(
          i32.geU(left, 4),
          () => body(levelsAt(four, bits, t), t, undefined),
          () => body(levelsAt(four, bits, t), t, left),
        );
      });
    }
  });
}

export function widenWasm(node: OpContext): CpuLowering | undefined {
  const attrs = attrsOf(node), { bits, columns } = attrs, [{ shape: [rows] }] = node.inputs;
  if (rows * columns === 0) return undefined;
  return {
    jobs: [namedJob({
      key: `widen_levels ${bits}`,
      args: {
        words: input(0),
        scales: input(1),
        out: output(0),
        columns,
        pitch: 4 * wordsOf(attrs),
      },
      units: rows,
      work: columns,
      build(f, { words, scales, out, columns, pitch }) {
        const s = vectorMath(f, false), row = f.i32(), from = f.i32(), to = f.i32();
        const scale = f.v128(), value = f.v128(), place = f.i32();
        f.forRange(row, f.begin, f.end, 1, () => {
          f.set(from, i32.add(words, i32.mul(row, pitch)));
          f.set(to, i32.add(out, i32.shl(i32.mul(row, columns), 2)));
          f.set(scale, v128.load32Splat(i32.add(scales, i32.shl(row, 2))));
          overLevels(f, bits, columns, from, (levels, t, part) => {
            f.set(value, f32x4.mul(levels, scale));
            if (!part) return storeDense(s, "f32", to, value, t);
            f.set(place, i32.add(to, 16 * t));
            storePart(s, "f32", place, value, part);
          }, () => f.advance(to, 4 * groupOf(bits)));
        });
      },
    })],
  };
}

/** Outputs of a unit. */
const unitColumns = 8;

/** Rows that share a look at the levels. */
const together = [4, 2, 1] as const;

export function matmulLevelsWasm(node: OpContext, { relaxed }: CpuTarget): CpuLowering | undefined {
  const attrs = attrsOf(node), { bits, columns: k } = attrs, [m, n] = node.outputs[0].shape;
  if (sizeOf(node.outputs[0].shape) * k === 0) return undefined;
  return {
    jobs: [namedJob({
      key: `matmul_levels ${bits} ${relaxed}`,
      args: {
        a: input(0),
        words: input(1),
        scales: input(2),
        out: output(0),
        m,
        n,
        k,
        pitch: 4 * wordsOf(attrs),
      },
      units: Math.ceil(n / unitColumns),
      work: 2 * m * k * unitColumns,
      build(f, args) {
        const { words, n, m, pitch } = args, column = f.i32(), row = f.i32(), from = f.i32();
        const last = f.i32(i32.minU(i32.mul(f.end, unitColumns), n));
        f.forRange(column, i32.mul(f.begin, unitColumns), last, 1, () => {
          f.set(row, 0);
          for (const rows of together) {
            f.while(i32.leU(i32.add(row, rows), m), () => {
              f.set(from, i32.add(words, i32.mul(column, pitch)));
              dots(f, bits, rows, { ...args, from, row, column }, madd(relaxed));
              f.advance(row, rows);
            });
          }
        });
      },
    })],
  };
}

/**
 * One output of some rows. Every row is summed in the same order, however many there are: a token has the same bits alone
 * and in a small batch.
 */
function dots(
  f: FunctionBuilder,
  bits: number,
  rows: number,
  { a, scales, out, n, k, from, row, column }: Readonly<
    Record<"a" | "scales" | "out" | "n" | "k" | "from" | "row" | "column", Local<"i32">>
  >,
  fused: (a: V128, b: V128, c: V128) => V128,
): void {
  const xs = Array.from(
    { length: rows },
    (_, r) => f.i32(i32.add(a, i32.shl(i32.mul(i32.add(row, r), k), 2))),
  );
  const sums = xs.map(() => f.vectors(4)), s = vectorMath(f, false), weight = f.v128();
  sums.flat().forEach((sum) => f.set(sum, f.constant(0)));
  overLevels(f, bits, k, from, (levels, t, part) => {
    f.set(weight, levels);
    xs.forEach((x, r) => {
      const read = v128.load(x, 16 * t); // past a row's end may be anything, NaN too
      const value = part ? v128.and(read, firstLanes(s, part)) : read;
      f.set(sums[r][t % 4], fused(value, weight, sums[r][t % 4]));
    });
  }, () => xs.forEach((x) => f.advance(x, 4 * groupOf(bits))));
  const scale = f.f32(f32.load(i32.add(scales, i32.shl(column, 2))));
  sums.forEach(([s0, s1, s2, s3], r) => {
    const to = i32.add(out, i32.shl(i32.add(i32.mul(i32.add(row, r), n), column), 2));
    f.storeF32(
      f.i32(to),
      f32.mul(sumOf(f, f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3))), scale),
    );
  });
}
