/** Running sums in WASM: a unit is a stretch of channels of a row, which walks along the time. */

import type { OpContext } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { overRow, storeDense, storePart } from "./elements.ts";
import { f32x4, i32, i32x4, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import { vectorMath } from "./scalar.ts";

/** Channels of a unit. */
const stretch = 64;

export function runningSumWasm({ inputs: [x, segments], attrs }: OpContext): CpuLowering {
  const [batch, time, channels] = x.shape, reverse = Boolean(attrs.reverse);
  const perRow = Math.ceil(channels / stretch);
  return {
    jobs: [namedJob({
      key: `running_sum ${reverse ? "reverse" : "forward"} ${segments ? "segments" : "whole"}`,
      args: {
        x: input(0),
        segments: segments ? input(1) : 0,
        out: output(0),
        time,
        channels,
        perRow,
      },
      units: batch * perRow,
      work: time * Math.min(stretch, channels),
      build(f, { x, segments: ids, out, time, channels, perRow }) {
        const s = vectorMath(f, false), unit = f.i32(), step = f.i32();
        const token = f.i32(), goesOn = f.i32(), at = f.i32(), rest = f.i32();
        const from = f.i32(), to = f.i32(), before = f.i32(), id = f.i32(), lastId = f.i32();
        const sum = f.v128(), mask = f.v128();
        f.forRange(unit, f.begin, f.end, 1, () => {
          const row = f.i32(i32.mul(i32.divU(unit, perRow), time));
          const channel = f.i32(i32.mul(i32.remU(unit, perRow), stretch));
          const count = f.i32(i32.minU(stretch, i32.sub(channels, channel)));
          f.set(goesOn, 0);
          f.forRange(step, 0, time, 1, () => {
            f.set(
              token,
              i32.add(row, reverse ? i32.sub(i32.sub(time, 1), step) : step),
            );
            if (segments) {
              f.set(id, i32.load(i32.add(ids, i32.shl(token, 2))));
              f.set(goesOn, i32.and(goesOn, i32.eq(id, lastId)));
              f.set(lastId, id);
            }
            const place = f.i32(i32.shl(i32.add(i32.mul(token, channels), channel), 2));
            // All ones where the sum goes on: before the first token `before` holds no number.
            f.set(mask, i32x4.splat(i32.sub(0, goesOn)));
            f.set(from, i32.add(x, place));
            f.set(to, i32.add(out, place));
            f.if(i32.eqz(goesOn), () => f.set(before, to));
            overRow(f, count, at, rest, (part) => {
              const old = v128.and(v128.load(i32.add(before, at)), mask);
              f.set(sum, f32x4.add(v128.load(i32.add(from, at)), old));
              const target = f.i32(i32.add(to, at));
              if (part) storePart(s, "f32", target, sum, rest);
              else storeDense(s, "f32", target, sum);
            });
            f.set(before, to);
            f.set(goesOn, 1);
          });
        });
      },
    })],
  };
}
