/**
 * Softmax attention that never holds the scores (Dao et al. 2022): forward, backward and, over a
 * cache, for decoding. Grouped heads (query head h reads key head h // (heads / kv_heads)), causal,
 * window, document mask, softcap.
 */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  type Numbers,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { defineOp, type Kernel } from "./lowering.ts";
import { attentionGradWasm, attentionWasm, cachedAttentionWasm } from "./wasm/attention.ts";
import { attentionSizes } from "./sizes.ts";
import {
  attentionGradKernels,
  attentionKernels,
  cachedAttentionKernels,
} from "./webgpu/attention.ts";

export { attentionSizes } from "./sizes.ts";

export interface AttentionAttrs {
  /** Query i sees keys j ≤ i. */
  readonly causal: boolean;
  /** Query i sees keys j > i − window only; 0 is no limit. */
  readonly window: number;
  /** Factor of the scores, mostly 1/√width. */
  readonly scale: number;
  /** Scores become cap · tanh(score / cap); 0 leaves them. */
  readonly softcap: number;
}

function checkHeads([q, k, v]: readonly Spec[]): void {
  expect(
    [q, k, v].every((x) => isFloat(x.dtype) && x.shape.length === 4),
    "takes q, k, v as [batch, time, heads, width]",
  );
  expect(k.shape.join() === v.shape.join(), "keys and values differ in shape");
  expect(
    q.shape[0] === k.shape[0] && q.shape[3] === k.shape[3],
    "queries and keys differ in batch or width",
  );
  expect(q.shape[2] % k.shape[2] === 0, `${q.shape[2]} heads cannot share ${k.shape[2]} key heads`);
}

/** Whether a head's channels are whole quads: halves are stored four at a time. */
const isInQuads = ([q]: readonly Spec[]) => q.shape[3] % 4 === 0;

/** Key positions that query position `i` may look at, before documents are asked. */
function keyRange(i: number, keys: number, { causal, window }: AttentionAttrs): [number, number] {
  return [window > 0 ? Math.max(0, i - window + 1) : 0, causal ? Math.min(i + 1, keys) : keys];
}

/** Scores of one query, after scale and softcap, and where they came from. */
function scoresOf(
  q: Numbers,
  qAt: number,
  k: Numbers,
  kAt: (j: number) => number,
  width: number,
  range: [number, number],
  sees: (j: number) => boolean,
  { scale, softcap }: AttentionAttrs,
): { j: number; score: number; slope: number }[] {
  const found: { j: number; score: number; slope: number }[] = [];
  for (let j = range[0]; j < range[1]; j++) {
    if (!sees(j)) continue;
    let dot = 0;
    for (let d = 0; d < width; d++) dot += q[qAt + d] * k[kAt(j) + d];
    const t = softcap > 0 ? Math.tanh(dot * scale / softcap) : 0;
    found.push(
      softcap > 0
        ? { j, score: softcap * t, slope: scale * (1 - t * t) }
        : { j, score: dot * scale, slope: scale },
    );
  }
  return found;
}

function logSumExp(scores: readonly { score: number }[]): number {
  const top = scores.reduce((max, { score }) => Math.max(max, score), -Infinity);
  return top + Math.log(scores.reduce((sum, { score }) => sum + Math.exp(score - top), 0));
}

/**
 * (q [batch, time, heads, width], k, v [batch, time, kv_heads, width][, segment_ids i32 [batch,
 * time]]) → out like q, and the scores' log-sum-exp [batch, heads, time] for the backward pass.
 * With segment ids a query sees keys of its own segment only.
 */
export const attentionOp: Kernel = defineOp({
  name: "attention",
  halves: { reads: [0, 1, 2], makes: [0], stores: isInQuads },
  kernels: attentionKernels,
  wasm: attentionWasm,
  check(inputs: readonly Spec[], _: Attrs) {
    checkHeads(inputs);
    const [q, k, , segments] = inputs;
    expect(
      q.shape[1] === k.shape[1],
      "wants as many keys as queries; use the cached form for decoding",
    );
    if (segments) {
      expect(
        segments.dtype === "i32" && segments.shape.join() === q.shape.slice(0, 2).join(),
        "wants i32 segment ids [batch, time]",
      );
    }
    const { batch, heads, time } = attentionSizes(inputs);
    return [{ shape: q.shape, dtype: "f32" }, { shape: [batch, heads, time], dtype: "f32" }];
  },
  reference([q, k, v, segments], [out, lse], { inputs, attrs }) {
    const { batch, time, heads, width, kv_heads } = attentionSizes(inputs),
      options = attrs as unknown as AttentionAttrs;
    const at = (b: number, t: number, h: number, count: number) =>
      ((b * time + t) * count + h) * width;
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / (heads / kv_heads));
        for (let i = 0; i < time; i++) {
          const sees = (j: number) =>
            !segments || segments[b * time + i] === segments[b * time + j];
          const scores = scoresOf(
            q,
            at(b, i, h, heads),
            k,
            (j) => at(b, j, g, kv_heads),
            width,
            keyRange(i, time, options),
            sees,
            options,
          );
          const total = logSumExp(scores), to = at(b, i, h, heads);
          lse[(b * heads + h) * time + i] = total;
          for (let d = 0; d < width; d++) {
            let sum = 0;
            for (const { j, score } of scores) {
              sum += Math.exp(score - total) * v[at(b, j, g, kv_heads) + d];
            }
            out[to + d] = sum;
          }
        }
      }
    }
  },
  vjp([q, k, v, segments], [out, lse], [dout], attrs) {
    const inputs = [q, k, v, out, lse, dout!];
    return apply(attentionGradOp, segments ? [...inputs, segments] : inputs, attrs);
  },
  cost: ({ inputs, attrs }) => attentionCost(inputs, attrs as unknown as AttentionAttrs, 4),
});

/** (q, k, v, out, lse, dout[, segment_ids]) → dq, dk, dv. */
export const attentionGradOp: Kernel = defineOp({
  name: "attention_grad",
  halves: { makes: [0, 1, 2], stores: isInQuads },
  kernels: attentionGradKernels,
  wasm: attentionGradWasm,
  check: ([q, k, v]: readonly Spec[]) => [q, k, v].map(({ shape }) => ({ shape, dtype: "f32" })),
  reference([q, k, v, out, lse, dout, segments], [dq, dk, dv], { inputs, attrs }) {
    const { batch, time, heads, width, kv_heads } = attentionSizes(inputs),
      options = attrs as unknown as AttentionAttrs;
    const at = (b: number, t: number, h: number, count: number) =>
      ((b * time + t) * count + h) * width;
    dq.fill(0), dk.fill(0), dv.fill(0);
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / (heads / kv_heads));
        for (let i = 0; i < time; i++) {
          const sees = (j: number) =>
              !segments || segments[b * time + i] === segments[b * time + j],
            here = at(b, i, h, heads);
          const scores = scoresOf(
            q,
            here,
            k,
            (j) => at(b, j, g, kv_heads),
            width,
            keyRange(i, time, options),
            sees,
            options,
          );
          let delta = 0;
          for (let d = 0; d < width; d++) delta += dout[here + d] * out[here + d];
          for (const { j, score, slope } of scores) {
            const there = at(b, j, g, kv_heads),
              weight = Math.exp(score - lse[(b * heads + h) * time + i]);
            let dweight = 0;
            for (let d = 0; d < width; d++) dweight += dout[here + d] * v[there + d];
            const dscore = weight * (dweight - delta) * slope;
            for (let d = 0; d < width; d++) {
              dv[there + d] += weight * dout[here + d];
              dq[here + d] += dscore * k[there + d];
              dk[there + d] += dscore * q[here + d];
            }
          }
        }
      }
    }
  },
  cost: ({ inputs, attrs }) => attentionCost(inputs, attrs as unknown as AttentionAttrs, 10),
});

/**
 * Decoding: (q [batch, time, heads, width], key cache and value cache [batch, capacity, kv_heads,
 * width], start i32 [batch]) → like q. The new tokens' keys are already in the cache, at start ..
 * start + time − 1; query t stands at start + t and sees what is not after it.
 */
export const cachedAttentionOp: Kernel = defineOp({
  name: "cached_attention",
  kernels: cachedAttentionKernels,
  wasm: cachedAttentionWasm,
  check(inputs: readonly Spec[], _: Attrs) {
    checkHeads(inputs);
    const [q, , , start] = inputs;
    expect(
      start.dtype === "i32" && start.shape.join() === `${q.shape[0]}`,
      "wants an i32 start for each row of the batch",
    );
    return [{ shape: q.shape, dtype: "f32" }];
  },
  reference([q, k, v, start], [out], { inputs, attrs }) {
    const { batch, time, heads, width, kv_heads, keys } = attentionSizes(inputs),
      options = attrs as unknown as AttentionAttrs;
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / (heads / kv_heads)),
          there = (j: number) => ((b * keys + j) * kv_heads + g) * width;
        for (let t = 0; t < time; t++) {
          const here = ((b * time + t) * heads + h) * width;
          const scores = scoresOf(
            q,
            here,
            k,
            there,
            width,
            keyRange(start[b] + t, keys, options),
            () => true,
            options,
          );
          const total = logSumExp(scores);
          for (let d = 0; d < width; d++) {
            let sum = 0;
            for (const { j, score } of scores) sum += Math.exp(score - total) * v[there(j) + d];
            out[here + d] = sum;
          }
        }
      }
    }
  },
  cost: ({ inputs, attrs }) =>
    attentionCost(inputs, { ...attrs as unknown as AttentionAttrs, causal: false }, 4),
});

function attentionCost(
  inputs: readonly Spec[],
  { causal, window }: AttentionAttrs,
  perScore: number,
) {
  const { batch, time, heads, width, keys, kv_heads } = attentionSizes(inputs);
  const seen = Math.min(window || keys, causal ? (keys + 1) / 2 : keys);
  return {
    flops: perScore * batch * heads * time * seen * width,
    bytes: 4 * batch * width * (2 * time * heads + 2 * keys * kv_heads) * (perScore > 4 ? 2 : 1),
  };
}

const defaults = (q: Tensor, attrs: Partial<AttentionAttrs>): Attrs => ({
  causal: true,
  window: 0,
  scale: 1 / Math.sqrt(q.shape[3]),
  softcap: 0,
  ...attrs,
});

export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  segment_ids?: Tensor,
  attrs: Partial<AttentionAttrs> = {},
): Tensor {
  return apply(
    attentionOp,
    segment_ids ? [q, k, v, segment_ids] : [q, k, v],
    defaults(q, attrs),
  )[0];
}

export function cachedAttention(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  start: Tensor,
  attrs: Partial<AttentionAttrs> = {},
): Tensor {
  return apply(cachedAttentionOp, [q, keys, values, start], defaults(q, attrs))[0];
}
