/** Rotary position embedding (Su et al. 2021), over all or the first part of a head's width. */

import {
  apply,
  type Attrs,
  expect,
  isHalf,
  type OpContext,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { constant } from "./constant.ts";
import { each } from "./webgpu/each.ts";
import { defineOp, type GpuPass, input, type Kernel, output } from "./lowering.ts";
import { ropeWasm } from "./wasm/rope.ts";
import ropeWgsl from "./rope.wgsl" with { type: "text" };

export interface RopeAttrs {
  /** Channels that turn, even; the rest pass. */
  readonly rotary_dim: number;
  /**
   * `half` pairs channel i with i + rotary_dim/2 (Llama, Qwen); `interleaved` pairs 2i with 2i + 1.
   */
  readonly layout: "half" | "interleaved";
  /** 1, or -1 to turn backwards: the adjoint, and the convention of some models. */
  readonly direction: 1 | -1;
}

/**
 * (x [batch, time, heads, width], positions i32 [batch, time], cosines and sines [max_position,
 * rotary_dim/2]) → like x. Angles come from tables made on the host in double precision, as WGSL
 * promises little of sin and cos.
 */
export const ropeOp: Kernel = defineOp({
  name: "rope",
  halves: { reads: [0], makes: [0], stores: ([x]) => x.shape[3] % 2 === 0 },
  kernels: [{ name: "each", passes: (node) => [ropePass(node)] }],
  check([x, positions, cosines, sines]: readonly Spec[], attrs: Attrs) {
    const { rotary_dim } = attrs as unknown as RopeAttrs;
    expect(x.shape.length === 4, "takes [batch, time, heads, width]");
    expect(
      positions.dtype === "i32" && positions.shape.join() === x.shape.slice(0, 2).join(),
      "wants one position for each token",
    );
    expect(
      rotary_dim % 2 === 0 && rotary_dim > 0 && rotary_dim <= x.shape[3],
      `cannot turn ${rotary_dim} of ${x.shape[3]} channels`,
    );
    expect(
      cosines.shape[1] === rotary_dim / 2 && sines.shape.join() === cosines.shape.join(),
      "wants tables of rotary_dim/2 columns",
    );
    return [{ shape: x.shape, dtype: "f32" }];
  },
  reference([x, positions, cosines, sines], [out], { inputs, attrs }) {
    const { rotary_dim, layout, direction } = attrs as unknown as RopeAttrs;
    const [batch, time, heads, width] = inputs[0].shape,
      half = rotary_dim / 2,
      last = inputs[2].shape[0] - 1;
    for (let token = 0; token < batch * time; token++) {
      const row = Math.min(Math.max(positions[token], 0), last) * half;
      for (let head = 0; head < heads; head++) {
        const at = (token * heads + head) * width;
        for (let i = 0; i < half; i++) {
          const [a, b] = layout === "half" ? [at + i, at + i + half] : [at + 2 * i, at + 2 * i + 1];
          const c = cosines[row + i], s = direction * sines[row + i];
          [out[a], out[b]] = [x[a] * c - x[b] * s, x[b] * c + x[a] * s];
        }
        for (let i = rotary_dim; i < width; i++) out[at + i] = x[at + i];
      }
    }
  },
  vjp([_x, positions, cosines, sines], _y, [dy], attrs) {
    const direction = -(attrs.direction as number);
    return [
      apply(ropeOp, [dy!, positions, cosines, sines], { ...attrs, direction })[0],
      undefined,
      undefined,
      undefined,
    ];
  },
  cost: ({ inputs: [x] }) => ({ flops: 3 * sizeOf(x.shape), bytes: 8 * sizeOf(x.shape) }),
  wasm: ropeWasm,
});

/** One thread an element, or two neighbours that share a word. */
const ropeMain = (store: string) => `
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  ${store}
}
`;
const ropeElements = ropeWgsl + ropeMain("store_out(i, rotated(i));");
const ropePairs = ropeWgsl + ropeMain("store2_out(i, rotated(2u * i), rotated(2u * i + 1u));");

function ropePass({ inputs: [x, , cosines], outputs: [out], attrs }: OpContext): GpuPass {
  const { rotary_dim, layout, direction } = attrs as unknown as RopeAttrs;
  const [, , heads, width] = x.shape;
  const operands = { x: input(0), positions: input(1), cosines: input(2), sines: input(3) };
  const size = sizeOf(x.shape), pairs = isHalf(out.dtype);
  return each(pairs ? size / 2 : size, pairs ? ropePairs : ropeElements, {
    ...operands,
    out: output(0),
  }, {
    uints: {
      width,
      rotary_dim,
      per_token: heads * width,
      last: cosines.shape[0] - 1,
      interleaved: layout === "interleaved" ? 1 : 0,
    },
    floats: { direction },
  });
}

/** Cosines and sines of position · theta^(-2i/rotary_dim), [max_position, rotary_dim/2]. */
export function ropeTables(
  max_position: number,
  rotary_dim: number,
  theta: number,
): [Tensor, Tensor] {
  const half = rotary_dim / 2,
    cosines = new Float32Array(max_position * half),
    sines = new Float32Array(max_position * half);
  for (let position = 0; position < max_position; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-2 * i / rotary_dim);
      cosines[position * half + i] = Math.cos(angle);
      sines[position * half + i] = Math.sin(angle);
    }
  }
  const key = `rope:${max_position}:${rotary_dim}:${theta}`, shape = [max_position, half];
  return [constant(`${key}:cos`, shape, cosines), constant(`${key}:sin`, shape, sines)];
}

export function rope(
  x: Tensor,
  positions: Tensor,
  [cosines, sines]: readonly [Tensor, Tensor],
  attrs: Partial<RopeAttrs> = {},
): Tensor {
  const rotary_dim = 2 * cosines.shape[1];
  return apply(ropeOp, [x, positions, cosines, sines], {
    layout: "half",
    direction: 1,
    ...attrs,
    rotary_dim,
  })[0];
}
