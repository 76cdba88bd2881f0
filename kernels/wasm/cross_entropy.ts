/**
 * The head and its loss on the cpu device. Rows of logits are made a chunk at a time, turned in
 * place into losses and slopes, and spent on both gradients before the next chunk: three products,
 * and never all logits. Chunks and slabs are fixed by the shapes alone.
 */

import { type OpContext, sizeOf } from "../../core/graph/tensor.ts";
import type { CrossEntropyAttrs } from "../cross_entropy.ts";
import {
  bytesPerElement,
  type CpuJob,
  type CpuLowering,
  type CpuTarget,
  input,
  type Operand,
  output,
  scratch,
} from "../lowering.ts";
import { type RowOperands, rowsJob, sumJob } from "./cross_entropy_rows.ts";
import { castJobs } from "./fused.ts";
import type { Stored } from "./panels.ts";
import {
  blockBytes,
  blockJob,
  gemmJobs,
  isBlas,
  type Matrix,
  packedBytes,
  packJob,
  type Product,
  productJobs,
} from "./product.ts";

/**
 * Bytes of logits that a chunk aims at; few rows make the repacking of the head dear, many spill
 * the caches.
 */
const chunkBytes = 32 * 2 ** 20;
/** How much of the head is packed at once. */
const slabBytes = 8 * 2 ** 20;
/** Up to this many tokens the head is read as it lies: see `productJobs`. */
const fewTokens = 20;

interface Head {
  readonly tokens: number;
  readonly width: number;
  readonly vocab: number;
  readonly x: Matrix;
  readonly weight: Matrix;
  /** Bytes from row to row of the logits. */
  readonly pitch: number;
}

/** The head's operands, or f32 copies of those that are halves, for a BLAS. */
function headOf({ inputs: [x, weight] }: OpContext, isWide: boolean): Head {
  const [tokens, width] = x.shape, [vocab] = weight.shape;
  const matrix = (at: Operand, wide: Operand, { dtype }: typeof x): Matrix => {
    const stored = isWide ? "f32" : dtype as Stored;
    return {
      at: stored === dtype ? at : wide,
      stored,
      dense: "k",
      stride: width * bytesPerElement(stored),
      batchStride: 0,
    };
  };
  return {
    tokens,
    width,
    vocab,
    x: matrix(input(0), wideX, x),
    weight: matrix(input(1), wideWeight, weight),
    pitch: pitchOf(vocab),
  };
}

/**
 * Whole vectors, and an odd number of cache lines: rows a power of two apart would all want the
 * same few lines.
 */
function pitchOf(vocab: number): number {
  const lines = Math.ceil(vocab / 16);
  return 64 * (lines % 2 === 0 ? lines + 1 : lines);
}

export function chunkRows(tokens: number, vocab: number): number {
  const rows = Math.floor(chunkBytes / (4 * vocab) / 48) * 48;
  return Math.min(tokens, Math.max(96, Math.min(rows, 480)));
}

export function linearCrossEntropyWasm(
  node: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  return sweep(node, target, { gradients: false });
}

export function linearCrossEntropyGradWasm(
  node: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  return sweep(node, target, { gradients: true });
}

const logits = scratch(0), packed = scratch(1), wideX = scratch(2), wideWeight = scratch(3);

function sweep(
  node: OpContext,
  target: CpuTarget,
  { gradients }: { gradients: boolean },
): CpuLowering | undefined {
  const [x, weight, , weights] = node.inputs;
  const isWide = target.blas && x.shape[0] > fewTokens;
  const head = headOf(node, isWide), { tokens, width, vocab } = head;
  if ([x, weight].some(({ dtype }) => dtype !== "f32" && dtype !== "bf16")) return undefined;
  if (tokens * width * vocab === 0 || (weights && weights.dtype !== "f32")) return undefined;
  const options = node.attrs as unknown as CrossEntropyAttrs,
    rows = chunkRows(tokens, vocab),
    jobs: CpuJob[] = [];
  const operands: RowOperands = {
    logits,
    targets: input(2),
    weights: weights ? input(3) : undefined,
    losses: output(1),
    pitch: head.pitch,
    vocab,
  };
  let packedMost = 0, memberMost = 0;
  const add = (product: Product, vocabulary: "m" | "n" | "k") => {
    for (const part of slabs(product, vocabulary, target)) {
      const made = tokens <= fewTokens && vocabulary === "n"
        ? productJobs(part, packed, target)
        : panelJobs(part, target);
      packedMost = Math.max(packedMost, ...made.scratchBytes ?? []);
      memberMost = Math.max(memberMost, made.memberBytes ?? 0);
      jobs.push(...made.jobs);
    }
  };
  const widened = ([[x, wideX], [weight, wideWeight]] as const).map(([spec, to], i) => {
    if (!isWide || spec.dtype !== "bf16") return 0;
    jobs.push(...castJobs(spec, "f32", [input(i), to], target));
    return 4 * sizeOf(spec.shape);
  });
  for (let first = 0; first < tokens; first += rows) {
    const count = Math.min(rows, tokens - first);
    add(logitsOf(head, first, count), "n");
    jobs.push(rowsJob(operands, options, { first, count, gradients }, target));
    if (!gradients) continue;
    add(dxOf(head, first, count), "k");
    add(dweightOf(head, first, count), "m");
  }
  jobs.push(sumJob(operands, tokens, output(0)));
  return {
    jobs,
    scratchBytes: [rows * head.pitch + 64, packedMost, ...(isWide ? widened : [])],
    memberBytes: memberMost,
  };
}

/** A product by packed panels, or by a BLAS. */
function panelJobs(product: Product, target: CpuTarget): CpuLowering {
  if (target.blas && isBlas(product)) return { jobs: gemmJobs(product) };
  return {
    jobs: [packJob(product, packed, target), blockJob(product, packed, target)],
    scratchBytes: [packedBytes(product, target)],
    memberBytes: blockBytes(product, target),
  };
}

/** Rows first .. first + count − 1 of x, as A (`k`: their channels are summed) or as B. */
const rowsOf = (x: Matrix, first: number): Matrix => ({ ...x, offset: first * x.stride });

/** logits = x · headᵀ */
function logitsOf({ width, vocab, x, weight, pitch }: Head, first: number, count: number): Product {
  return {
    batch: 1,
    m: count,
    n: vocab,
    k: width,
    a: rowsOf(x, first),
    b: weight,
    c: { at: logits, pitch },
  };
}

/** dx = slopes · head */
function dxOf({ width, vocab, weight, pitch }: Head, first: number, count: number): Product {
  return {
    batch: 1,
    m: count,
    n: width,
    k: vocab,
    a: { at: logits, stored: "f32", dense: "k", stride: pitch, batchStride: 0 },
    b: { ...weight, dense: "outer" },
    c: { at: output(2), offset: 4 * first * width },
  };
}

/** dhead += slopesᵀ · x; the first chunk writes. */
function dweightOf({ width, vocab, x, pitch }: Head, first: number, count: number): Product {
  return {
    batch: 1,
    m: vocab,
    n: width,
    k: count,
    a: { at: logits, stored: "f32", dense: "outer", stride: pitch, batchStride: 0 },
    b: { ...rowsOf(x, first), dense: "outer" },
    c: { at: output(3) },
    accumulate: first > 0,
  };
}

/**
 * A product cut along the vocabulary, so that only a slab of the head is packed at a time; whole
 * where nothing of it is packed.
 */
function slabs(product: Product, axis: "m" | "n" | "k", { blas }: CpuTarget): Product[] {
  const { a, b, c } = product, vocab = product[axis], width = axis === "n" ? product.k : product.n;
  if (axis === "m" || blas || (axis === "n" && product.m <= fewTokens)) return [product];
  const length = Math.max(256, Math.floor(slabBytes / (4 * width) / 256) * 256);
  return Array.from({ length: Math.ceil(vocab / length) }, (_, index) => {
    const first = index * length, size = Math.min(length, vocab - first);
    const right = { ...b, offset: first * b.stride };
    return axis === "n"
      ? { ...product, n: size, b: right, c: { ...c, offset: 4 * first } }
      : { ...product, k: size, a: { ...a, offset: 4 * first }, b: right, accumulate: index > 0 };
  });
}
