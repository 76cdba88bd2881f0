/** Philox 4x32-10 on four counters at once: the bits of `core/graph/random.ts`. */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { f32x4, type FunctionBuilder, i32, i32x4, i64x2, type Local, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import { transposed } from "./lanes.ts";

type Vector = Local<"v128">;

/** Counters of a unit; each gives four numbers. */
const unitCounters = 1024;

export function uniformWasm({ inputs: [keys], outputs: [out], attrs }: OpContext): CpuLowering {
  const rows = keys.shape.length === 1 ? 1 : keys.shape[0], size = sizeOf(out.shape) / rows;
  const perRow = Math.ceil(size / 4 / unitCounters);
  return {
    jobs: [namedJob({
      key: "uniform",
      args: { keys: input(0), out: output(0), stream: attrs.stream as number, size, perRow },
      units: rows * perRow,
      work: 20 * 4 * unitCounters,
      build(f, { keys, out, stream, size, perRow }) {
        const [c0, c1, c2, c3] = f.vectors(4), counter = f.i32(), left = f.i32();
        const to = f.i32(), copied = f.i32(), words = [c0, c1, c2, c3], unit = f.i32();
        const step = f.v128(), streams = f.v128(i32x4.splat(stream));
        const { setKey, rounds } = emitRounds(f);
        f.forRange(unit, f.begin, f.end, 1, () => {
          const row = f.i32(i32.divU(unit, perRow));
          const first = f.i32(i32.mul(i32.remU(unit, perRow), unitCounters));
          const key = f.i32(i32.add(keys, i32.mul(row, 12)));
          const to0 = f.i32(i32.add(out, i32.shl(i32.mul(row, size), 2)));
          setKey(key);
          f.set(step, v128.load32Splat(key, 8));
          const last = f.i32(
            i32.minU(i32.add(first, unitCounters), i32.shrU(i32.add(size, 3), 2)),
          );
          f.forRange(counter, first, last, 4, () => {
            const lanes = f.v128(i32x4.splat(counter));
            f.set(c0, i32x4.add(lanes, emitLanes(f)));
            f.set(c1, step);
            f.set(c2, streams);
            f.set(c3, f.constantI32(0));
            rounds(words);
            for (const word of words) {
              // 23 bits and a half, exact in f32.
              const number = f32x4.convertI32x4U(i32x4.shrU(word, 9));
              f.set(word, f32x4.mul(f32x4.add(number, f.constant(0.5)), f.constant(2 ** -23)));
            }
            const blocks = transposed(words).map((block) => f.v128(block));
            const start = i32.shl(counter, 2);
            f.set(left, i32.sub(size, start));
            f.set(to, i32.add(to0, i32.shl(start, 2)));
            f.if(i32.geU(left, 16), () => {
              blocks.forEach((block, n) => f.store(to, block, 16 * n));
            }, () => {
              blocks.forEach((block, n) => f.store(f.scratch, block, 16 * n));
              f.forRange(copied, 0, i32.shl(left, 2), 4, () => {
                f.storeI32(i32.add(to, copied), i32.load(i32.add(f.scratch, copied)));
              });
            });
          });
        });
      },
    })],
    memberBytes: 64,
  };
}

/** 0, 1, 2, 3 as integers. */
function emitLanes(f: FunctionBuilder) {
  return i32x4.truncF32x4S(f.constants([0, 1, 2, 3]));
}

/** The ten rounds, in place, under a key. Its two words grow by constants from round to round. */
function emitRounds(f: FunctionBuilder) {
  const first = f.vectors(2);
  const keys = f.vectors(2), high = f.vectors(2), low = f.vectors(2), half = f.v128();
  const setKey = (key: Local<"i32">) =>
    first.forEach((word, n) => f.set(word, v128.load32Splat(key, 4 * n)));
  const multiply = (n: number, factor: number, x: Vector) => {
    const constant = f.constantI32(factor);
    f.set(half, i64x2.extmulLowU(x, constant));
    f.set(low[n], i64x2.extmulHighU(x, constant));
    f.set(high[n], v128.shuffle32(half, low[n], [1, 3, 5, 7]));
    f.set(low[n], v128.shuffle32(half, low[n], [0, 2, 4, 6]));
  };
  const rounds = ([c0, c1, c2, c3]: readonly Vector[]) => {
    keys.forEach((k, n) => f.set(k, first[n]));
    for (let round = 0; round < 10; round++) {
      multiply(0, 0xd2511f53, c0);
      multiply(1, 0xcd9e8d57, c2);
      f.set(c0, v128.xor(v128.xor(high[1], c1), keys[0]));
      f.set(c2, v128.xor(v128.xor(high[0], c3), keys[1]));
      f.set(c1, low[1]);
      f.set(c3, low[0]);
      f.set(keys[0], i32x4.add(keys[0], f.constantI32(0x9e3779b9)));
      f.set(keys[1], i32x4.add(keys[1], f.constantI32(0xbb67ae85)));
    }
  };
  return { setKey, rounds };
}
