/**
 * Table lookup. Its gradient adds rows in the order of their tokens, by lists built on the host: no
 * atomics, the same bits always.
 */

import {
  apply,
  type Attrs,
  expect,
  isFloat,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { reshape } from "./layout.ts";
import { levelsOf, widenLevels } from "./levels.ts";
import { each } from "./webgpu/each.ts";
import { defineOp, foldGrid, input, type Kernel, output } from "./lowering.ts";
import { embeddingGradWasm, embeddingWasm } from "./wasm/embedding.ts";
import embeddingWgsl from "./embedding.wgsl" with { type: "text" };
import embeddingGradWgsl from "./embedding_grad.wgsl" with { type: "text" };

/** (table [rows, width], ids i32 [...]) → [..., width]. Ids outside the table give zeros. Words (i32) stay words. */
export const embeddingOp: Kernel = defineOp({
  name: "embedding",
  kernels: [{
    name: "gather",
    passes: ({ inputs: [{ shape: [rows, width] }], outputs: [out] }) => [
      each(
        sizeOf(out.shape),
        embeddingWgsl,
        { table: input(0), ids: input(1), out: output(0) },
        { uints: { rows, width } },
      ),
    ],
  }],
  check([table, ids]: readonly Spec[]) {
    const isWords = table.dtype === "i32";
    expect(
      table.shape.length === 2 && (isFloat(table.dtype) || isWords),
      "takes a table [rows, width]",
    );
    expect(ids.dtype === "i32", "takes i32 ids");
    return [{ shape: [...ids.shape, table.shape[1]], dtype: isWords ? "i32" : "f32" }];
  },
  reference([table, ids], [out], { inputs: [{ shape: [rows, width] }] }) {
    for (let i = 0; i < ids.length; i++) {
      for (let j = 0; j < width; j++) {
        out[i * width + j] = ids[i] >= 0 && ids[i] < rows ? table[ids[i] * width + j] : 0;
      }
    }
  },
  vjp([table, ids], _y, [dy]) {
    if (table.dtype === "i32") return [undefined, undefined];
    const rows = table.shape[0], [starts, order] = apply(tokenListsOp, [ids], { rows });
    return [apply(embeddingGradOp, [dy!, starts, order], { rows })[0], undefined];
  },
  cost: ({ outputs: [y] }) => ({ flops: 0, bytes: 8 * sizeOf(y.shape) }),
  wasm: embeddingWasm,
});

/**
 * ids → for each row of the table where its list starts [rows + 1], and the tokens' places sorted
 * by id (stable) [tokens].
 */
export const tokenListsOp: Kernel = defineOp({
  name: "token_lists",
  host: true,
  check: ([ids]: readonly Spec[], { rows }: Attrs) => [
    { shape: [(rows as number) + 1], dtype: "i32" },
    { shape: [sizeOf(ids.shape)], dtype: "i32" },
  ],
  reference([ids], [starts, order], { attrs }) {
    const rows = attrs.rows as number, inside = (id: number) => id >= 0 && id < rows;
    starts.fill(0);
    for (const id of ids) if (inside(id)) starts[id + 1]++;
    for (let row = 0; row < rows; row++) starts[row + 1] += starts[row];
    const next = starts.slice(0, rows);
    for (let i = 0; i < ids.length; i++) if (inside(ids[i])) order[next[ids[i]]++] = i;
  },
});

/** (dy [..., width], starts, order) → [rows, width] */
export const embeddingGradOp: Kernel = defineOp({
  name: "embedding_grad",
  kernels: [{
    name: "lists",
    passes: ({ outputs: [{ shape: [rows, width] }] }) => [{
      wgsl: embeddingGradWgsl,
      bindings: { dy: input(0), starts: input(1), order: input(2), out: output(0) },
      uints: { rows, width },
      grid: foldGrid(rows),
    }],
  }],
  check: (
    [dy]: readonly Spec[],
    { rows }: Attrs,
  ) => [{ shape: [rows as number, dy.shape.at(-1)!], dtype: "f32" }],
  reference([dy, starts, order], [out], { outputs: [{ shape: [rows, width] }] }) {
    out.fill(0);
    for (let row = 0; row < rows; row++) {
      for (let at = starts[row]; at < starts[row + 1]; at++) {
        for (let j = 0; j < width; j++) out[row * width + j] += dy[order[at] * width + j];
      }
    }
  },
  cost: ({ inputs: [dy], outputs: [y] }) => ({
    flops: sizeOf(dy.shape),
    bytes: 4 * (sizeOf(dy.shape) + sizeOf(y.shape)),
  }),
  wasm: embeddingGradWasm,
});

export function embedding(table: Tensor, ids: Tensor): Tensor {
  const stored = levelsOf(table);
  if (!stored) return apply(embeddingOp, [table, ids])[0];
  const flat = reshape(ids, [sizeOf(ids.shape)]), rows = stored.scales.shape[0];
  const words = apply(embeddingOp, [stored.words, flat])[0];
  const scales = apply(embeddingOp, [reshape(stored.scales, [rows, 1]), flat])[0];
  const found = widenLevels(words, reshape(scales, flat.shape), stored.attrs);
  return reshape(found, [...ids.shape, table.shape[1]]);
}
