/**
 * The optimizer in WASM: AdamW as a fused program, and the norm of all gradients in one pass over
 * them.
 */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import {
  type CpuLowering,
  type CpuTarget,
  input,
  output,
  scratch,
  type WasmJob,
} from "../lowering.ts";
import { f32, f32x4, f64, type FunctionBuilder, i32, type Local, v128 } from "./encode.ts";
import { firstLanes, overRow } from "./elements.ts";
import { fusedJobs } from "./fused.ts";
import { namedJob } from "./job.ts";
import { sumOf } from "./lanes.ts";
import { vectorMath } from "./scalar.ts";
import { decayWord } from "../hyper.ts";
import { programWriter } from "../program_writer.ts";

export function adamWWasm({ inputs, outputs, attrs }: OpContext, target: CpuTarget) {
  const [param, , , , hyper, gate] = inputs, size = sizeOf(param.shape);
  const { eps, decay } = attrs as Record<string, number>;
  const p = programWriter([size]);
  const [old, grad, m, v] = [0, 1, 2, 3].map(() => p.read([1]));
  const words = [0, 1, 2, 3, 4, 5, 6, decayWord(decay)];
  const [lr, c1, c2, beta1, rest1, beta2, rest2, weightDecay] = words.map((word) =>
    p.read([0], word)
  );
  const [scale, finite] = [0, 1].map((word) => p.read([0], word));
  const { call, constant } = p;

  const g = call("mul", grad, scale);
  const first = call("add", call("mul", m, beta1), call("mul", g, rest1));
  const squared = call("mul", call("square", g), rest2);
  const second = call("add", call("mul", v, beta2), squared);
  const kept = call("sub", constant(1), call("mul", lr, weightDecay));
  const spread = call("mul", call("sqrt", second), call("rsqrt", c2));
  const step = call(
    "div",
    call("mul", first, call("div", lr, c1)),
    call("add", spread, constant(eps)),
  );
  const moved = call("sub", call("mul", old, kept), step);
  const unless = (now: number, before: number) => call("where", finite, now, before);
  const program = p.finish([unless(moved, old), unless(first, m), unless(second, v)], outputs[0]);
  const reads = [0, 1, 2, 3, ...words.map(() => 4), 5, 5];
  return fusedJobs(
    program,
    reads.map(input),
    outputs.map((_, n) => output(n)),
    [...inputs.slice(0, 4), ...words.map(() => hyper), gate, gate],
    target,
  );
}

/** Elements of a unit of the norm. */
const blockElements = 4096;

/**
 * A unit is a block of one gradient; it writes the sum of its squares. Then one member adds them in
 * double precision.
 */
export function globalNormWasm({ inputs }: OpContext): CpuLowering {
  const sizes = inputs.slice(2).map(({ shape }) => sizeOf(shape));
  const blocks = sizes.map((size) => Math.ceil(size / blockElements));
  const total = blocks.reduce((a, b) => a + b, 0);
  let end = 0;
  const squares: WasmJob = {
    fn: { key: "sum_of_squares", build: emitSquares },
    args: [
      scratch(0),
      ...sizes.flatMap((size, n) => [input(n + 2), size, end += blocks[n]]),
    ],
    units: total,
    work: blockElements,
  };
  const finish = namedJob({
    key: "global_norm",
    args: {
      partials: scratch(0),
      total,
      count: input(0),
      limit: input(1),
      norm: output(0),
      gate: output(1),
    },
    units: 1,
    work: total,
    build(f, { partials, total, count, limit, norm, gate }) {
      const sum = f.f64(), at = f.i32();
      f.forRange(at, partials, i32.add(partials, i32.shl(total, 2)), 4, () => {
        f.set(sum, f64.add(sum, f64.promoteF32(f32.load(at))));
      });
      const tokens = f.f32(f32.max(f32.load(count), 1)), most = f.f32(f32.load(limit));
      const mean = f.f32(f32.div(f32.demoteF64(f64.sqrt(sum)), tokens));
      const isFinite = (x: Parameters<typeof i32.reinterpretF32>[0]) =>
        i32.ne(i32.and(i32.reinterpretF32(x), 0x7f800000), 0x7f800000);
      const finite = f.i32(i32.and(isFinite(mean), isFinite(f32.demoteF64(sum))));
      const limited = f32.min(1, f32.div(most, f32.add(mean, 1e-6)));
      const factor = f32.select(f32.gt(most, 0), limited, 1);
      f.if(i32.ltU(f.begin, f.end), () => {
        f.storeF32(norm, mean);
        f.storeF32(gate, f32.select(finite, f32.div(factor, tokens), 0));
        f.storeF32(gate, f32.convertI32S(finite), 4);
      });
    },
  });
  return { jobs: [squares, finish], scratchBytes: [4 * total] };
}

/** Arguments: where the sums go, then (address, elements, end of its blocks) of each gradient. */
function emitSquares(f: FunctionBuilder): void {
  const partials = f.arg(0), s = vectorMath(f, false);
  const entry = f.i32(i32.add(f.args, 4)), first = f.i32(), unit = f.i32(), at = f.i32();
  const from = f.i32(), count = f.i32(), left = f.i32(), rest = f.i32();
  const [sum, x] = f.vectors(2), sums = f.vectors(4);
  const square = (value: Local<"v128">, into: Local<"v128">) =>
    f.set(into, f32x4.add(into, f32x4.mul(value, value)));
  f.forRange(unit, f.begin, f.end, 1, () => {
    f.while(i32.geU(unit, i32.load(entry, 8)), () => {
      f.set(first, i32.load(entry, 8));
      f.advance(entry, 12);
    });
    const done = f.i32(i32.mul(i32.sub(unit, first), blockElements));
    f.set(from, i32.add(i32.load(entry), i32.shl(done, 2)));
    f.set(count, i32.minU(i32.sub(i32.load(entry, 4), done), blockElements));
    sums.forEach((part) => f.set(part, f.constant(0)));
    const whole = f.i32(i32.and(count, -16)), end = f.i32(i32.add(from, i32.shl(whole, 2)));
    f.forRange(left, from, end, 64, () => {
      sums.forEach((part, n) => {
        f.set(x, v128.load(left, 16 * n));
        square(x, part);
      });
    });
    f.set(sum, f32x4.add(f32x4.add(sums[0], sums[1]), f32x4.add(sums[2], sums[3])));
    overRow(f, i32.sub(count, whole), at, rest, (part) => {
      const value = v128.load(i32.add(left, at));
      f.set(x, part ? v128.and(value, firstLanes(s, rest)) : value);
      square(x, sum);
    });
    f.storeF32(i32.add(partials, i32.shl(unit, 2)), sumOf(f, sum));
  });
}
