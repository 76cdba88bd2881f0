/** The little integer arithmetic that decoding on the device needs: positions, steps, token ids. */

import { apply, type Attrs, expect, sizeOf, type Spec, type Tensor } from "../core/graph/mod.ts";
import { each } from "./webgpu/each.ts";
import { defineOp, input, type Kernel, output } from "./lowering.ts";
import addIntegerWgsl from "./add_integer.wgsl" with { type: "text" };
import positionsWgsl from "./positions.wgsl" with { type: "text" };
import toFloatWgsl from "./to_float.wgsl" with { type: "text" };
import { addIntegerWasm, positionsWasm, toFloatWasm } from "./wasm/integers.ts";

/** x + attrs.by, element by element, wrapping in 32 bits. */
export const addIntegerOp: Kernel = defineOp({
  name: "add_integer",
  kernels: [{
    name: "each",
    passes: ({ inputs: [x], attrs }) => [
      each(
        sizeOf(x.shape),
        addIntegerWgsl.replace("TYPE", x.dtype),
        { x: input(0), out: output(0) },
        { uints: { by: attrs.by as number } },
      ),
    ],
  }],
  check([x]: readonly Spec[], _: Attrs) {
    expect(x.dtype === "i32" || x.dtype === "u32", "takes integers");
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  reference: ([x], [out], { attrs }) =>
    x.forEach((value, i) => out[i] = value + (attrs.by as number)),
  wasm: addIntegerWasm,
});

/** Positions of new tokens: (start i32 [batch]) → i32 [batch, time], start[b] + t. */
export const positionsOp: Kernel = defineOp({
  name: "positions",
  kernels: [{
    name: "each",
    passes: ({ outputs: [out], attrs }) => [
      each(
        sizeOf(out.shape),
        positionsWgsl,
        { start: input(0), out: output(0) },
        { uints: { time: attrs.time as number } },
      ),
    ],
  }],
  check([start]: readonly Spec[], { time }: Attrs) {
    expect(start.dtype === "i32" && start.shape.length === 1, "takes i32 [batch]");
    return [{ shape: [start.shape[0], time as number], dtype: "i32" }];
  },
  reference([start], [out], { attrs }) {
    const time = attrs.time as number;
    for (let i = 0; i < out.length; i++) out[i] = start[Math.floor(i / time)] + i % time;
  },
  wasm: positionsWasm,
});

/** i32 → the same numbers as f32, exact below 2²⁴. */
export const toFloatOp: Kernel = defineOp({
  name: "to_float",
  kernels: [{
    name: "each",
    passes: ({ inputs: [x] }) => [
      each(sizeOf(x.shape), toFloatWgsl, { x: input(0), out: output(0) }),
    ],
  }],
  check([x]: readonly Spec[]) {
    expect(x.dtype === "i32", "takes i32");
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference: ([x], [out]) => x.forEach((value, i) => out[i] = value),
  wasm: toFloatWasm,
});

export function addInteger(x: Tensor, by: number): Tensor {
  return apply(addIntegerOp, [x], { by })[0];
}

export function positionsFrom(start: Tensor, time: number): Tensor {
  return apply(positionsOp, [start], { time })[0];
}

/** Integers as numbers that can be compared and computed with; exact below 2²⁴. */
export function toFloat(x: Tensor): Tensor {
  return apply(toFloatOp, [x])[0];
}
