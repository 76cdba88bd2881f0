/** Choosing the next token on the device, so that decoding never waits for the host. */

import { apply, expect, type Spec, type Tensor } from "../core/graph/mod.ts";
import { defineOp, foldGrid, input, type Kernel, output } from "./lowering.ts";
import sampleWgsl from "./sample.wgsl" with { type: "text" };
import { sampleWasm } from "./wasm/sample.ts";

/**
 * (logits [batch, vocab], uniform [batch], settings [4] = temperature, top_k, top_p, min_p) → token
 * i32 [batch], and the log-probability under the unchanged distribution f32 [batch].
 *
 * Order: top-k (0 keeps all), then temperature, then top-p among what is left (the smallest set of
 * most likely tokens whose probability reaches top_p; 1 keeps all), then min-p (what is at least
 * min_p times as probable as the likeliest; 0 keeps all). Ties at a threshold are all kept. Temperature 0 takes the likeliest token, the first among equals. The token is the first, in
 * the order of ids, at which the kept weights' running sum passes uniform · total.
 */
export const sampleOp: Kernel = defineOp({
  name: "sample",
  kernels: [{
    name: "thresholds",
    passes: ({ inputs: [{ shape: [batch, vocab] }] }) => [{
      wgsl: sampleWgsl,
      bindings: {
        logits: input(0),
        chances: input(1),
        settings: input(2),
        token: output(0),
        logprob: output(1),
      },
      uints: { batch, vocab },
      grid: foldGrid(batch),
      workgroupBytes: 256 * 40,
    }],
  }],
  check([logits, uniform, settings]: readonly Spec[]) {
    expect(
      logits.shape.length === 2 && uniform.shape.join() === `${logits.shape[0]}`,
      "takes logits [batch, vocab] and one uniform number a row",
    );
    expect(settings.shape.join() === "4", "takes settings [4]");
    return [{ shape: [logits.shape[0]], dtype: "i32" }, { shape: [logits.shape[0]], dtype: "f32" }];
  },
  reference(
    [logits, uniform, [temperature, top_k, top_p, min_p]],
    [tokens, logprobs],
    { inputs: [{ shape: [batch, vocab] }] },
  ) {
    for (let b = 0; b < batch; b++) {
      const row = logits.subarray(b * vocab, (b + 1) * vocab);
      let best = 0;
      for (let j = 1; j < vocab; j++) if (row[j] > row[best]) best = j;
      const token = temperature > 0
        ? draw(row, uniform[b], row[best], { temperature, top_k, top_p, min_p })
        : best;
      let total = 0;
      for (const z of row) total += Math.exp(z - row[best]);
      tokens[b] = token;
      logprobs[b] = row[token] - row[best] - Math.log(total);
    }
  },
  cost: ({ inputs: [logits] }) => ({
    flops: 40 * logits.shape[0] * logits.shape[1],
    bytes: 4 * logits.shape[0] * logits.shape[1],
  }),
  wasm: sampleWasm,
});

function draw(
  row: ArrayLike<number>,
  u: number,
  top: number,
  { temperature, top_k, top_p, min_p }: Record<
    "temperature" | "top_k" | "top_p" | "min_p",
    number
  >,
): number {
  const order = Array.from(row, (_, j) => j).sort((a, b) => row[b] - row[a]);
  const last = top_k > 0 ? row[order[Math.min(top_k, order.length) - 1]] : -Infinity;
  const weight = (j: number) => row[j] >= last ? Math.exp((row[j] - top) / temperature) : 0;
  const total = order.reduce((sum, j) => sum + weight(j), 0);
  let threshold = 0, mass = 0;
  if (top_p < 1) {
    for (const j of order) {
      mass += weight(j);
      threshold = weight(j);
      if (mass >= top_p * total) break;
    }
  }
  threshold = Math.max(threshold, min_p); // the likeliest has weight 1
  const kept = (j: number) => weight(j) > 0 && weight(j) >= threshold ? weight(j) : 0;
  let left = 0, running = 0, chosen = order[0];
  for (let j = 0; j < row.length; j++) left += kept(j);
  for (let j = 0; j < row.length; j++) {
    if (kept(j) === 0) continue;
    running += kept(j);
    chosen = j;
    if (running > u * left) break;
  }
  return chosen;
}

export function sample(
  logits: Tensor,
  uniform: Tensor,
  settings: Tensor,
): { token: Tensor; logprob: Tensor } {
  const [token, logprob] = apply(sampleOp, [logits, uniform, settings]);
  return { token, logprob };
}
