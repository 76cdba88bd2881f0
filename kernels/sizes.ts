/**
 * Sizes that declarations and kernels both read off specs; here so that neither has to import the
 * other.
 */

import { type Attrs, expect, sizeOf, type Spec } from "../core/graph/mod.ts";

/** Segment ids, where an op is given some, are one for each token: i32 of the tokens' shape. */
export function expectSegments(segments: Spec | undefined, tokens: readonly number[]): void {
  expect(
    !segments || segments.dtype === "i32" && segments.shape.join() === tokens.join(),
    "wants a segment for each token",
  );
}

/** The sizes of a matrix product. */
export interface MatmulSizes {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export function matmulSizes([a, b]: readonly Spec[], { transA, transB }: Attrs): MatmulSizes {
  const [rows, columns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
  return {
    batch: sizeOf(a.shape.slice(0, -2)),
    m: transA ? columns : rows,
    k: transA ? rows : columns,
    n: transB ? bRows : bColumns,
  };
}

export interface AttentionSizes {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly width: number;
  readonly kv_heads: number;
  /** Key positions: `time`, or the capacity of the cache. */
  readonly keys: number;
}

export function attentionSizes([q, k]: readonly Spec[]): AttentionSizes {
  const [batch, time, heads, width] = q.shape;
  return { batch, time, heads, width, kv_heads: k.shape[2], keys: k.shape[1] };
}
