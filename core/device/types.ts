/** What a device is to the rest of quern. Devices run plans; they know nothing of models. */

import type { Spec } from "../graph/mod.ts";
import type { NamedSpec, Plan, Target } from "../plan/types.ts";

export interface DeviceInfo {
  readonly kind: "cpu" | "webgpu";
  /** For people: adapter or processor. */
  readonly name: string;
  /** Recorded in the run's manifest: driver, limits, features, threads, BLAS. Plain data. */
  readonly details: Readonly<Record<string, string | number | boolean | readonly string[]>>;
}

/** Numbers as they are stored: packed halves come and go as f32. */
export type HostArray = Float32Array | Int32Array | Uint32Array;

/** Buffers that outlive runs: parameters, moments, caches. Closed by `using`. */
export interface StateStore extends Disposable {
  readonly entries: readonly NamedSpec[];
  readonly bytes: number;
  write(name: string, values: ArrayLike<number>): void;
  /**
   * Writes an entry of floats piece by piece: `give` is called with room for the values from element `at` on, once or more
   * often. On the cpu device the room is the entry itself.
   */
  fill(name: string, give: (into: Float32Array, at: number) => void): void;
  /** The same of an entry of bf16, with room for its bits. */
  fillBf16(name: string, give: (into: Uint16Array, at: number) => void): void;
  read(name: string): Promise<HostArray>;
}

/** A plan bound to a device and a store. */
export interface Executable extends Disposable {
  readonly plan: Plan;
  /**
   * Runs the plan `times` times without waiting (one submit). `inputs` has a value for each upload;
   * scalars may be plain numbers. Throws a clear error for a missing or wrongly sized input.
   */
  run(inputs?: Readonly<Record<string, ArrayLike<number> | number>>, times?: number): void;
  /**
   * The outputs of all runs since the last call, oldest first (at most the ring's length; asking
   * too late is an error). The call takes its place in the device's queue at once; the promise may
   * be awaited after more runs were submitted, so that reading does not stall them.
   */
  outputs(): Promise<Readonly<Record<string, HostArray>>[]>;
}

export interface Device extends AsyncDisposable {
  readonly info: DeviceInfo;
  readonly target: Target;
  createState(entries: readonly NamedSpec[]): StateStore;
  /** `ring`: how many runs' outputs are kept until they are read; 64 unless given. */
  compile(plan: Plan, state: StateStore, options?: { ring?: number }): Promise<Executable>;
  /** Bytes that the device holds now: state, arenas, rings. */
  usedBytes(): number;
  /** Resolves when all submitted work is done; rejects if the device was lost. */
  idle(): Promise<void>;
}

/** No usable device (exit code 3). */
export class DeviceError extends Error {
  override name = "DeviceError";
  readonly exitCode = 3;
}

/** Too little memory on the device (exit code 4); the message names sizes and a knob. */
export class OutOfMemoryError extends Error {
  override name = "OutOfMemoryError";
  readonly exitCode = 4;
}

export function describeSpec({ shape, dtype }: Spec): string {
  return `${dtype}[${shape.join(", ")}]`;
}
