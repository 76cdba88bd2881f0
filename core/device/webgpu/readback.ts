/**
 * Bytes from the device to the host without stalling it: pooled staging buffers, each mapped once
 * and read only when it is ready.
 */

import { bytesOf, isHalf, sizeOf, type Spec, unpackHalves } from "../../graph/mod.ts";
import type { HostArray } from "../types.ts";
import type { GpuMemory } from "./memory.ts";

export class Staging {
  readonly #memory: GpuMemory;
  #free: GPUBuffer[] = [];

  constructor(memory: GpuMemory) {
    this.#memory = memory;
  }

  /**
   * Runs `fill` (which records and submits copies into the buffer) and starts mapping at once; the
   * promise gives the bytes. Ranges are never touched before the map resolves: Deno aborts the
   * process on that.
   */
  async read(bytes: number, fill: (buffer: GPUBuffer) => void): Promise<ArrayBuffer> {
    const buffer = this.#take(bytes);
    try {
      fill(buffer);
      await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
      const copy = buffer.getMappedRange(0, bytes).slice(0);
      buffer.unmap();
      this.#free.push(buffer);
      return copy;
    } catch (error) {
      this.#memory.release(buffer);
      throw error;
    }
  }

  #take(bytes: number): GPUBuffer {
    const at = this.#free.findIndex((buffer) =>
      buffer.size >= bytes && buffer.size <= 4 * bytes + 65536
    );
    if (at >= 0) return this.#free.splice(at, 1)[0];
    // Two idle buffers serve a pipelined reader; more are left from other sizes.
    while (this.#free.length > 2) this.#memory.release(this.#free.shift()!);
    return this.#memory.allocate(
      bytes,
      GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      "staging",
    );
  }

  dispose(): void {
    for (const buffer of this.#free) this.#memory.release(buffer);
    this.#free = [];
  }
}

/** A tensor's stored bytes as numbers of its own. */
export function decode(spec: Spec, bytes: ArrayBuffer, offset = 0): HostArray {
  const size = sizeOf(spec.shape), { dtype } = spec;
  if (isHalf(dtype)) {
    return unpackHalves(dtype, new Uint32Array(bytes, offset, bytesOf(spec) / 4), size);
  }
  const Storage = { f32: Float32Array, i32: Int32Array, u32: Uint32Array }[dtype];
  return new Storage(bytes.slice(offset, offset + bytesOf(spec)));
}
