/**
 * A plan as the pool's members see it: plain data, walked from top to bottom with a barrier where
 * it matters.
 */

import type { GemmForm } from "../../../kernels/mod.ts";

export type Entry =
  /** A function of the plan's WASM module over a range of units. */
  | {
    readonly kind: "wasm";
    readonly fn: string;
    readonly args: number;
    readonly units: number;
    readonly split: boolean;
  }
  /** A product by the system's BLAS, rows of C split. Byte offsets into the shared memory. */
  | GemmForm & {
    readonly kind: "gemm";
    readonly a: number;
    readonly b: number;
    readonly c: number;
    readonly split: boolean;
  }
  /**
   * Something that only the main thread can do (a reference loop, the ring): its number in the main
   * thread's list.
   */
  | { readonly kind: "main"; readonly task: number };

export interface Program {
  readonly id: number;
  readonly module: WebAssembly.Module | undefined;
  readonly entries: readonly Entry[];
  /** After which entries the members meet. */
  readonly meetings: readonly boolean[];
  /** Bytes of private scratch that each member needs. */
  readonly memberBytes: number;
}

/**
 * The rows or units of member `member` of `members`: contiguous, in order, fixed by the numbers
 * alone.
 */
export function shareOf(units: number, member: number, members: number): [number, number] {
  return [Math.floor(units * member / members), Math.floor(units * (member + 1) / members)];
}

export type Walk = (entry: Entry, member: number, members: number) => void;

export interface WalkOptions {
  readonly program: Program;
  readonly memory: WebAssembly.Memory;
  /** Address of the member's scratch. */
  readonly scratch: number;
  readonly gemm?: ((entry: Entry & { kind: "gemm" }, rows: [number, number]) => void) | undefined;
  readonly main?: ((task: number) => void) | undefined;
}

type KernelFunction = (args: number, begin: number, end: number, scratch: number) => void;

/** How one member does its share of each entry. */
export function makeWalk({ program, memory, scratch, gemm, main }: WalkOptions): Walk {
  const functions = program.module
    ? new WebAssembly.Instance(program.module, { env: { memory } }).exports as Record<
      string,
      KernelFunction
    >
    : {};
  return (entry, member, members) => {
    if (entry.kind === "main") {
      if (member === 0) main!(entry.task);
      return;
    }
    if (!entry.split && member !== 0) return;
    const units = entry.kind === "wasm" ? entry.units : entry.m;
    const [begin, end] = entry.split ? shareOf(units, member, members) : [0, units];
    if (begin === end) return;
    if (entry.kind === "wasm") functions[entry.fn](entry.args, begin, end, scratch);
    else gemm!(entry, [begin, end]);
  };
}
