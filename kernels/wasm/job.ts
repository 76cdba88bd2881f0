/**
 * Jobs whose argument words have names, so that a kernel and those who call it cannot disagree
 * about their order.
 */

import type { JobArg, WasmJob } from "../lowering.ts";
import type { FunctionBuilder, Local } from "./encode.ts";

/**
 * The arguments as the kernel sees them: numbers and addresses, or floats where `{ f32 }` was
 * given.
 */
export type Arguments<A extends Readonly<Record<string, JobArg>>> = {
  readonly [Name in keyof A]: A[Name] extends { readonly f32: number } ? Local<"f32">
    : Local<"i32">;
};

export interface NamedJob<A extends Readonly<Record<string, JobArg>>> {
  /** Names the function that `build` writes; never depends on the arguments' values. */
  readonly key: string;
  readonly args: A;
  readonly units: number;
  /** FLOPs of one unit, roughly. */
  readonly work: number;
  build(f: FunctionBuilder, args: Arguments<A>): void;
}

export function namedJob<A extends Readonly<Record<string, JobArg>>>(
  { key, args, units, work, build }: NamedJob<A>,
): WasmJob {
  const entries = Object.entries(args);
  const isFloat = (arg: JobArg) => typeof arg === "object" && "f32" in arg;
  return {
    fn: {
      key,
      build(f) {
        const locals = entries.map((
          [name, arg],
          n,
        ) => [name, isFloat(arg) ? f.argF32(n) : f.arg(n)]);
        build(f, Object.fromEntries(locals) as Arguments<A>);
      },
    },
    args: entries.map(([, arg]) => arg),
    units,
    work,
  };
}

/**
 * Named stretches of a scratch buffer, one after another: their offsets in bytes, and how long the
 * buffer must be.
 */
export function layOut<Name extends string>(
  sizes: Readonly<Record<Name, number>>,
): { readonly offsets: Readonly<Record<Name, number>>; readonly bytes: number } {
  let bytes = 0;
  const offsets = Object.fromEntries(
    (Object.entries(sizes) as [Name, number][]).map(([name, size]) => {
      const at = bytes;
      bytes += Math.ceil((size + 64) / 64) * 64; // vector tails read over the end
      return [name, at];
    }),
  ) as Record<Name, number>;
  return { offsets, bytes };
}
