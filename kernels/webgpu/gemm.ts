/**
 * Matrix products as WGSL passes, for `matmul` and for ops that multiply inside (the loss head). A
 * product is described once; `planGemm` picks a variant from its shape and the device's limits;
 * `gemmPasses` prints it.
 *
 * Large products go in square tiles through workgroup memory, each thread holding a block of the
 * result in registers. Products with few tiles but a long K (weight gradients, few tokens) split K
 * over workgroups into partial results, which a second pass adds in a fixed order: no float
 * atomics, the same bits on every run. A few rows (decoding) are read as dot products.
 */

import {
  type Binding,
  bytesPerElement,
  foldGrid,
  type GpuPass,
  type GpuTarget,
  type Operand,
} from "../lowering.ts";
import { dotsWgsl, skinnyWgsl } from "./gemm_rows.ts";
import { plainWgsl, type Tile, tileBytes, tileThreads, tileWgsl } from "./gemm_tiles.ts";
import {
  finishWgsl,
  type Sink,
  sinkBindings,
  sinkFloats,
  sinkParams,
  sumPartialsWgsl,
} from "./sink.ts";

/** One factor. It begins `offset` elements into its tensor. */
export interface Factor {
  readonly at: Operand;
  readonly offset?: number;
}

/** C = op(A) op(B) for each matrix of a batch; op transposes where asked. */
export interface Gemm {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly a: Factor;
  readonly b: Factor;
  readonly sink: Sink;
}

export const tiles = {
  tile128: { rows: 128, columns: 128, depth: 16, threadRows: 8, threadColumns: 8 },
  ahead128: { rows: 128, columns: 128, depth: 16, threadRows: 8, threadColumns: 8, ahead: true },
  tile64: { rows: 64, columns: 64, depth: 16, threadRows: 8, threadColumns: 8 },
  ahead64: { rows: 64, columns: 64, depth: 16, threadRows: 8, threadColumns: 8, ahead: true },
  tile32: { rows: 32, columns: 32, depth: 16, threadRows: 4, threadColumns: 4 },
} satisfies Record<string, Tile>;

export type TileName = keyof typeof tiles;

export const gemmVariants = [
  "plain",
  "rows",
  "split128",
  "split64",
  "split32",
  "tile128",
  "ahead128",
  "tile64",
  "ahead64",
  "tile32",
] as const;
export type GemmVariant = typeof gemmVariants[number];

export interface GemmPlan {
  readonly variant: GemmVariant;
  /**
   * Parts that K is cut into; above 1, or where the sink asks for it, partial results go through
   * scratch.
   */
  readonly splits: number;
  /** f32 elements of scratch; 0 where none is wanted. */
  readonly scratch: number;
}

const splitTiles: Partial<Record<GemmVariant, TileName>> = {
  split128: "tile128",
  split64: "tile64",
  split32: "tile32",
};

const fits = (t: Tile, target: GpuTarget) =>
  tileThreads(t) <= target.maxInvocations && tileBytes(t) <= target.maxWorkgroupStorageBytes;

/** Whether a variant can run at all; every one that can is right for every shape. */
export function gemmRuns(variant: GemmVariant, target: GpuTarget): boolean {
  if (variant === "plain" || variant === "rows") return target.maxInvocations >= 64;
  return fits(tiles[splitTiles[variant] ?? variant as TileName], target);
}

/**
 * Software adapters have narrow subgroups (llvmpipe 8, SwiftShader 4): a few cores to keep busy,
 * not hundreds, and a compiler that takes as long over a large kernel as a small product takes to
 * run. No hardware is known whose widest subgroup is 8.
 */
const isSoftware = ({ subgroupSizes: [, widest] }: GpuTarget) => widest > 0 && widest <= 8;

/**
 * Threads that keep a large GPU busy: 132 processors, sixteen warps each. With far fewer, K is
 * split.
 */
const busy = 1 << 16;
/** Rows up to which a product counts as decoding. */
export const fewRows = 8;

function pickVariant(g: Gemm, target: GpuTarget): GemmVariant {
  const threads = (name: TileName) => tileCount(g, tiles[name]) * tileThreads(tiles[name]);
  const can = (variant: GemmVariant) => gemmRuns(variant, target);
  if (isSoftware(target)) return g.m * g.n * g.k > 1 << 23 && can("tile64") ? "tile64" : "plain";
  // Few rows and few columns over many tokens (the gradient of a router) would leave all of K to a
  // handful of workgroups.
  const lonely = !g.transB && g.k >= 4096 && g.batch * g.n < 2048;
  if (g.m <= fewRows && !lonely) return "rows";
  if (threads("tile128") >= busy && can("tile128")) return "tile128";
  if (g.k >= 512 && can("split128") && fillsByHalves(g)) return "split128";
  const name = Math.min(g.m, g.n) > 32 && can("tile64") ? "tile64" : "tile32";
  if (threads(name) < busy / 2 && g.k >= 512) return name === "tile64" ? "split64" : "split32";
  return threads(name) < busy / 8 ? "tile32" : name;
}

/**
 * Whether tiles of 128, K split, keep a GPU busy in one go. A second round that is nearly empty
 * costs as much as a full one: on an H200 1,024³ ran at 22 TFLOP/s so (64 tiles, 4 parts) against
 * 15 in split tiles of 64, but 2,304 × 768 over 8,192 tokens at 20 against 28.
 */
function fillsByHalves(g: Gemm): boolean {
  const threads = tileCount(g, tiles.tile128) * tileThreads(tiles.tile128),
    parts = Math.floor(busy / threads);
  return Math.min(g.m, g.n) >= 256 && parts >= 2 && parts * threads >= 0.9 * busy;
}

const tileCount = ({ batch, m, n }: Gemm, { rows, columns }: Tile) =>
  batch * Math.ceil(m / rows) * Math.ceil(n / columns);

/** `variant` forces a choice (tests, benchmarks). */
export function planGemm(g: Gemm, target: GpuTarget, variant?: GemmVariant): GemmPlan {
  const chosen = variant ?? pickVariant(g, target), tileName = splitTiles[chosen];
  const size = g.batch * g.m * g.n;
  if (!tileName) {
    // Halves are stored in pairs: where a row's end would cut one, the result goes through scratch.
    const cut = g.sink.outputs.some(({ dtype }) => bytesPerElement(dtype) === 2) && g.n % 2 === 1;
    return { variant: chosen, splits: 1, scratch: cut ? size : 0 };
  }
  const tile = tiles[tileName];
  const room = Math.max(1, Math.floor(Math.min(target.maxBindingBytes, 1 << 28) / (4 * size)));
  const parts = busy / (tileCount(g, tile) * tileThreads(tile));
  // Large tiles stay within what runs at once, see `fillsByHalves`.
  const wanted = tileName === "tile128" ? Math.max(1, Math.floor(parts)) : Math.ceil(parts);
  const deep = Math.max(1, Math.floor(g.k / 128));
  const forced = variant ? 2 : 1;
  const asked = Math.min(Math.max(wanted, forced), Math.max(deep, forced), room);
  const depth = splitDepth(g.k, asked, tile);
  const splits = Math.max(1, Math.ceil(g.k / depth));
  return { variant: chosen, splits, scratch: splits * size };
}

const splitDepth = (k: number, splits: number, tile: Tile) =>
  Math.max(1, Math.ceil(k / (splits * tile.depth))) * tile.depth;

/** `partials` is scratch of the planned size, wanted only where `plan.scratch` is not 0. */
export function gemmPasses(
  g: Gemm,
  plan: GemmPlan,
  target: GpuTarget,
  partials?: Operand,
): GpuPass[] {
  const size = g.batch * g.m * g.n;
  const through = plan.scratch > 0;
  const sink: Sink = through ? { outputs: [{ at: partials!, dtype: "f32" }] } : g.sink;
  const passes = [productPass(g, plan, sink, target)];
  if (through) passes.push(sumPass(g, plan, partials!, size, target));
  return passes;
}

/** Factors are read four at a time where every quad of theirs is whole and aligned. */
function readsQuads({ offset = 0 }: Factor, dense: number): boolean {
  return dense % 4 === 0 && offset % 4 === 0;
}

function productPass(g: Gemm, plan: GemmPlan, sink: Sink, target: GpuTarget): GpuPass {
  const { batch, m, n, k, transA, transB, a, b } = g;
  // The plain form reads along rows only where rows are dense.
  const plain = plan.variant === "plain";
  const quadsA = !plain && readsQuads(a, transA ? m : k);
  const quadsB = !(plain && transB) && readsQuads(b, transB ? k : n);
  const quadsC = n % 4 === 0;
  const form = { transA, transB, quadsA, quadsB };
  const bindings: Record<string, Binding> = {
    a: { ...a.at, vec4: quadsA },
    b: { ...b.at, vec4: quadsB },
    ...sinkBindings(sink, quadsC),
  };
  const uints = {
    m,
    n,
    k,
    batch,
    a_offset: a.offset ?? 0,
    b_offset: b.offset ?? 0,
    ...sinkParams(sink),
  };
  const finish = finishWgsl(sink, quadsC);
  const limit = target.maxWorkgroupsPerDimension;
  if (plain || plan.variant === "rows") {
    const printed = plain ? plainWgsl(form) : transB ? dotsWgsl(form, m) : skinnyWgsl(form, m);
    const groups = batch * Math.ceil(m / printed.rows) * Math.ceil(n / printed.columns);
    return {
      wgsl: printed.wgsl + finish,
      bindings,
      uints,
      floats: sinkFloats(sink),
      grid: foldGrid(groups, limit),
      workgroupBytes: printed.workgroupBytes,
    };
  }
  const tile = tiles[splitTiles[plan.variant] ?? plan.variant as TileName];
  const tiles_m = Math.ceil(m / tile.rows), tiles_n = Math.ceil(n / tile.columns);
  const k_split = plan.splits > 1 ? splitDepth(k, plan.splits, tile) : k;
  return {
    wgsl: tileWgsl(tile, form) + finish,
    bindings,
    uints: { ...uints, tiles_m, tiles_n, k_split, splits: plan.splits },
    floats: sinkFloats(sink),
    grid: foldGrid(plan.splits * batch * tiles_m * tiles_n, limit),
    workgroupBytes: tileBytes(tile),
  };
}

/** Adds the partial results, first part first, and stores what comes of them. */
function sumPass(
  g: Gemm,
  { splits }: GemmPlan,
  partials: Operand,
  size: number,
  target: GpuTarget,
): GpuPass {
  const quads = size % 4 === 0;
  return {
    wgsl: sumPartialsWgsl(g.sink, quads),
    bindings: {
      partials: { ...partials, vec4: quads },
      ...sinkBindings(g.sink, quads),
    },
    uints: { size, m: g.m, n: g.n, batch: g.batch, splits, ...sinkParams(g.sink) },
    floats: sinkFloats(g.sink),
    grid: foldGrid(Math.ceil(size / 1024), target.maxWorkgroupsPerDimension),
  };
}
