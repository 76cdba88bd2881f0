/**
 * Attention, its gradient, decoding and the loss head on the GPU, at the shapes of a 124M model.
 *
 *     deno run -A tests/bench/webgpu_attention.ts [--json]
 *
 * A software adapter gets toy sizes.
 */

import type { Attrs, Op, Spec } from "../../core/graph/mod.ts";
import { openWebgpu } from "../../core/device/webgpu/mod.ts";
import { attentionGradOp, attentionOp, cachedAttentionOp } from "../../kernels/attention.ts";
import { linearCrossEntropyGradOp, linearCrossEntropyOp } from "../../kernels/cross_entropy.ts";
import type { Kernel } from "../../kernels/lowering.ts";
import { timeNode } from "./webgpu_timing.ts";

interface Bench {
  readonly name: string;
  readonly op: Kernel;
  readonly inputs: readonly Spec[];
  readonly attrs: Attrs;
  readonly values?: Readonly<Record<number, ArrayLike<number>>>;
}

const f32 = (...shape: number[]): Spec => ({ shape, dtype: "f32" });
const i32 = (...shape: number[]): Spec => ({ shape, dtype: "i32" });

function benches(scale: number): Bench[] {
  const time = 1024 / scale, batch = scale === 1 ? 8 : 1, heads = scale === 1 ? 12 : 2;
  const vocab = Math.ceil(50_304 / scale), tokens = batch * time, width = 768 / scale;
  const attention = (d: number, window = 0): Bench[] => {
    const rows = f32(batch, time, heads, d),
      name = `${time}, width ${d}${window ? ", window" : ""}`;
    const attrs = { causal: true, window, scale: 1 / Math.sqrt(d), softcap: 0 };
    const lse = f32(batch, heads, time);
    return [
      { name: `attention ${name}`, op: attentionOp, inputs: [rows, rows, rows], attrs },
      {
        name: `gradient ${name}`,
        op: attentionGradOp,
        inputs: [rows, rows, rows, rows, lse, rows],
        attrs,
      },
    ];
  };
  const decode = (capacity: number): Bench => ({
    name: `decode over ${capacity}`,
    op: cachedAttentionOp,
    inputs: [
      f32(1, 1, heads, 64),
      f32(1, capacity, heads, 64),
      f32(1, capacity, heads, 64),
      i32(1),
    ],
    attrs: { causal: true, window: 0, scale: 1 / 8, softcap: 0 },
    values: { 3: [capacity - 1] },
  });
  const head = (op: Kernel): Bench => ({
    name: op.name,
    op,
    inputs: [f32(tokens, width), f32(vocab, width), i32(tokens)],
    attrs: { softcap: 0, label_smoothing: 0, z_loss: 0 },
    values: { 2: Int32Array.from({ length: tokens }, (_, i) => i * 7919 % vocab) },
  });
  return [
    ...attention(64),
    ...attention(64, time / 4),
    ...attention(128),
    decode(time),
    decode(8 * time),
    head(linearCrossEntropyOp),
    head(linearCrossEntropyGradOp),
  ];
}

if (import.meta.main) {
  await using device = await openWebgpu();
  const json = Deno.args.includes("--json");
  console.error(device.info.name);
  for (const { name, op, inputs, attrs, values } of benches(device.software ? 16 : 1)) {
    const outputs = op.check(inputs, attrs), node = { inputs, outputs, attrs };
    const { flops, bytes } = op.cost!(node);
    for (const kernel of op.kernels!) {
      if (!(kernel.when?.(node, device.target.limits) ?? true)) continue;
      const ms = await timeNode(
        device,
        { op: op as Op, ...node, ...(values && { values }) },
        kernel,
      );
      const row = {
        name,
        kernel: kernel.name,
        ms,
        gflops: flops / ms / 1e6,
        gbs: bytes / ms / 1e6,
      };
      console.log(
        json
          ? JSON.stringify(row)
          : `${name.padEnd(32)} ${kernel.name.padEnd(12)} ${ms.toFixed(3).padStart(9)} ms ${
            row.gflops.toFixed(1).padStart(9)
          } GFLOP/s ${row.gbs.toFixed(1).padStart(8)} GB/s`,
      );
    }
  }
}
