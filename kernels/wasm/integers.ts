/**
 * Integer steps in WASM. They are tiny; their point is that the pool need not wait for
 * the main thread's JavaScript.
 */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { f32, i32 } from "./encode.ts";
import { namedJob } from "./job.ts";

export function addIntegerWasm({ inputs: [x], attrs }: OpContext): CpuLowering {
  return {
    jobs: [namedJob({
      key: "add_integer",
      args: { x: input(0), out: output(0), by: attrs.by as number },
      units: sizeOf(x.shape),
      work: 1,
      build(f, { x, out, by }) {
        const at = f.i32();
        f.forRange(at, i32.shl(f.begin, 2), i32.shl(f.end, 2), 4, () => {
          f.storeI32(i32.add(out, at), i32.add(i32.load(i32.add(x, at)), by));
        });
      },
    })],
  };
}

export function positionsWasm({ outputs: [out], attrs }: OpContext): CpuLowering {
  return {
    jobs: [namedJob({
      key: "positions",
      args: { start: input(0), out: output(0), time: attrs.time as number },
      units: sizeOf(out.shape),
      work: 1,
      build(f, { start, out, time }) {
        const i = f.i32();
        f.forRange(i, f.begin, f.end, 1, () => {
          const first = i32.load(i32.add(start, i32.shl(i32.divU(i, time), 2)));
          f.storeI32(i32.add(out, i32.shl(i, 2)), i32.add(first, i32.remU(i, time)));
        });
      },
    })],
  };
}

export function toFloatWasm({ inputs: [x] }: OpContext): CpuLowering {
  return {
    jobs: [namedJob({
      key: "to_float",
      args: { x: input(0), out: output(0) },
      units: sizeOf(x.shape),
      work: 1,
      build(f, { x, out }) {
        const at = f.i32();
        f.forRange(at, i32.shl(f.begin, 2), i32.shl(f.end, 2), 4, () => {
          f.storeF32(i32.add(out, at), f32.convertI32S(i32.load(i32.add(x, at))));
        });
      },
    })],
  };
}
