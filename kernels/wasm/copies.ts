/** Joining tensors, and writing rows into a cache. */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import {
  bytesPerElement,
  type CpuLowering,
  type CpuTarget,
  input,
  output,
  type WasmJob,
} from "../lowering.ts";
import { loadDense, overRow, storedAs, storeDense, storePart } from "./elements.ts";
import { i32, v128 } from "./encode.ts";
import { fusedJobs } from "./fused.ts";
import { namedJob } from "./job.ts";
import { vectorMath } from "./scalar.ts";
import { programWriter } from "../program_writer.ts";

/** One copy for each part, into its columns of the result. */
export function concatWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs: [out], attrs } = node, axis = attrs.axis as number;
  const outer = sizeOf(out.shape.slice(0, axis)), inner = sizeOf(out.shape.slice(axis));
  const jobs: WasmJob[] = [];
  let column = 0;
  for (const [n, part] of inputs.entries()) {
    const width = sizeOf(part.shape.slice(axis)), p = programWriter([outer, width]);
    const program = {
      ...p.finish([p.read([width, 1])], out),
      places: [{ strides: [inner, 1], offset: column }],
    };
    const found = fusedJobs(program, [input(n)], [output(0)], [part], target);
    if (!found) return undefined;
    jobs.push(...found.jobs);
    column += width;
  }
  return { jobs };
}

/** Elements of a unit of the copy that is needed when the cache is not written in place. */
const copyBytes = 1 << 16;

/**
 * The cache is copied, unless its output has its place; then rows [batch · time] are written where
 * they belong.
 */
export function cacheWriteWasm(node: OpContext): CpuLowering | undefined {
  const { inputs: [cache, rows] } = node, [batch, capacity] = cache.shape, time = rows.shape[1];
  const type = storedAs(cache.dtype), from = storedAs(rows.dtype);
  if (!type || !from) return undefined;
  const bytes = sizeOf(cache.shape) * bytesPerElement(cache.dtype);
  const width = sizeOf(cache.shape.slice(2));
  const copy = namedJob({
    key: "copy_unless_in_place",
    args: { from: input(0), to: output(0), bytes },
    units: Math.ceil(bytes / copyBytes),
    work: 1, // in place there is nothing to do, so it is not worth sharing out
    build(f, { from, to, bytes }) {
      const at = f.i32(), end = f.i32(i32.minU(i32.mul(f.end, copyBytes), bytes));
      const whole = f.i32(i32.and(end, -16));
      f.if(i32.ne(from, to), () => {
        f.forRange(at, i32.mul(f.begin, copyBytes), whole, 16, () => {
          f.store(i32.add(to, at), v128.load(i32.add(from, at)));
        });
        // Whole elements of 2 or 4 bytes are left.
        f.forRange(at, whole, end, 2, () => {
          f.store16(i32.add(to, at), i32.load16u(i32.add(from, at)));
        });
      });
    },
  });
  const write = namedJob({
    key: `cache_write ${from} ${type}`,
    args: { rows: input(1), starts: input(2), out: output(0), capacity, time, width },
    units: batch * time,
    work: width,
    build(f, { rows, starts, out, capacity, time, width }) {
      const s = vectorMath(f, false), row = f.i32(), position = f.i32(), source = f.i32();
      const at = f.i32(), rest = f.i32(), to = f.i32(), value = f.v128(), target = f.i32();
      f.forRange(row, f.begin, f.end, 1, () => {
        const b = f.i32(i32.divU(row, time));
        const start = i32.load(i32.add(starts, i32.shl(b, 2)));
        f.set(position, i32.add(start, i32.remU(row, time)));
        f.if(i32.ltU(position, capacity), () => {
          const place = i32.mul(i32.add(i32.mul(b, capacity), position), width);
          f.set(target, i32.add(out, i32.mul(place, bytesPerElement(type))));
          f.set(source, i32.add(rows, i32.mul(i32.mul(row, width), bytesPerElement(from))));
          overRow(f, width, at, rest, (part) => {
            const offset = (stored: typeof type) => stored === "bf16" ? i32.shrU(at, 1) : at;
            f.set(value, loadDense(from, i32.add(source, offset(from))));
            f.set(to, i32.add(target, offset(type)));
            if (part) storePart(s, type, to, value, rest);
            else storeDense(s, type, to, value);
          });
        });
      });
    },
  });
  return { jobs: [copy, write] };
}
