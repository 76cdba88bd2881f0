/** Depthwise causal convolution along the time axis, with few taps. */

import {
  apply,
  type Attrs,
  expect,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import {
  defineOp,
  foldGrid,
  type GpuPass,
  input,
  type Kernel,
  output,
  scratch,
} from "./lowering.ts";
import { expectSegments } from "./sizes.ts";
import { causalConvWasm, causalConvWeightsWasm } from "./wasm/conv.ts";
import { each } from "./webgpu/each.ts";
import convWgsl from "./causal_conv.wgsl" with { type: "text" };
import weightsWgsl from "./causal_conv_weights.wgsl" with { type: "text" };

/** Rows of `dy` that one thread of the weights' gradient walks along. */
const chunkRows = 256;

function checkRows([x, other, segments]: readonly Spec[]): void {
  expect(x.shape.length === 3 && x.dtype === "f32", "takes f32 [batch, time, channels]");
  expect(other.dtype === "f32", "takes f32 weights");
  expectSegments(segments, x.shape.slice(0, 2));
}

/** Calls `f` for each token and each one it sees, `back` steps away, of the same segment. */
function forEachPair(
  [batch, time]: readonly number[],
  taps: number,
  segments: ArrayLike<number> | undefined,
  direction: number,
  f: (token: number, other: number, back: number) => void,
): void {
  for (let token = 0; token < batch * time; token++) {
    for (let back = 0; back < taps; back++) {
      const at = token % time - direction * back, other = token - direction * back;
      if (at < 0 || at >= time) continue;
      if (!segments || segments[token] === segments[other]) f(token, other, back);
    }
  }
}

/**
 * (x [batch, time, channels], weight [taps, channels], segment_ids i32 [batch, time]?) → like x:
 * y[t] = Σⱼ weight[taps − 1 − j] · x[t − j], zeros before the start of a row or of a token's segment.
 * The last tap is the token's own. attrs.direction −1 looks ahead instead, which is the adjoint.
 */
export const causalConvOp: Kernel = defineOp({
  name: "causal_conv",
  kernels: [{ name: "each", passes: (node) => [convPass(node)] }],
  check([x, weight, segments]: readonly Spec[], _: Attrs) {
    checkRows([x, weight, ...(segments ? [segments] : [])]);
    expect(
      weight.shape.length === 2 && weight.shape[1] === x.shape[2],
      "wants a weight [taps, channels]",
    );
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference([x, weight, segments], [out], { inputs: [{ shape }, { shape: [taps] }], attrs }) {
    const channels = shape[2];
    out.fill(0);
    forEachPair(shape, taps, segments, attrs.direction as number, (token, other, back) => {
      const tap = (taps - 1 - back) * channels;
      for (let c = 0; c < channels; c++) {
        out[token * channels + c] += weight[tap + c] * x[other * channels + c];
      }
    });
  },
  vjp([x, weight, ...segments], _y, [dy], attrs) {
    const direction = -(attrs.direction as number), taps = weight.shape[0];
    const [rows, others] = direction < 0 ? [x, dy!] : [dy!, x];
    return [
      apply(causalConvOp, [dy!, weight, ...segments], { direction })[0],
      apply(causalConvWeightsOp, [rows, others, ...segments], { taps })[0],
      ...segments.map(() => undefined),
    ];
  },
  cost: ({ inputs: [x, { shape: [taps] }] }) => ({
    flops: 2 * taps * sizeOf(x.shape),
    bytes: 8 * sizeOf(x.shape),
  }),
  wasm: causalConvWasm,
});

function convPass({ inputs: [x, weight, segments], attrs }: OpContext): GpuPass {
  const [, time, channels] = x.shape;
  return each(
    sizeOf(x.shape),
    convWgsl.replace("IS_SEEN", segments ? "load_segments(other) == own" : "true")
      .replace("OWN", segments ? "load_segments(token)" : "0"),
    {
      x: input(0),
      weight: input(1),
      ...(segments ? { segments: input(2) } : {}),
      out: output(0),
    },
    { uints: { time, channels, taps: weight.shape[0], ahead: attrs.direction === 1 ? 0 : 1 } },
  );
}

/** (x, dy [batch, time, channels], segment_ids?) → the weight's gradient [taps, channels]. */
export const causalConvWeightsOp: Kernel = defineOp({
  name: "causal_conv_weights",
  kernels: [{
    name: "chunks",
    scratch: (node) => [{ shape: [chunksOf(node), sizeOf(node.outputs[0].shape)], dtype: "f32" }],
    passes: weightsPasses,
  }],
  check([x, dy, segments]: readonly Spec[], { taps }: Attrs) {
    checkRows([x, dy, ...(segments ? [segments] : [])]);
    expect(dy.shape.join() === x.shape.join(), "wants a gradient of the input's shape");
    return [{ shape: [taps as number, x.shape[2]], dtype: "f32" }];
  },
  reference([x, dy, segments], [out], { inputs: [{ shape }], attrs }) {
    const channels = shape[2], taps = attrs.taps as number;
    out.fill(0);
    forEachPair(shape, taps, segments, 1, (token, other, back) => {
      const tap = (taps - 1 - back) * channels;
      for (let c = 0; c < channels; c++) {
        out[tap + c] += dy[token * channels + c] * x[other * channels + c];
      }
    });
  },
  cost: ({ inputs: [x], attrs }) => ({
    flops: 2 * (attrs.taps as number) * sizeOf(x.shape),
    bytes: 8 * sizeOf(x.shape),
  }),
  wasm: causalConvWeightsWasm,
});

function chunksOf({ inputs: [{ shape: [batch, time] }] }: OpContext): number {
  return Math.ceil(batch * time / chunkRows);
}

/** Sums over chunks of tokens, then over the chunks. */
function weightsPasses(node: OpContext): GpuPass[] {
  const { inputs: [{ shape: [batch, time, channels] }, , segments], attrs } = node;
  const taps = attrs.taps as number, chunks = chunksOf(node), size = taps * channels;
  const groups = Math.ceil(size / 64);
  return [
    {
      wgsl: weightsWgsl.replace(
        "IS_SEEN",
        segments ? "load_segments(token) == load_segments(token - back)" : "true",
      ),
      bindings: {
        x: input(0),
        dy: input(1),
        ...(segments ? { segments: input(2) } : {}),
        out: scratch(0),
      },
      uints: { size, groups, taps, channels, time, tokens: batch * time, rows: chunkRows },
      grid: foldGrid(groups * chunks),
    },
    each(
      size,
      `@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  var sum = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) { sum += load_partial(chunk * params.size + i); }
  store_out(i, sum);
}`,
      { partial: scratch(0), out: output(0) },
      { uints: { chunks } },
    ),
  ];
}

/** See `causal_conv`. */
export function causalConv(x: Tensor, weight: Tensor, segment_ids?: Tensor): Tensor {
  return apply(causalConvOp, segment_ids ? [x, weight, segment_ids] : [x, weight], {
    direction: 1,
  })[0];
}
