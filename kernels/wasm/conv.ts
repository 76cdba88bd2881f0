/**
 * Depthwise convolutions in WASM. Forward a unit is a token; for the weights' gradient it is a tap and
 * a stretch of channels, summed over the tokens in order.
 */

import type { OpContext } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { overRow, storeDense, storePart } from "./elements.ts";
import { f32x4, type FunctionBuilder, type I32, i32, type Local, v128 } from "./encode.ts";
import { namedJob } from "./job.ts";
import { vectorMath } from "./scalar.ts";

/** Channels of a unit of the weights' gradient. */
const stretch = 64;

/** Whether a token and another are of one segment; 1 where there are none. */
function sameSegment(segments: Local<"i32"> | undefined, token: I32, other: I32): I32 {
  if (!segments) return i32.const(1);
  const id = (at: I32) => i32.load(i32.add(segments, i32.shl(at, 2)));
  return i32.eq(id(token), id(other));
}

export function causalConvWasm({ inputs: [x, weight, segments], attrs }: OpContext): CpuLowering {
  const [batch, time, channels] = x.shape, ahead = attrs.direction !== 1;
  return {
    jobs: [namedJob({
      key: `causal_conv ${ahead ? "ahead" : "back"} ${segments ? "segments" : "whole"}`,
      args: {
        x: input(0),
        weight: input(1),
        ids: segments ? input(2) : 0,
        out: output(0),
        time,
        channels,
        taps: weight.shape[0],
      },
      units: batch * time,
      work: 2 * weight.shape[0] * channels,
      build(f, { x, weight, ids, out, time, channels, taps }) {
        const s = vectorMath(f, false), token = f.i32(), back = f.i32();
        const at = f.i32(), rest = f.i32(), sum = f.v128();
        f.forRange(token, f.begin, f.end, 1, () => {
          const place = f.i32(i32.remU(token, time));
          const room = f.i32(ahead ? i32.sub(i32.sub(time, 1), place) : place);
          const seen = f.i32(i32.minU(taps, i32.add(room, 1)));
          const to = f.i32(i32.add(out, i32.shl(i32.mul(token, channels), 2)));
          overRow(f, channels, at, rest, (part) => {
            f.set(sum, f.constant(0));
            f.forRange(back, 0, seen, 1, () => {
              const other = f.i32(ahead ? i32.add(token, back) : i32.sub(token, back));
              f.if(sameSegment(segments ? ids : undefined, token, other), () => {
                const row = (base: Local<"i32">, index: I32) =>
                  v128.load(i32.add(i32.add(base, i32.shl(i32.mul(index, channels), 2)), at));
                const tap = row(weight, i32.sub(i32.sub(taps, 1), back));
                f.set(sum, f32x4.add(sum, f32x4.mul(tap, row(x, other))));
              });
            });
            const target = f.i32(i32.add(to, at));
            if (part) storePart(s, "f32", target, sum, rest);
            else storeDense(s, "f32", target, sum);
          });
        });
      },
    })],
  };
}

export function causalConvWeightsWasm({ inputs: [x, , segments], attrs }: OpContext): CpuLowering {
  const [batch, time, channels] = x.shape, taps = attrs.taps as number;
  const perTap = Math.ceil(channels / stretch);
  return {
    jobs: [namedJob({
      key: `causal_conv_weights ${segments ? "segments" : "whole"}`,
      args: {
        x: input(0),
        dy: input(1),
        ids: segments ? input(2) : 0,
        out: output(0),
        time,
        tokens: batch * time,
        channels,
        taps,
        perTap,
      },
      units: taps * perTap,
      work: 2 * batch * time * Math.min(stretch, channels),
      build: (f, args) => emitWeights(f, args, Boolean(segments)),
    })],
  };
}

type Names = "x" | "dy" | "ids" | "out" | "time" | "tokens" | "channels" | "taps" | "perTap";

function emitWeights(
  f: FunctionBuilder,
  { x, dy, ids, out, time, tokens, channels, taps, perTap }: Record<Names, Local<"i32">>,
  hasSegments: boolean,
): void {
  const s = vectorMath(f, false), unit = f.i32(), token = f.i32(), at = f.i32(), rest = f.i32();
  const sum = f.v128();
  f.forRange(unit, f.begin, f.end, 1, () => {
    const tap = f.i32(i32.divU(unit, perTap));
    const back = f.i32(i32.sub(i32.sub(taps, 1), tap));
    const channel = f.i32(i32.mul(i32.remU(unit, perTap), stretch));
    const count = i32.minU(stretch, i32.sub(channels, channel));
    const place = (row: I32) => i32.shl(i32.add(i32.mul(row, channels), channel), 2);
    const to = f.i32(i32.add(out, place(tap)));
    overRow(f, count, at, rest, (part) => {
      f.set(sum, f.constant(0));
      f.forRange(token, 0, tokens, 1, () => {
        const other = f.i32(i32.sub(token, back));
        const isInside = i32.geU(i32.remU(token, time), back);
        f.if(isInside, () => {
          f.if(sameSegment(hasSegments ? ids : undefined, token, other), () => {
            const value = (base: Local<"i32">, row: I32) =>
              v128.load(i32.add(i32.add(base, place(row)), at));
            f.set(sum, f32x4.add(sum, f32x4.mul(value(dy, token), value(x, other))));
          });
        });
      });
      const target = f.i32(i32.add(to, at));
      if (part) storePart(s, "f32", target, sum, rest);
      else storeDense(s, "f32", target, sum);
    });
  });
}
