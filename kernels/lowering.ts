/**
 * How an op says what devices run: WGSL passes for the webgpu device, WASM jobs for the cpu device.
 * Both are plain data made from shapes alone, so plans can count dispatches and scratch bytes
 * before anything is allocated.
 */

import { type Dtype, isHalf, type Op, type OpContext, type Spec } from "../core/graph/tensor.ts";
import type { FunctionBuilder } from "./wasm/encode.ts";

// ---------------------------------------------------------------------------------------------------------- webgpu

/**
 * What a kernel may count on, as requested from and verified on the device (or assumed, for a dry
 * run).
 */
export interface GpuTarget {
  readonly maxWorkgroupStorageBytes: number;
  readonly maxInvocations: number;
  readonly maxWorkgroupsPerDimension: number;
  readonly maxBindingBytes: number;
  readonly maxStorageBuffers: number;
  readonly f16: boolean;
  readonly subgroups: boolean;
  /** Smallest and largest subgroup; never assume 32. Both 0 where unknown. */
  readonly subgroupSizes: readonly [number, number];
}

/** Where a binding's bytes come from. */
export interface Operand {
  readonly from: "input" | "output" | "scratch";
  readonly index: number;
}

export const input = (index: number): Operand => ({ from: "input", index });
export const output = (index: number): Operand => ({ from: "output", index });
export const scratch = (index: number): Operand => ({ from: "scratch", index });

/**
 * A binding; `vec4` declares it as an array of four neighbours (size a multiple of 4; halves as two
 * words).
 */
export type Binding = Operand & { readonly vec4?: boolean };

/** One dispatch. */
export interface GpuPass {
  /**
   * WGSL without binding declarations; the entry point is `main`. For a binding named `x` the
   * header gives, of these, what the text names: `load_x(i: u32) -> f32` (or i32/u32) and
   * `load4_x(i)`/`store4_x(i, v)` of four neighbours for every type, `store_x(i, v)` for 32-bit
   * types without `vec4`, `load2_x(pair) -> vec2<f32>` for halves, `store2_x(pair, a, b)` without
   * `vec4`. Also `params.<name>` for every number below, `flatGroup`, and the functions of
   * `webgpu/scalars.ts`.
   */
  readonly wgsl: string;
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Shapes and counts: they travel in a uniform, so one pipeline serves all shapes. */
  readonly uints?: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  /** Workgroups in x, y, z; at most 65,535 each (`foldGrid` helps). */
  readonly grid: readonly [number, number, number];
  /** Bytes of workgroup memory that the shader declares: checked here, as naga does not. */
  readonly workgroupBytes?: number;
}

/**
 * A way to run an op on a GPU. The first whose `when` holds is the default; all are tested against
 * the reference.
 */
export interface GpuKernel {
  readonly name: string;
  when?(node: OpContext, target: GpuTarget): boolean;
  scratch?(node: OpContext, target: GpuTarget): readonly Spec[];
  passes(node: OpContext, target: GpuTarget): readonly GpuPass[];
}

// ------------------------------------------------------------------------------------------------------------- cpu

export interface CpuTarget {
  /**
   * Members of the pool, the main thread included. Results must not depend on it (BLAS excepted).
   */
  readonly threads: number;
  /** Fused multiply-add on vectors is to be had (`f32x4.relaxed_madd`). */
  readonly relaxed: boolean;
  /** A BLAS serves `gemm` jobs. */
  readonly blas: boolean;
}

/**
 * A function of a plan's WASM module. All have one signature: `(args: i32, begin: i32, end: i32,
 * member_scratch: i32) -> ()`. `args` is the address of the job's argument words; the function does
 * units begin..end. Equal keys mean equal functions, which are emitted once per module.
 */
export interface WasmFunction {
  readonly key: string;
  build(f: FunctionBuilder): void;
}

/** An argument word: an operand's byte address, an i32, or an f32's bits. */
export type JobArg = Operand | number | { readonly f32: number };

/**
 * One kernel over a range of units (rows, tiles, heads), split over the pool in contiguous shares.
 * Units must be independent, and each unit's result must not depend on the split. Jobs of a node
 * run one after another, with a barrier between.
 */
export interface WasmJob {
  readonly fn: WasmFunction;
  readonly args: readonly JobArg[];
  readonly units: number;
  /** Roughly the FLOPs (or element visits) of one unit; small jobs stay on one member. */
  readonly work: number;
}

/** A product for the system's BLAS: C[M,N] = op(A) op(B) (+ C when `accumulate`). Row-major, f32. */
export interface GemmForm {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly accumulate: boolean;
  /** Leading dimensions, in elements. */
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
}

/** Rows of C are split over the pool. */
export interface GemmJob {
  readonly gemm: GemmForm;
  readonly a: Operand;
  readonly b: Operand;
  readonly c: Operand;
  /** Offsets in elements into a, b and c. */
  readonly offsets: readonly [number, number, number];
}

export type CpuJob = WasmJob | GemmJob;

export interface CpuLowering {
  readonly jobs: readonly CpuJob[];
  /** Shared scratch buffers, in bytes; they live as long as the node runs. */
  readonly scratchBytes?: readonly number[];
  /** Private scratch of each member, in bytes. */
  readonly memberBytes?: number;
}

/**
 * `undefined`: not in this form (a type or shape it does not take); the reference loop runs
 * instead.
 */
export type WasmLowering = (node: OpContext, target: CpuTarget) => CpuLowering | undefined;

// ------------------------------------------------------------------------------------------------------------------

/** An op with its lowerings typed. Every entry of `kernels/` is one of these. */
export interface Kernel extends Op {
  readonly kernels?: readonly GpuKernel[];
  readonly wasm?: WasmLowering;
}

export function defineOp<K extends Kernel>(op: K): K {
  return op;
}

/**
 * `count` workgroups as a grid that respects the limit; the shader uses `flatGroup(id, grid)` = x +
 * y * grid.x.
 */
export function foldGrid(count: number, limit = 65535): [number, number, number] {
  if (count <= limit) return [Math.max(count, 1), 1, 1];
  const rows = Math.ceil(count / limit);
  return [Math.ceil(count / rows), rows, 1];
}

export function bytesPerElement(dtype: Dtype): number {
  return isHalf(dtype) ? 2 : 4;
}
