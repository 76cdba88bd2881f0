/**
 * The webgpu forms of `linear_cross_entropy` and its gradient: rows go in chunks, each with a
 * scratch of logits of bounded size. A chunk is a product, a pass over its rows and, for gradients,
 * two more products; the head's gradient adds up chunk by chunk.
 */

import type { OpContext } from "../../core/graph/mod.ts";
import type { CrossEntropyAttrs } from "../cross_entropy.ts";
import {
  foldGrid,
  type GpuKernel,
  type GpuPass,
  type GpuTarget,
  input,
  output,
  scratch,
} from "../lowering.ts";
import { lossBytes, type LossForm, lossRowsWgsl, lossSumWgsl } from "./cross_entropy_rows.ts";
import { type Gemm, gemmPasses, planGemm } from "./gemm.ts";

/** Logits held at a time. Enough rows to fill a large GPU at 50,000 tokens of vocabulary. */
const CHUNK_BYTES = 1 << 26;

interface Chunk {
  readonly first: number;
  readonly rows: number;
}

function chunksOf({ inputs: [x, head] }: OpContext, target: GpuTarget, bytes: number): Chunk[] {
  const tokens = x.shape[0], rowBytes = 4 * head.shape[0];
  // One row always fits: the head has at least as many bytes and is bound whole.
  const fitting = Math.max(1, Math.floor(Math.min(bytes, target.maxBindingBytes) / rowBytes));
  // Whole tiles of the products.
  const rows = Math.min(tokens, fitting >= 128 ? fitting - fitting % 128 : fitting);
  const chunks: Chunk[] = [];
  for (let first = 0; first < tokens; first += rows) {
    chunks.push({ first, rows: Math.min(rows, tokens - first) });
  }
  return chunks;
}

/** The products of a chunk: its logits, and what its slopes give x and the head. */
function products({ inputs: [x, head] }: OpContext, { first, rows }: Chunk) {
  const width = x.shape[1], vocab = head.shape[0], offset = first * width;
  const logits = { at: scratch(0) };
  return {
    logits: {
      batch: 1,
      m: rows,
      n: vocab,
      k: width,
      transA: false,
      transB: true,
      a: { at: input(0), offset },
      b: { at: input(1) },
      sink: { outputs: [{ ...logits, dtype: "f32" }] },
    },
    rowGrad: {
      batch: 1,
      m: rows,
      n: width,
      k: vocab,
      transA: false,
      transB: false,
      a: logits,
      b: { at: input(1) },
      sink: { outputs: [{ at: output(2), dtype: "f32", offset }] },
    },
    headGrad: {
      batch: 1,
      m: vocab,
      n: width,
      k: rows,
      transA: true,
      transB: false,
      a: logits,
      b: { at: input(0), offset },
      sink: { outputs: [{ at: output(3), dtype: "f32" }], accumulate: first > 0 },
    },
  } satisfies Record<string, Gemm>;
}

function rowsPass(node: OpContext, target: GpuTarget, chunk: Chunk, slopes: boolean): GpuPass {
  const { inputs, attrs } = node, vocab = inputs[1].shape[0];
  const { softcap, label_smoothing, z_loss } = attrs as unknown as CrossEntropyAttrs;
  const weighted = inputs.length > 3, quads = vocab % 4 === 0;
  const form: LossForm = { quads, softcap: softcap > 0, weighted, slopes };
  return {
    wgsl: lossRowsWgsl(form),
    bindings: {
      logits: { ...scratch(0), vec4: quads },
      targets: input(2),
      ...(weighted && { weights: input(3) }),
      losses: output(1),
    },
    uints: { ...chunk, vocab },
    floats: { smoothing: label_smoothing, z_loss, ...(softcap > 0 && { softcap }) },
    grid: foldGrid(chunk.rows, target.maxWorkgroupsPerDimension),
    workgroupBytes: lossBytes,
  };
}

function sumPass({ inputs }: OpContext): GpuPass {
  const weighted = inputs.length > 3;
  return {
    wgsl: lossSumWgsl(weighted),
    bindings: { losses: output(1), ...(weighted && { weights: input(3) }), sum: output(0) },
    uints: { tokens: inputs[0].shape[0] },
    grid: [1, 1, 1],
    workgroupBytes: lossBytes,
  };
}

/** `chunkBytes` bounds the logits held at a time; tests make it small. */
export function lossKernel(slopes: boolean, chunkBytes = CHUNK_BYTES): GpuKernel {
  const gemms = (node: OpContext, chunk: Chunk): Gemm[] => {
    const { logits, rowGrad, headGrad } = products(node, chunk);
    return slopes ? [logits, rowGrad, headGrad] : [logits];
  };
  return {
    name: "chunks",
    when: (_, target) =>
      target.maxInvocations >= 256 && target.maxWorkgroupStorageBytes >= lossBytes,
    scratch(node, target) {
      const chunks = chunksOf(node, target, chunkBytes);
      const partials = chunks.flatMap((chunk) => gemms(node, chunk))
        .map((g) => planGemm(g, target).scratch);
      return [chunks[0].rows * node.inputs[1].shape[0], Math.max(...partials)]
        .filter((size) => size > 0).map((size) => ({ shape: [size], dtype: "f32" }));
    },
    passes(node, target) {
      const chunks = chunksOf(node, target, chunkBytes);
      const multiply = (g: Gemm) => gemmPasses(g, planGemm(g, target), target, scratch(1));
      return [
        ...chunks.flatMap((chunk) => {
          const [logits, ...grads] = gemms(node, chunk);
          return [
            ...multiply(logits),
            rowsPass(node, target, chunk, slopes),
            ...grads.flatMap(multiply),
          ];
        }),
        sumPass(node),
      ];
    },
  };
}
