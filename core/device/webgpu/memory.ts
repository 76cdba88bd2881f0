/**
 * Every buffer of a device is made here, so that the bytes in use are known exactly and a refusal
 * is told in words.
 */

import { OutOfMemoryError } from "../types.ts";
import { ALIGNMENT } from "./target.ts";

export const alignUp = (bytes: number, to = ALIGNMENT): number => Math.ceil(bytes / to) * to;

export class GpuMemory {
  readonly #device: GPUDevice;
  readonly #maxBufferBytes: number;
  /** What a software adapter shares with everything else; it takes any size and dies later. */
  readonly #budget: number;
  readonly #sizes = new Map<GPUBuffer, number>();
  #pending: Promise<OutOfMemoryError | undefined>[] = [];
  #used = 0;

  constructor(device: GPUDevice, maxBufferBytes: number, software: boolean) {
    this.#device = device;
    this.#maxBufferBytes = maxBufferBytes;
    this.#budget = software ? availableBytes() : Infinity;
  }

  get used(): number {
    return this.#used;
  }

  /**
   * A buffer of at least `bytes`, for `purpose` (words for people). Refusals that only the driver
   * knows of come with `settle`.
   */
  allocate(bytes: number, usage: GPUBufferUsageFlags, purpose: string): GPUBuffer {
    const size = alignUp(Math.max(bytes, 1));
    if (size > this.#maxBufferBytes) {
      throw new OutOfMemoryError(
        `${purpose} wants a buffer of ${formatBytes(size)}; this device's largest is ${
          formatBytes(this.#maxBufferBytes)
        }. ${advice}`,
      );
    }
    if (this.#used + size > this.#budget) throw this.#refusal(size, purpose);
    this.#device.pushErrorScope("validation");
    this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({ size, usage, label: purpose });
    const outcome = Promise.all([this.#device.popErrorScope(), this.#device.popErrorScope()]);
    const used = this.#used;
    this.#pending.push(outcome.then(
      ([memory, validation]) =>
        memory || validation ? this.#refusal(size, purpose, used) : undefined,
      () => undefined, // a lost device is reported by whoever uses it next
    ));
    this.#sizes.set(buffer, size);
    this.#used += size;
    return buffer;
  }

  /**
   * Waits for the driver's word on all buffers made so far; throws `OutOfMemoryError` if one was
   * refused.
   */
  async settle(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    const refusal = (await Promise.all(pending)).find((outcome) => outcome !== undefined);
    if (refusal) throw refusal;
  }

  release(buffer: GPUBuffer): void {
    const size = this.#sizes.get(buffer);
    if (size === undefined) return;
    this.#sizes.delete(buffer);
    this.#used -= size;
    buffer.destroy();
  }

  releaseAll(): void {
    for (const buffer of [...this.#sizes.keys()]) this.release(buffer);
  }

  #refusal(size: number, purpose: string, used = this.#used): OutOfMemoryError {
    return new OutOfMemoryError(
      `the device has no room for ${formatBytes(size)} of ${purpose} beside the ${
        formatBytes(used)
      } in use. ${advice}`,
    );
  }
}

const advice =
  "A smaller micro-batch, a shorter context or a smaller model needs less; if memory should be free, try another DENO_WEBGPU_BACKEND.";

function availableBytes(): number {
  try {
    return Deno.systemMemoryInfo().available;
  } catch {
    return Infinity; // not allowed to ask
  }
}

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0, value = bytes;
  while (value >= 1024 && unit < 3) value /= 1024, unit++;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
