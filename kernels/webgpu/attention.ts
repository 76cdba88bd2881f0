/** The webgpu forms of `attention`, its gradient, and attention over a cache. */

import type { OpContext } from "../../core/graph/mod.ts";
import type { AttentionAttrs } from "../attention.ts";
import {
  foldGrid,
  type GpuKernel,
  type GpuPass,
  type GpuTarget,
  input,
  output,
  scratch,
} from "../lowering.ts";
import { attentionSizes } from "../sizes.ts";
import {
  backwardBytes,
  type BackwardForm,
  deltaWgsl,
  keyGradWgsl,
  queryGradWgsl,
  SLICE,
} from "./attention_backward.ts";
import { decodeBytes, decodeWgsl, mergeWgsl } from "./attention_decode.ts";
import { forwardBytes, type ForwardForm, forwardWgsl } from "./attention_forward.ts";
import { THREADS, TILE } from "./attention_parts.ts";

/** A pass over `groups` workgroups, with the numbers that all kernels of attention read. */
function passOf(
  node: OpContext,
  target: GpuTarget,
  groups: number,
  pass: Pick<GpuPass, "wgsl" | "bindings" | "workgroupBytes"> & { uints?: Record<string, number> },
): GpuPass {
  const { batch, time, heads, width, kv_heads, keys } = attentionSizes(node.inputs);
  const { causal, window, scale, softcap } = node.attrs as unknown as AttentionAttrs;
  return {
    ...pass,
    uints: {
      batch,
      time,
      keys,
      heads,
      kv_heads,
      width,
      causal: causal ? 1 : 0,
      window: Math.min(window, 2 ** 30),
      groups,
      ...pass.uints,
    },
    floats: { scale, ...(softcap > 0 && { softcap }) },
    grid: foldGrid(groups, target.maxWorkgroupsPerDimension),
  };
}

const hasSoftcap = ({ attrs }: OpContext) => (attrs as unknown as AttentionAttrs).softcap > 0;

/** Ways of the tiled forward pass. */
type Way = Pick<ForwardForm, "keep" | "groups" | "cached">;

function forwardForm(node: OpContext, way: Way): ForwardForm {
  const { width } = attentionSizes(node.inputs);
  const segments = !way.cached && node.inputs.length > 3;
  return { width, softcap: hasSoftcap(node), segments, ...way };
}

const runs = (bytes: number, target: GpuTarget) =>
  bytes <= target.maxWorkgroupStorageBytes && THREADS <= target.maxInvocations;

function forwardPass(node: OpContext, target: GpuTarget, form: ForwardForm): GpuPass {
  const { batch, time, heads, width } = attentionSizes(node.inputs);
  const tiles = Math.ceil(time / (TILE * form.groups)), vec4 = width % 4 === 0;
  return passOf(node, target, batch * heads * tiles, {
    wgsl: forwardWgsl(form),
    bindings: {
      q: { ...input(0), vec4 },
      k: { ...input(1), vec4 },
      v: { ...input(2), vec4 },
      ...(form.segments && { segments: input(3) }),
      ...(form.cached && { start: input(3) }),
      out: { ...output(0), vec4 },
      ...(!form.cached && { lse: output(1) }),
    },
    workgroupBytes: forwardBytes(form),
    uints: { tiles },
  });
}

const forwardKernel = (name: string, way: Way): GpuKernel => ({
  name,
  when: (node, target) => runs(forwardBytes(forwardForm(node, way)), target),
  passes: (node, target) => [forwardPass(node, target, forwardForm(node, way))],
});

/**
 * The first is the default: on an H200 `streamed` took 0.8 of `kept`'s time at width 64 and 0.46 at
 * 128. `kept` ways hold a tile of queries in workgroup memory, `streamed` ones need less of it;
 * `wide` tiles have 64 queries, eight to a thread, and want many registers.
 */
const forwardKernels = (cached: boolean): GpuKernel[] => [
  forwardKernel("streamed", { keep: false, groups: 1, cached }),
  forwardKernel("kept", { keep: true, groups: 1, cached }),
  forwardKernel("wide_kept", { keep: true, groups: 2, cached }),
  forwardKernel("wide", { keep: false, groups: 2, cached }),
];

export const attentionKernels: readonly GpuKernel[] = forwardKernels(false);

const hasSegments = ({ inputs }: OpContext) => inputs.length > 6;

const gradKernel = (name: string, groups: number): GpuKernel => ({
  name,
  when: (_, target) => runs(backwardBytes(groups), target),
  scratch(node) {
    const { batch, time, heads } = attentionSizes(node.inputs);
    const sums = hasSegments(node) ? 2 : 1;
    return [{ shape: [batch, heads, time, sums], dtype: "f32" }];
  },
  passes(node, target) {
    const { batch, time, heads, kv_heads, width } = attentionSizes(node.inputs);
    const segments = hasSegments(node), vec4 = width % 4 === 0;
    const form: BackwardForm = { width, softcap: hasSoftcap(node), segments, groups };
    const query_tiles = Math.ceil(time / (TILE * groups));
    const tiles = Math.ceil(time / TILE), slices = Math.ceil(width / SLICE);
    const bindings = {
      q: { ...input(0), vec4 },
      k: { ...input(1), vec4 },
      v: { ...input(2), vec4 },
      dout: { ...input(5), vec4 },
      ...(segments
        ? { sums: scratch(0), segments: input(6) }
        : { lse: input(4), delta: scratch(0) }),
    };
    return [
      passOf(node, target, Math.ceil(batch * time * heads / 8), {
        wgsl: deltaWgsl(segments),
        bindings: {
          out: input(3),
          dout: input(5),
          ...(segments ? { lse: input(4), sums: scratch(0) } : { delta: scratch(0) }),
        },
        workgroupBytes: 4 * THREADS,
      }),
      passOf(node, target, batch * heads * query_tiles, {
        wgsl: queryGradWgsl(form),
        bindings: { ...bindings, dq: { ...output(0), vec4 } },
        workgroupBytes: backwardBytes(groups),
        uints: { tiles: query_tiles },
      }),
      passOf(node, target, batch * kv_heads * slices * tiles, {
        wgsl: keyGradWgsl(form),
        bindings: { ...bindings, dk: { ...output(1), vec4 }, dv: { ...output(2), vec4 } },
        workgroupBytes: backwardBytes(1),
        uints: { tiles, slices },
      }),
    ];
  },
});

/** `wide`: the queries' gradients in tiles of 64. */
export const attentionGradKernels: readonly GpuKernel[] = [
  gradKernel("tiles", 1),
  gradKernel("wide", 2),
];

/**
 * How a cache is cut into spans of keys for `rows` queries: enough workgroups for a GPU, but no
 * crumbs.
 */
function spansOf(rows: number, keys: number): { splits: number; span: number } {
  const wanted = Math.max(1, Math.min(Math.ceil(keys / 128), Math.ceil(512 / rows)));
  const span = Math.ceil(keys / wanted / THREADS) * THREADS;
  return { splits: Math.ceil(keys / span), span };
}

const rowsOf = ({ inputs }: OpContext) => {
  const { batch, time, heads, keys } = attentionSizes(inputs), rows = batch * time * heads;
  return { rows, ...spansOf(rows, keys) };
};

/** Queries up to which a workgroup for each is better than tiles of them. */
const FEW = 8;

const decodeKernel = (name: string, most: number): GpuKernel => ({
  name,
  when: (node, target) =>
    attentionSizes(node.inputs).time <= most &&
    runs(decodeBytes({ width: node.inputs[0].shape[3], softcap: false, partial: false }), target),
  scratch(node) {
    const { rows, splits } = rowsOf(node), { width } = attentionSizes(node.inputs);
    if (splits === 1) return [];
    return [{ shape: [rows * splits, width], dtype: "f32" }, {
      shape: [rows * splits, 2],
      dtype: "f32",
    }];
  },
  passes(node, target) {
    const { rows, splits, span } = rowsOf(node), { width } = attentionSizes(node.inputs);
    const form = { width, softcap: hasSoftcap(node), partial: splits > 1 };
    const vec4 = width % 4 === 0, merged = { parts: scratch(0), stats: scratch(1) };
    const scores = passOf(node, target, rows * splits, {
      wgsl: decodeWgsl(form),
      bindings: {
        q: { ...input(0), vec4 },
        k: { ...input(1), vec4 },
        v: input(2),
        start: input(3),
        ...(form.partial ? merged : { out: output(0) }),
      },
      workgroupBytes: decodeBytes(form),
      uints: { splits, span },
    });
    if (!form.partial) return [scores];
    const merge = passOf(node, target, rows, {
      wgsl: mergeWgsl,
      bindings: { ...merged, out: output(0) },
      uints: { splits },
    });
    return [scores, merge];
  },
});

export const cachedAttentionKernels: readonly GpuKernel[] = [
  decodeKernel("decode", FEW),
  ...forwardKernels(true),
  // Last, so that it is never the default: any number of queries the decoding way.
  decodeKernel("decode_many", Infinity),
];
