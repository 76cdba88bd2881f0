/** The cache of keys and values that decoding reads. */

import {
  apply,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import cacheWriteWgsl from "./cache_write.wgsl" with { type: "text" };
import cacheWriteHalvesWgsl from "./cache_write_halves.wgsl" with { type: "text" };
import { defineOp, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { cacheWriteWasm } from "./wasm/copies.ts";
import { each } from "./webgpu/each.ts";

/**
 * Rows written into a cache in place: cache[b, start[b] + t] = rows[b, t]. What falls beyond the
 * capacity is dropped, never written past.
 */
export const cacheWriteOp: Kernel = defineOp({
  name: "cache_write",
  kernels: [{ name: "in place", passes: (node) => [cacheWritePass(node)] }],
  inplace: { 0: 0 },
  check([cache, rows, start]: readonly Spec[]) {
    expect(
      cache.shape[0] === rows.shape[0] &&
        cache.shape.slice(2).join() === rows.shape.slice(2).join(),
      "rows do not fit the cache",
    );
    expect(
      start.dtype === "i32" && start.shape.join() === `${rows.shape[0]}`,
      "wants an i32 start for each row of the batch",
    );
    return [{ shape: cache.shape, dtype: cache.dtype }];
  },
  reference(
    [cache, rows, start],
    [out],
    { inputs: [{ shape: [batch, capacity, ...rest] }, { shape: [, time] }] },
  ) {
    if (out !== cache) out.set(cache as never);
    const width = rest.reduce((a, b) => a * b, 1);
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < time; t++) {
        const position = start[b] + t;
        if (position < 0 || position >= capacity) continue;
        for (let i = 0; i < width; i++) {
          out[(b * capacity + position) * width + i] = rows[(b * time + t) * width + i];
        }
      }
    }
  },
  cost: ({ inputs: [, rows] }) => ({ flops: 0, bytes: 8 * rows.shape.reduce((a, b) => a * b, 1) }),
  wasm: cacheWriteWasm,
});

/** The cache is found in the output: only the new rows are touched. */
function cacheWritePass({ inputs: [cache, rows] }: OpContext): GpuPass {
  const [batches, capacity, ...rest] = cache.shape, time = rows.shape[1], width = sizeOf(rest);
  const bindings = { rows: input(1), start: input(2), cache: output(0) };
  if (cache.dtype !== "bf16" && cache.dtype !== "f16") {
    const uints = { per_batch: time * width, width, capacity };
    return each(sizeOf(rows.shape), cacheWriteWgsl, bindings, { uints });
  }
  const words = Math.ceil(time * width / 2) + 1;
  const uints = { batches, capacity, width, time, words };
  return each(batches * words, cacheWriteHalvesWgsl, bindings, { uints });
}

export function cacheWrite(cache: Tensor, rows: Tensor, start: Tensor): Tensor {
  return apply(cacheWriteOp, [cache, rows, start])[0];
}
