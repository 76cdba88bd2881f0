/** Attention on the cpu device: which form a node takes, and the scratch it needs. */

import type { Dtype, OpContext, Spec } from "../../core/graph/mod.ts";
import { type AttentionAttrs, attentionSizes } from "../attention.ts";
import { type CpuLowering, type CpuTarget, input, output } from "../lowering.ts";
import { backwardJob, backwardScratch } from "./attention_backward.ts";
import { decodeBytes, decodeJob, decodeQueries } from "./attention_decode.ts";
import { forwardJob, forwardScratch, type Shape } from "./attention_forward.ts";
import type { Variant } from "./attention_strips.ts";
import { type Stored, tileFor } from "./panels.ts";

function shapeOf({ inputs, attrs }: OpContext): Shape {
  const { batch, time, heads, width, kv_heads, keys } = attentionSizes(inputs);
  const { causal, window, scale, softcap } = attrs as unknown as AttentionAttrs;
  return { batch, time, heads, kvHeads: kv_heads, width, keys, causal, window, scale, softcap };
}

const isStored = (dtype: Dtype): dtype is Stored => dtype === "f32" || dtype === "bf16";

/** `undefined` where one of the tensors is stored in a way that has no WASM form. */
function variantOf(
  inputs: readonly Spec[],
  result: Spec,
  { softcap }: Shape,
  target: CpuTarget,
): Omit<Variant, "segments" | "cached"> | undefined {
  const [q, k, v] = inputs.map(({ dtype }) => dtype), out = result.dtype;
  if (!isStored(q) || !isStored(k) || !isStored(v) || !isStored(out)) return undefined;
  return { tile: tileFor(target.relaxed), q, k, v, out, softcap: softcap > 0 };
}

const isEmpty = ({ batch, time, heads, width, keys }: Shape) =>
  batch * time * heads * width * keys === 0;

export function attentionWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const shape = shapeOf(node), base = variantOf(node.inputs, node.outputs[0], shape, target);
  if (!base || isEmpty(shape)) return undefined;
  const variant: Variant = { ...base, segments: node.inputs.length > 3, cached: false };
  const segments = variant.segments ? input(3) : undefined;
  const operands = {
    q: input(0),
    k: input(1),
    v: input(2),
    out: output(0),
    lse: output(1),
    segments,
  };
  return {
    jobs: [forwardJob(shape, variant, operands)],
    memberBytes: forwardScratch(shape, variant).bytes,
  };
}

export function attentionGradWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const [out, lse, { dtype: dout }, segments] = node.inputs.slice(3);
  const shape = shapeOf(node), base = variantOf(node.inputs, out, shape, target);
  const [dq, dk, dv] = node.outputs.map(({ dtype }) => dtype);
  if (!base || isEmpty(shape) || lse.dtype !== "f32" || !isStored(dout)) return undefined;
  if (!isStored(dq) || !isStored(dk) || !isStored(dv)) return undefined;
  const variant: Variant = {
    ...base,
    dout,
    gradients: [dq, dk, dv],
    segments: segments !== undefined,
    cached: false,
  };
  const job = backwardJob(shape, variant, {
    q: input(0),
    k: input(1),
    v: input(2),
    out: input(3),
    lse: input(4),
    dout: input(5),
    segments: segments ? input(6) : 0,
    dq: output(0),
    dk: output(1),
    dv: output(2),
  });
  return { jobs: [job], memberBytes: backwardScratch(shape, variant).bytes };
}

export function cachedAttentionWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const shape = shapeOf(node), base = variantOf(node.inputs, node.outputs[0], shape, target);
  if (!base || isEmpty(shape)) return undefined;
  const variant: Variant = { ...base, segments: false, cached: true };
  const operands = { q: input(0), k: input(1), v: input(2), start: input(3), out: output(0) };
  if (shape.time * shape.heads / shape.kvHeads <= decodeQueries) {
    return { jobs: [decodeJob(shape, variant, operands)], memberBytes: decodeBytes(shape) };
  }
  return {
    jobs: [forwardJob(shape, variant, operands)],
    memberBytes: forwardScratch(shape, variant).bytes,
  };
}
