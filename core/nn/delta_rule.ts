/**
 * The gated delta rule (Yang et al. 2024, arXiv 2412.06464): a state S [key width, value width] of each
 * head that forgets, and corrects what it says of each key. Two forms of the same numbers: token by
 * token, and in chunks of which all but one short scan is matrix products.
 */

import {
  add,
  concat,
  constant,
  equal,
  exp,
  expand,
  fill,
  matmul,
  mul,
  permute,
  reshape,
  runningSum,
  slice,
  strictlyLower,
  sub,
  unitLowerInverse,
} from "../../kernels/mod.ts";
import type { Tensor } from "../graph/mod.ts";

/** What the rule reads of each token and head. A key head serves as many heads next to each other. */
export interface DeltaInputs {
  /** [batch, time, key heads, key width], scaled by the caller. */
  readonly q: Tensor;
  /** [batch, time, key heads, key width], of length 1. */
  readonly k: Tensor;
  /** [batch, time, heads, value width] */
  readonly v: Tensor;
  /** [batch, time, heads]: the logarithm of what is left of the state, at most 0. */
  readonly g: Tensor;
  /** [batch, time, heads]: how much of a correction is made, 0 to 1. Where it and `g` are 0 the state stays. */
  readonly beta: Tensor;
  /** f32 [batch, time]: numbers of segments, each of which begins with an empty state. */
  readonly segments?: Tensor | undefined;
}

/** Outputs [batch, time, heads, value width], and the state [batch, heads, key width, value width]. */
export interface DeltaOutputs {
  readonly out: Tensor;
  readonly state: Tensor;
}

/** Tokens of a chunk: what the originals take. */
const CHUNK = 64;

/**
 * S ← eᵍS; d = β(v − Sᵀk); S ← S + kdᵀ; o = Sᵀq, from the state before. One token is done as it
 * stands, more in chunks.
 */
export function gatedDelta(inputs: DeltaInputs, before: Tensor, chunk = CHUNK): DeltaOutputs {
  const time = inputs.q.shape[1];
  if (time === 1) return oneToken(inputs, before);
  return inChunks(inputs, before, Math.min(chunk, time));
}

function oneToken({ q, k, v, g, beta }: DeltaInputs, before: Tensor): DeltaOutputs {
  const [batch, , heads] = g.shape, keyHeads = k.shape[2], served = heads / keyHeads;
  // [batch, heads, 1, width]
  const rows = (x: Tensor) => {
    const width = x.shape[3], groups = [batch, keyHeads, x.shape[2] / keyHeads, width];
    const all = expand(reshape(x, groups), [batch, keyHeads, served, width]);
    return reshape(all, [batch, heads, 1, width]);
  };
  const each = (x: Tensor) => reshape(x, [batch, heads, 1, 1]);
  const kept = mul(before, each(exp(g))), key = rows(k);
  const d = mul(each(beta), sub(rows(v), matmul(key, kept)));
  const state = add(kept, matmul(key, d, { transA: true }));
  return { out: permute(matmul(rows(q), state), [0, 2, 1, 3]), state };
}

/**
 * With G the running sum of g in a chunk: the corrections d solve a unit lower triangular system, whose
 * inverse M is found for all chunks at once; then chunk after chunk N = M(βv) − M(βe^G k)S are the
 * corrections that the state S before it leaves.
 */
function inChunks(inputs: DeltaInputs, before: Tensor, size: number): DeltaOutputs {
  const [batch, time, heads, dv] = inputs.v.shape, chunks = Math.ceil(time / size);
  const [, , keyHeads, dk] = inputs.k.shape, served = heads / keyHeads;
  const padded = (x: Tensor) => {
    const missing = chunks * size - time;
    if (missing === 0) return x;
    return concat([x, fill([x.shape[0], missing, ...x.shape.slice(2)], 0)], 1);
  };
  // [chunks, batch, key heads, heads of one, size, width]: a chunk is one stretch of memory
  const divided = (x: Tensor, count: number, width: number) =>
    permute(
      reshape(padded(x), [batch, chunks, size, keyHeads, count, width]),
      [1, 0, 3, 4, 2, 5],
    );
  const [q, k] = [divided(inputs.q, 1, dk), divided(inputs.k, 1, dk)];
  const [v, beta] = [divided(inputs.v, served, dv), divided(inputs.beta, served, 1)];
  const g = divided(inputs.g, served, 1),
    seen = inputs.segments &&
      segmentMasks(extended(inputs.segments, chunks * size), size);

  const within = mul(exp(summed(mul(g, triangle(size, "behind", (i, j) => j < i)))), lower(size));
  const decays = seen ? mul(within, seen.alike) : within;
  // from the state before the chunk to each token, and from each token to the chunk's end
  const later = concat([slice(g, 4, 1, size - 1), fill([...g.shape.slice(0, 4), 1, 1], 0)], 4);
  const sinceStart = exp(summed(g)), untilEnd = exp(summed(later, { reverse: true }));
  const reach = seen ? mul(sinceStart, seen.fromBefore) : sinceStart;

  const overlaps = mul(mul(matmul(k, k, { transB: true }), decays), beta);
  const inverse = unitLowerInverse(mul(mul(overlaps, strictlyLower(size)), -1));
  const own = matmul(inverse, mul(v, beta));
  const ofState = matmul(inverse, mul(k, mul(beta, reach)));
  const scores = mul(matmul(q, k, { transB: true }), decays);
  const leaving = mul(k, seen ? mul(untilEnd, seen.toEnd) : untilEnd);
  const kept = slice(reach, 4, size - 1, 1);

  // the scan: what must wait for the chunk before, and no more
  const states: Tensor[] = [], corrections: Tensor[] = [];
  let state = reshape(before, [batch, keyHeads, served, dk, dv]);
  for (let n = 0; n < chunks; n++) {
    const at = (x: Tensor) => reshape(slice(x, 0, n, 1), x.shape.slice(1));
    const corrected = sub(at(own), matmul(at(ofState), state));
    states.push(state);
    corrections.push(corrected);
    state = add(mul(state, at(kept)), matmul(at(leaving), corrected, { transA: true }));
  }
  const stacked = (each: Tensor[]) => concat(each.map((x) => reshape(x, [1, ...x.shape])), 0);
  const outs = add(
    matmul(mul(q, reach), stacked(states)),
    matmul(scores, stacked(corrections)),
  );
  const joined = reshape(permute(outs, [1, 0, 4, 2, 3, 5]), [batch, chunks * size, heads, dv]);
  return {
    out: chunks * size === time ? joined : slice(joined, 1, 0, time),
    state: reshape(state, [batch, heads, dk, dv]),
  };
}

/**
 * Sums along the tokens of a chunk, up to and with each; or from each on. Sums of what lies between two tokens, never
 * differences of sums from the start: those lose all digits behind a gate that is nearly shut.
 */
function summed(x: Tensor, { reverse = false } = {}): Tensor {
  const [size, width] = x.shape.slice(-2);
  return reshape(runningSum(reshape(x, [-1, size, width]), undefined, { reverse }), x.shape);
}

/** Segments up to `time`, the last of each row going on. */
function extended(segments: Tensor, time: number): Tensor {
  const [batch, length] = segments.shape;
  if (length === time) return segments;
  const last = slice(segments, 1, length - 1, 1);
  return concat([segments, expand(last, [batch, time - length])], 1);
}

/** What segments leave of a chunk's connections; all [chunks, batch, 1, 1, …]. */
function segmentMasks(segments: Tensor, size: number) {
  const [batch, time] = segments.shape, chunks = time / size;
  const ids = permute(reshape(segments, [batch, chunks, size]), [1, 0, 2]);
  const down = reshape(ids, [chunks, batch, 1, 1, size, 1]);
  const last = slice(down, 4, size - 1, 1);
  // the segment that the state before a chunk belongs to; before the first it is the first token's
  const first = slice(slice(down, 0, 0, 1), 4, 0, 1);
  const before = chunks === 1 ? first : concat([first, slice(last, 0, 0, chunks - 1)], 0);
  return {
    /** Tokens i and j: [..., size, size]. */
    alike: equal(down, reshape(ids, [chunks, batch, 1, 1, 1, size])),
    /** Token i and the state: [..., size, 1]. */
    fromBefore: equal(down, before),
    /** Token i and the chunk's last: [..., size, 1]. */
    toEnd: equal(down, last),
  };
}

/** 1 on and below the diagonal of an n × n matrix, else 0. */
function lower(n: number): Tensor {
  return triangle(n, "lower", (i, j) => j <= i);
}

function triangle(n: number, name: string, has: (i: number, j: number) => boolean): Tensor {
  const values = Float32Array.from({ length: n * n }, (_, at) => +has(Math.floor(at / n), at % n));
  return constant(`${name} ${n}`, [n, n], values);
}
