/**
 * The next token in WASM, without sorting: the k-th logit and the threshold of top-p are found bit
 * by bit, each bit by one pass over the row, so a token costs O(vocab).
 */

import type { OpContext } from "../../core/graph/tensor.ts";
import { type CpuLowering, input, output } from "../lowering.ts";
import { firstLanes, loadDense, overRow, storedAs } from "./elements.ts";
import {
  f32,
  f32x4,
  f64,
  type FunctionBuilder,
  type I32,
  i32,
  i32x4,
  type Local,
  type V128,
  v128,
} from "./encode.ts";
import { rowBytes } from "./fused.ts";
import { namedJob } from "./job.ts";
import { maxLanes, sumOf } from "./lanes.ts";
import type { Stored } from "./panels.ts";
import { scalarRules, type VectorMath, vectorMath } from "./scalar.ts";

export function sampleWasm({ inputs: [logits] }: OpContext): CpuLowering | undefined {
  const [batch, vocab] = logits.shape, type = storedAs(logits.dtype);
  if (!type) return undefined;
  return {
    jobs: [namedJob({
      key: `sample ${type}`,
      args: {
        logits: input(0),
        uniform: input(1),
        settings: input(2),
        tokens: output(0),
        logprobs: output(1),
        vocab,
        row_bytes: rowBytes(vocab),
      },
      units: batch,
      work: 40 * vocab,
      build(f, { logits, uniform, settings, tokens, logprobs, vocab, row_bytes }) {
        const s = vectorMath(f, false), unit = f.i32(), place = f.i32(), best = f.i32();
        const token = f.i32(), u = f.f32();
        const row = rowOf(s, f.scratch, vocab);
        const weights = f.i32(i32.add(f.scratch, row_bytes));
        const [temperature, top_k, top_p, min_p] = [0, 4, 8, 12].map((at) =>
          f.f32(f32.load(settings, at))
        );
        f.forRange(unit, f.begin, f.end, 1, () => {
          const bytes = type === "bf16" ? i32.shl(vocab, 1) : i32.shl(vocab, 2);
          row.read(type, f.i32(i32.add(logits, i32.mul(unit, bytes))));
          f.set(place, i32.shl(unit, 2));
          f.set(u, f32.load(i32.add(uniform, place)));
          f.set(best, row.firstOf(row.top));
          f.set(token, best);
          f.if(f32.gt(temperature, 0), () => {
            const last = row.kthLargest(top_k);
            const draw = weightsOf(s, row, weights, last, temperature);
            f.if(f32.lt(top_p, 1), () => draw.keepMass(top_p));
            f.if(f32.gt(min_p, 0), () => draw.keepFrom(f.v128(f32x4.splat(min_p))));
            draw.pick(u, token);
          });
          f.storeI32(i32.add(tokens, place), token);
          const chosen = f32.load(i32.add(f.scratch, i32.shl(token, 2)));
          const total = f.v128(f32x4.splat(f32.demoteF64(row.massOfAll())));
          const logTotal = f32x4.extractLane(scalarRules.log(s, total), 0);
          const above = f32.sub(chosen, f32x4.extractLane(row.top, 0));
          f.storeF32(i32.add(logprobs, place), f32.sub(above, logTotal));
        });
      },
    })],
    memberBytes: 2 * rowBytes(vocab),
  };
}

/** Vectors that are summed in single precision before the sum goes into a double. */
const chunkBytes = 16 * 256;

/** Σ value(at) over the bytes 0..end, in doubles every 1,024 elements. */
function sumOver(f: FunctionBuilder, end: I32, value: (at: Local<"i32">) => V128): Local<"f64"> {
  const total = f.f64(f64.promoteF32(f32.const(0))), chunk = f.i32(), at = f.i32(), sum = f.v128();
  f.forRange(chunk, 0, end, chunkBytes, () => {
    f.set(sum, f.constant(0));
    f.forRange(at, chunk, f.i32(i32.minU(end, i32.add(chunk, chunkBytes))), 16, () => {
      f.set(sum, f32x4.add(sum, value(at)));
    });
    f.set(total, f64.add(total, f64.promoteF32(sumOf(f, sum))));
  });
  return total;
}

/** A row of logits in scratch, filled up to whole vectors with −∞, so that no loop has a tail. */
function rowOf(s: VectorMath, place: Local<"i32">, vocab: Local<"i32">) {
  const { f } = s, top = f.v128(), end = f.i32(i32.and(i32.add(i32.shl(vocab, 2), 15), -16));
  const at = f.i32(), rest = f.i32(), x = f.v128();

  function read(type: Stored, from: Local<"i32">): void {
    f.set(top, f.constant(-Infinity));
    overRow(f, vocab, at, rest, (part) => {
      const value = loadDense(type, i32.add(from, type === "bf16" ? i32.shrU(at, 1) : at));
      f.set(x, value);
      if (part) f.set(x, v128.bitselect(x, f.constant(-Infinity), firstLanes(s, rest)));
      f.set(top, f32x4.pmax(top, x));
      f.store(i32.add(place, at), x);
    });
    f.set(top, maxLanes(f, top));
  }

  /** The first place that holds `value`, 0 if there is none. */
  function firstOf(value: Local<"v128">): Local<"i32"> {
    const found = f.i32(0), lanes = f.i32();
    f.set(at, 0);
    f.set(lanes, 0);
    f.while(i32.and(i32.eqz(lanes), i32.ltU(at, end)), () => {
      f.set(lanes, i32x4.bitmask(f32x4.eq(v128.load(i32.add(place, at)), value)));
      f.advance(at, 16);
    });
    const bit = (mask: number, lane: number, next: I32 | number): I32 =>
      i32.select(i32.and(lanes, mask), lane, next);
    f.if(lanes, () => {
      const lane = bit(1, 0, bit(2, 1, bit(4, 2, 3)));
      f.set(found, i32.add(i32.shrU(i32.sub(at, 16), 2), lane));
    });
    f.if(i32.geU(found, vocab), () => f.set(found, 0)); // a row of NaN has no largest
    return found;
  }

  /** Bits of floats as integers of the same order. */
  const ordered = (bits: Local<"v128">) =>
    v128.xor(bits, v128.and(i32x4.shrS(bits, 31), f.constantI32(0x7fffffff)));

  /**
   * The k-th largest logit in all lanes: the largest number that k of them reach. −∞ if k is 0 or
   * more than there are.
   */
  function kthLargest(k: Local<"f32">): Local<"v128"> {
    const threshold = f.v128(f.constant(-Infinity)), count = f.v128(), tried = f.v128();
    const wanted = f.i32(i32.truncF32S(k)), bit = f.i32(), reached = f.i32(), found = f.i32();
    f.if(i32.and(i32.gtS(wanted, 0), i32.ltS(wanted, vocab)), () => {
      f.set(reached, 0x80000000);
      f.set(bit, 0x80000000);
      f.while(bit, () => {
        f.set(tried, i32x4.splat(i32.xor(reached, bit)));
        f.set(count, f.constantI32(0));
        f.forRange(at, 0, end, 16, () => {
          f.set(x, v128.load(i32.add(place, at)));
          f.set(count, i32x4.sub(count, i32x4.geS(ordered(x), tried)));
        });
        f.set(found, [0, 1, 2, 3].map((n) => i32x4.extractLane(count, n)).reduce(i32.add));
        f.if(i32.geS(found, wanted), () => f.set(reached, i32.xor(reached, bit)));
        f.set(bit, i32.shrU(bit, 1));
      });
      f.set(x, i32x4.splat(reached));
      f.set(threshold, ordered(x));
    });
    return threshold;
  }

  /** Σ exp(z − top) over the unchanged row. */
  const massOfAll = () =>
    sumOver(f, end, (i) => {
      f.set(x, f32x4.sub(v128.load(i32.add(place, i)), top));
      return scalarRules.exp(s, x);
    });

  return { place, end, top, read, firstOf, kthLargest, massOfAll };
}

/** exp((z − top) / temperature) of the logits from `last` up, in scratch; 0 for the others. */
function weightsOf(
  s: VectorMath,
  { place, end, top }: ReturnType<typeof rowOf>,
  weights: Local<"i32">,
  last: Local<"v128">,
  temperature: Local<"f32">,
) {
  const { f } = s, x = f.v128(), power = f.v128(), at = f.i32();
  const total = sumOver(f, end, (i) => {
    f.set(x, v128.load(i32.add(place, i)));
    f.set(power, f32x4.div(f32x4.sub(x, top), f32x4.splat(temperature)));
    f.set(power, scalarRules.exp(s, power));
    f.set(x, v128.and(power, f32x4.ge(x, last)));
    f.store(i32.add(weights, i), x);
    return x;
  });

  /** Zeros all but the largest weights that together reach `share` of the whole. */
  function keepMass(share: Local<"f32">): void {
    const threshold = f.i32(0), bit = f.i32(1 << 29), tried = f.v128();
    const wanted = f.f64(f64.mul(f64.promoteF32(share), total));
    // Weights are at most 1: as integers below 2³⁰, and in the same order.
    f.while(bit, () => {
      f.set(tried, i32x4.splat(i32.or(threshold, bit)));
      const mass = sumOver(f, end, (i) => {
        f.set(x, v128.load(i32.add(weights, i)));
        return v128.and(x, f32x4.ge(x, tried));
      });
      f.if(f64.ge(mass, wanted), () => f.set(threshold, i32.or(threshold, bit)));
      f.set(bit, i32.shrU(bit, 1));
    });
    f.set(tried, i32x4.splat(threshold));
    keepFrom(tried);
  }

  /** Zeros the weights below `least`. */
  function keepFrom(least: Local<"v128">): void {
    f.forRange(at, 0, end, 16, () => {
      f.set(x, v128.load(i32.add(weights, at)));
      f.store(i32.add(weights, at), v128.and(x, f32x4.ge(x, least)));
    });
  }

  /** The first token, in the order of ids, at which the running sum passes u · sum. */
  function pick(u: Local<"f32">, token: Local<"i32">): void {
    const running = f.f64(f64.promoteF32(f32.const(0))), goal = f.f64(), done = f.i32(0);
    const weight = f.f32(),
      each = (visit: () => void) =>
        f.forRange(at, 0, end, 4, () => {
          f.set(weight, f32.load(i32.add(weights, at)));
          f.if(f32.gt(weight, 0), visit);
        });
    each(() => f.set(running, f64.add(running, f64.promoteF32(weight))));
    f.set(goal, f64.mul(f64.promoteF32(u), running));
    f.set(running, f64.promoteF32(f32.const(0)));
    each(() => {
      f.if(i32.eqz(done), () => {
        f.set(running, f64.add(running, f64.promoteF32(weight)));
        f.set(token, i32.shrU(at, 2));
        f.set(done, f64.gt(running, goal));
      });
    });
  }
  return { keepMass, keepFrom, pick };
}
