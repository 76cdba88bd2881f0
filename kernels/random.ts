/**
 * Randomness in the graph: Philox by (seed, step, stream, element), the same bits on every device
 * in any order.
 */

import {
  apply,
  type Attrs,
  expect,
  philox,
  sizeOf,
  type Spec,
  streamOf,
  type Tensor,
  unitInterval,
} from "../core/graph/mod.ts";
import { defineOp, foldGrid, input, type Kernel, output } from "./lowering.ts";
import { uniformWasm } from "./wasm/random.ts";
import uniformWgsl from "./uniform.wgsl" with { type: "text" };

/**
 * (key u32 [3] = seed low, seed high, step) → uniform numbers in (0, 1). Element i is word i % 4 of
 * the block with counter (i / 4, step, stream, 0) under the key (seed low, seed high). Of keys [rows,
 * 3] each makes a row of its own, as it would alone: [rows, …].
 */
export const uniformOp: Kernel = defineOp({
  name: "uniform",
  kernels: [{
    name: "philox",
    passes({ inputs: [key], outputs: [{ shape }], attrs }) {
      const rows = rowsOf(key), size = sizeOf(shape) / rows, blocks = Math.ceil(size / 4);
      return [{
        wgsl: uniformWgsl,
        bindings: { key: input(0), out: output(0) },
        uints: { size, blocks, rows, stream: attrs.stream as number },
        grid: foldGrid(Math.ceil(rows * blocks / 256)),
      }];
    },
  }],
  check([key]: readonly Spec[], { shape }: Attrs) {
    expect(
      key.dtype === "u32" && key.shape.length <= 2 && key.shape.at(-1) === 3,
      "takes a key u32 [3], or one for each row",
    );
    expect(
      key.shape.length === 1 || key.shape[0] === (shape as number[])[0],
      "wants a key for each row",
    );
    return [{ shape: shape as number[], dtype: "f32" }];
  },
  reference([keys], [out], { inputs: [key], attrs }) {
    const rows = rowsOf(key), size = out.length / rows;
    for (let row = 0; row < rows; row++) {
      const [low, high, step] = [0, 1, 2].map((word) => keys[3 * row + word]);
      for (let i = 0; i < size; i += 4) {
        const words = philox(i / 4, step, attrs.stream as number, 0, low, high);
        for (let j = 0; j < 4 && i + j < size; j++) {
          out[row * size + i + j] = unitInterval(words[j]);
        }
      }
    }
  },
  vjp: () => [undefined],
  cost: ({ outputs: [y] }) => ({ flops: 20 * sizeOf(y.shape), bytes: 4 * sizeOf(y.shape) }),
  wasm: uniformWasm,
});

function rowsOf({ shape }: Spec): number {
  return shape.length === 1 ? 1 : shape[0];
}

/** Uniform numbers in (0, 1) for a purpose; other purposes, steps and rows get independent ones. */
export function uniform(key: Tensor, purpose: string, shape: readonly number[]): Tensor {
  return apply(uniformOp, [key], { shape: [...shape], stream: streamOf(purpose) })[0];
}
