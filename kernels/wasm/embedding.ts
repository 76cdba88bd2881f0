/** Table lookup and its gradient in WASM: units are tokens, and rows of the table. */

import type { OpContext } from "../../core/graph/tensor.ts";
import { sizeOf } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { loadDense, overRow, sizeShift, storedAs, storeDense, storePart } from "./elements.ts";
import { f32x4, i32, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import { vectorMath } from "./scalar.ts";

export function embeddingWasm({ inputs: [table, ids] }: OpContext): CpuLowering | undefined {
  const type = storedAs(table.dtype), [rows, width] = table.shape;
  if (!type) return undefined;
  return {
    jobs: [namedJob({
      key: `embedding ${type}`,
      args: { table: input(0), ids: input(1), out: output(0), rows, width },
      units: sizeOf(ids.shape),
      work: width,
      build(f, { table, ids, out, rows, width }) {
        const s = vectorMath(f, false), token = f.i32(), id = f.i32(), from = f.i32();
        const at = f.i32(), rest = f.i32(), to = f.i32(), value = f.v128();
        f.forRange(token, f.begin, f.end, 1, () => {
          f.set(id, i32.load(i32.add(ids, i32.shl(token, 2))));
          const inside = f.i32(i32.ltU(id, rows)), row = i32.mul(id, width);
          // Ids outside the table read its first row, which is then replaced by zeros.
          const start = i32.select(inside, i32.shl(row, sizeShift(type)), 0);
          f.set(from, i32.add(table, start));
          const place = f.i32(i32.add(out, i32.shl(i32.mul(token, width), 2)));
          overRow(f, width, at, rest, (part) => {
            const offset = type === "bf16" ? i32.shrU(at, 1) : at;
            const found = loadDense(type, i32.add(from, offset));
            f.set(value, v128.select(inside, found, f.constant(0)));
            f.set(to, i32.add(place, at));
            if (part) storePart(s, "f32", to, value, rest);
            else storeDense(s, "f32", to, value);
          });
        });
      },
    })],
  };
}

export function embeddingGradWasm({ inputs: [dy], outputs }: OpContext): CpuLowering | undefined {
  const [{ shape: [rows, width] }] = outputs, type = storedAs(dy.dtype);
  if (!type) return undefined;
  const tokens = sizeOf(dy.shape) / width;
  return {
    jobs: [namedJob({
      key: `embedding_grad ${type}`,
      args: { dy: input(0), starts: input(1), order: input(2), out: output(0), width },
      units: rows,
      work: Math.ceil(width * (1 + tokens / rows)),
      build(f, { dy, starts, order, out, width }) {
        const s = vectorMath(f, false), row = f.i32(), place = f.i32(), to = f.i32();
        const at = f.i32(), rest = f.i32(), from = f.i32(), sum = f.v128(), next = f.i32();
        const listed = f.i32(), last = f.i32(), entry = f.i32();
        f.forRange(row, f.begin, f.end, 1, () => {
          f.set(entry, i32.add(starts, i32.shl(row, 2)));
          f.set(last, i32.load(entry, 4));
          f.set(place, i32.add(out, i32.shl(i32.mul(row, width), 2)));
          overRow(f, width, at, rest, (part) => {
            f.set(to, i32.add(place, at));
            if (part) storePart(s, "f32", to, f.constant(0), rest);
            else storeDense(s, "f32", to, f.constant(0));
          });
          f.forRange(listed, i32.load(entry), last, 1, () => {
            f.set(next, i32.load(i32.add(order, i32.shl(listed, 2))));
            f.set(from, i32.add(dy, i32.shl(i32.mul(next, width), sizeShift(type))));
            overRow(f, width, at, rest, (part) => {
              const offset = type === "bf16" ? i32.shrU(at, 1) : at;
              f.set(to, i32.add(place, at));
              f.set(sum, f32x4.add(v128.load(to), loadDense(type, i32.add(from, offset))));
              if (part) storePart(s, "f32", to, sum, rest);
              else storeDense(s, "f32", to, sum);
            });
          });
        });
      },
    })],
  };
}
