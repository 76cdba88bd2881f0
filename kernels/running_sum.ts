/** Sums along the time axis, up to and with each token. */

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
import { runningSumWasm } from "./wasm/running_sum.ts";
import { each } from "./webgpu/each.ts";
import runningSumWgsl from "./running_sum.wgsl" with { type: "text" };

/**
 * (x [batch, time, channels], segment_ids i32 [batch, time]?) → like x: at each token the sum over
 * the tokens of its segment up to it; attrs.reverse: from it on, which is the adjoint. A segment is a
 * run of equal ids; without ids a row is one.
 */
export const runningSumOp: Kernel = defineOp({
  name: "running_sum",
  kernels: [{ name: "each", passes: (node) => [pass(node)] }],
  check([x, segments]: readonly Spec[], _: Attrs) {
    expect(x.shape.length === 3 && x.dtype === "f32", "takes f32 [batch, time, channels]");
    expectSegments(segments, x.shape.slice(0, 2));
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference([x, segments], [out], { inputs: [{ shape: [batch, time, channels] }], attrs }) {
    const reverse = Boolean(attrs.reverse);
    for (let b = 0; b < batch; b++) {
      for (let step = 0; step < time; step++) {
        const token = b * time + (reverse ? time - 1 - step : step);
        const before = reverse ? token + 1 : token - 1;
        const goesOn = step > 0 && (!segments || segments[token] === segments[before]);
        for (let c = 0; c < channels; c++) {
          out[token * channels + c] = x[token * channels + c] +
            (goesOn ? out[before * channels + c] : 0);
        }
      }
    }
  },
  vjp: ([_x, segments], _y, [dy], attrs) => [
    apply(runningSumOp, segments ? [dy!, segments] : [dy!], { reverse: !attrs.reverse })[0],
    ...(segments ? [undefined] : []),
  ],
  cost: ({ inputs: [x] }) => ({ flops: sizeOf(x.shape), bytes: 8 * sizeOf(x.shape) }),
  wasm: runningSumWasm,
});

function pass(
  { inputs: [{ shape: [batch, time, channels] }, segments], attrs }: OpContext,
): GpuPass {
  const goesOn = segments ? "load_segments(token) == load_segments(before)" : "true";
  return each(
    batch * channels,
    runningSumWgsl.replace("GOES_ON", goesOn),
    { x: input(0), ...(segments ? { segments: input(1) } : {}), out: output(0) },
    { uints: { time, channels, reverse: attrs.reverse ? 1 : 0 } },
  );
}

/** See `running_sum`. */
export function runningSum(x: Tensor, segment_ids?: Tensor, { reverse = false } = {}): Tensor {
  return apply(runningSumOp, segment_ids ? [x, segment_ids] : [x], { reverse })[0];
}
