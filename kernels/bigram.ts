/**
 * Hashed pairs of tokens: each token and the one before it name a row of a table, its bucket. Many pairs share one
 * (Tito Svenstrup et al. 2017, "Hash embeddings", with one hash function).
 */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { defineOp, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { expectSegments } from "./sizes.ts";
import { each } from "./webgpu/each.ts";
import stepWgsl from "./bigram_step.wgsl" with { type: "text" };

/** ((36313 · id) xor (27191 · before)) mod (buckets − 1), never negative; the products wrap in 32 bits. */
function bucketOf(id: number, before: number, buckets: number): number {
  const pairs = buckets - 1, hash = (Math.imul(36313, id) ^ Math.imul(27191, before)) % pairs;
  return hash < 0 ? hash + pairs : hash;
}

function checkIds(ids: Spec, { buckets }: Attrs): void {
  expect(ids.dtype === "i32" && ids.shape.length === 2, "takes i32 ids [batch, time]");
  expect((buckets as number) >= 2, "needs two buckets: one for pairs, one for tokens that begin");
}

/**
 * (ids i32 [batch, time], segment_ids i32 [batch, time]?) → buckets i32 [batch, time], from 0. The last is for the
 * first token of a row or segment. Computed on the host, so that the gradient of the table can sort by it.
 */
export const bigramBucketsOp: Kernel = defineOp({
  name: "bigram_buckets",
  host: true,
  check([ids, segments]: readonly Spec[], attrs: Attrs) {
    checkIds(ids, attrs);
    expectSegments(segments, ids.shape);
    return [{ shape: ids.shape, dtype: "i32" }];
  },
  reference([ids, segments], [out], { inputs: [{ shape: [, time] }], attrs }) {
    const buckets = attrs.buckets as number;
    for (let i = 0; i < ids.length; i++) {
      const begins = i % time === 0 || segments && segments[i] !== segments[i - 1];
      out[i] = begins ? buckets - 1 : bucketOf(ids[i], ids[i - 1], buckets);
    }
  },
});

/**
 * (new ids i32 [batch, time], the last ones before them i32 [batch], start i32 [batch]: how many came before,
 * lengths i32 [batch]?: how many of the new ones are a row's own) → buckets i32 [batch, time], and the last ids after
 * them i32 [batch]. On the device, where generated ids are.
 */
export const bigramStepOp: Kernel = defineOp({
  name: "bigram_step",
  kernels: [{ name: "each", passes: (node) => [stepPass(node)] }],
  check([ids, ...rows]: readonly Spec[], attrs: Attrs) {
    checkIds(ids, attrs);
    const [batch] = ids.shape;
    expect(
      rows.every(({ shape, dtype }) => dtype === "i32" && shape.join() === `${batch}`),
      "wants i32 numbers for each row of the batch",
    );
    return [{ shape: ids.shape, dtype: "i32" }, { shape: [batch], dtype: "i32" }];
  },
  reference([ids, last, start, lengths], [out, next], { inputs: [{ shape: [, time] }], attrs }) {
    const buckets = attrs.buckets as number;
    for (let i = 0; i < ids.length; i++) {
      const row = Math.floor(i / time), place = i % time;
      const before = place > 0 ? ids[i - 1] : last[row];
      out[i] = place > 0 || start[row] > 0 ? bucketOf(ids[i], before, buckets) : buckets - 1;
      const own = lengths ? lengths[row] : time;
      if (place === 0) next[row] = own > 0 ? ids[i + own - 1] : last[row];
    }
  },
});

function stepPass({ inputs: [ids, , , lengths], attrs }: OpContext): GpuPass {
  const [, time] = ids.shape;
  return each(
    sizeOf(ids.shape),
    stepWgsl.replace("LENGTH", lengths ? "load_lengths(row)" : "i32(params.time)"),
    {
      ids: input(0),
      last: input(1),
      start: input(2),
      ...(lengths ? { lengths: input(3) } : {}),
      out: output(0),
      next: output(1),
    },
    { uints: { time, buckets: attrs.buckets as number } },
  );
}

export function bigramBuckets(
  ids: Tensor,
  buckets: number,
  segment_ids: Tensor | undefined,
): Tensor {
  return apply(bigramBucketsOp, segment_ids ? [ids, segment_ids] : [ids], { buckets })[0];
}

/** Of new tokens; `last`: the ids before them. */
export function bigramStep(
  ids: Tensor,
  last: Tensor,
  { start, lengths }: { readonly start: Tensor; readonly lengths: Tensor | undefined },
  buckets: number,
): { buckets: Tensor; last: Tensor } {
  const given = [ids, last, start, ...(lengths ? [lengths] : [])];
  const [found, next] = apply(bigramStepOp, given, { buckets });
  return { buckets: found, last: next };
}
