/** Triangular inverses in WASM: a unit is a matrix, found row by row. */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { overRow, storeDense, storePart } from "./elements.ts";
import { f32x4, i32, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import { vectorMath } from "./scalar.ts";

export function unitLowerInverseWasm({ inputs: [{ shape }] }: OpContext): CpuLowering {
  const n = shape.at(-1)!;
  return {
    jobs: [namedJob({
      key: "unit_lower_inverse",
      args: { a: input(0), out: output(0), n },
      units: sizeOf(shape) / (n * n),
      work: n * n * n / 3,
      build(f, { a, out, n }) {
        const s = vectorMath(f, false), unit = f.i32(), row = f.i32(), k = f.i32();
        const at = f.i32(), rest = f.i32(), sum = f.v128();
        f.forRange(unit, f.begin, f.end, 1, () => {
          const first = f.i32(i32.shl(i32.mul(unit, i32.mul(n, n)), 2));
          const from = f.i32(i32.add(a, first)), to = f.i32(i32.add(out, first));
          const bytes = f.i32(i32.shl(n, 2));
          f.forRange(row, 0, n, 1, () => {
            const place = f.i32(i32.mul(row, bytes)), target = f.i32();
            overRow(f, n, at, rest, (part) => {
              f.set(sum, f.constant(0));
              f.forRange(k, 0, row, 1, () => {
                const factor = v128.load32Splat(
                  i32.add(i32.add(from, place), i32.shl(k, 2)),
                );
                const above = v128.load(i32.add(i32.add(to, i32.mul(k, bytes)), at));
                f.set(sum, f32x4.add(sum, f32x4.mul(factor, above)));
              });
              f.set(target, i32.add(i32.add(to, place), at));
              if (part) storePart(s, "f32", target, sum, rest);
              else storeDense(s, "f32", target, sum);
            });
            f.storeF32(i32.add(i32.add(to, place), i32.shl(row, 2)), 1);
          });
        });
      },
    })],
  };
}
