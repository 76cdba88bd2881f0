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
 * the block with counter (i / 4, step, stream, 0) under the key (seed low, seed high).
 */
export const uniformOp: Kernel = defineOp({
  name: "uniform",
  kernels: [{
    name: "philox",
    passes({ outputs: [{ shape }], attrs }) {
      const size = sizeOf(shape), blocks = Math.ceil(size / 4);
      return [{
        wgsl: uniformWgsl,
        bindings: { key: input(0), out: output(0) },
        uints: { size, blocks, stream: attrs.stream as number },
        grid: foldGrid(Math.ceil(blocks / 256)),
      }];
    },
  }],
  check([key]: readonly Spec[], { shape }: Attrs) {
    expect(key.dtype === "u32" && key.shape.join() === "3", "takes a key u32 [3]");
    return [{ shape: shape as number[], dtype: "f32" }];
  },
  reference([[low, high, step]], [out], { attrs }) {
    for (let i = 0; i < out.length; i += 4) {
      const words = philox(i / 4, step, attrs.stream as number, 0, low, high);
      for (let j = 0; j < 4 && i + j < out.length; j++) out[i + j] = unitInterval(words[j]);
    }
  },
  vjp: () => [undefined],
  cost: ({ outputs: [y] }) => ({ flops: 20 * sizeOf(y.shape), bytes: 4 * sizeOf(y.shape) }),
  wasm: uniformWasm,
});

/** Uniform numbers in (0, 1) for a purpose; other purposes and steps get independent ones. */
export function uniform(key: Tensor, purpose: string, shape: readonly number[]): Tensor {
  return apply(uniformOp, [key], { shape: [...shape], stream: streamOf(purpose) })[0];
}
