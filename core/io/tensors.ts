/** Tensors by name, wherever they lie. */

import type { TensorArray, TensorInfo } from "./safetensors.ts";

/** Open tensors whose values are read when they are asked for: a file's, or several files' under other names. */
export interface Tensors extends Disposable {
  /** Where they come from, for messages. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The values of one, as its dtype's array: see `TensorArray`. */
  read(name: string): TensorArray;
  /**
   * The values from element `at` on into memory of the caller's, as f32, as many as it holds: no second copy of the tensor
   * is made. What lacks it is read whole.
   */
  readInto?(name: string, into: Float32Array, at: number): void;
}
