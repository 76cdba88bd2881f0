/** State on the device: one buffer an entry. */

import { bytesOf, isHalf, packHalves, sizeOf } from "../../graph/mod.ts";
import type { NamedSpec } from "../../plan/types.ts";
import { describeSpec, type HostArray, type StateStore } from "../types.ts";
import type { WebgpuDevice } from "./device.ts";
import { decode } from "./readback.ts";

/** Longest piece of a write or read: bounds the staging memory of both. */
const PIECE_BYTES = 64 * 2 ** 20;

/** Elements of a piece that `fill` asks for. */
const FILL_ELEMENTS = PIECE_BYTES / 4;

export class GpuStateStore implements StateStore {
  readonly entries: readonly NamedSpec[];
  readonly bytes: number;
  readonly #device: WebgpuDevice;
  readonly #buffers = new Map<string, { spec: NamedSpec; buffer: GPUBuffer }>();
  #disposed = false;

  constructor(device: WebgpuDevice, entries: readonly NamedSpec[]) {
    this.#device = device;
    this.entries = entries;
    this.bytes = entries.reduce((sum, entry) => sum + bytesOf(entry), 0);
    try {
      for (const spec of entries) {
        if (this.#buffers.has(spec.name)) {
          throw new Error(`two entries of state are named ${spec.name}`);
        }
        const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
        const buffer = device.memory.allocate(bytesOf(spec), usage, `state ${spec.name}`);
        this.#buffers.set(spec.name, { spec, buffer });
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The buffer of an entry that must look like `wanted`. */
  bufferFor(wanted: NamedSpec): GPUBuffer {
    const { spec, buffer } = this.#find(wanted.name);
    if (describeSpec(spec) !== describeSpec(wanted)) {
      throw new Error(
        `state ${wanted.name} is ${describeSpec(spec)}, and the plan wants ${describeSpec(wanted)}`,
      );
    }
    return buffer;
  }

  write(name: string, values: ArrayLike<number>): void {
    const { spec, buffer } = this.#find(name), size = sizeOf(spec.shape);
    if (values.length !== size) {
      throw new Error(
        `state ${name} is ${describeSpec(spec)}: ${values.length} values do not fill it`,
      );
    }
    const words = encode(spec, values), { queue } = this.#device.gpu;
    for (let at = 0; at < words.byteLength; at += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, words.byteLength - at);
      queue.writeBuffer(buffer, at, words.buffer, words.byteOffset + at, bytes);
      // The copies that wgpu keeps of written bytes are freed by the next submit only.
      if (bytes === PIECE_BYTES) queue.submit([]);
    }
    this.#device.wrote(words.byteLength);
  }

  fill(name: string, give: (into: Float32Array, at: number) => void): void {
    const { spec, buffer } = this.#find(name),
      size = sizeOf(spec.shape),
      { queue } = this.#device.gpu;
    for (let at = 0; at < size; at += FILL_ELEMENTS) {
      const piece = new Float32Array(Math.min(FILL_ELEMENTS, size - at));
      give(piece, at);
      const words = encode(spec, piece), offset = isHalf(spec.dtype) ? 2 * at : 4 * at;
      queue.writeBuffer(buffer, offset, words.buffer, words.byteOffset, words.byteLength);
      if (piece.length === FILL_ELEMENTS) queue.submit([]); // as in `write`
      this.#device.wrote(words.byteLength);
    }
  }

  fillBf16(name: string, give: (into: Uint16Array, at: number) => void): void {
    const { spec, buffer } = this.#find(name),
      size = sizeOf(spec.shape),
      { queue } = this.#device.gpu;
    if (spec.dtype !== "bf16") throw new Error(`state ${name} is ${describeSpec(spec)}`);
    for (let at = 0; at < size; at += FILL_ELEMENTS) {
      const count = Math.min(FILL_ELEMENTS, size - at);
      const halves = new Uint16Array(count + count % 2); // whole words are written
      give(halves.subarray(0, count), at);
      queue.writeBuffer(buffer, 2 * at, halves.buffer, 0, halves.byteLength);
      if (count === FILL_ELEMENTS) queue.submit([]); // as in `write`
      this.#device.wrote(halves.byteLength);
    }
  }

  async read(name: string): Promise<HostArray> {
    const { spec, buffer } = this.#find(name), total = bytesOf(spec);
    const whole = new Uint8Array(total);
    await this.#device.memory.settle();
    for (let at = 0; at < total; at += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, total - at);
      const piece = await this.#device.readBuffer([{ buffer, offset: at, bytes }]);
      whole.set(new Uint8Array(piece), at);
    }
    return decode(spec, whole.buffer);
  }

  #find(name: string): { spec: NamedSpec; buffer: GPUBuffer } {
    if (this.#disposed) throw new Error(`state ${name} was asked for after its store was closed`);
    const found = this.#buffers.get(name);
    if (!found) {
      throw new Error(
        `there is no state ${name}; there are ${[...this.#buffers.keys()].slice(0, 8).join(", ")}`,
      );
    }
    return found;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const { buffer } of this.#buffers.values()) this.#device.memory.release(buffer);
    this.#buffers.clear();
  }
}

/** Numbers as an entry's stored words. */
function encode({ dtype }: NamedSpec, values: ArrayLike<number>): Uint32Array<ArrayBuffer> {
  if (isHalf(dtype)) return packHalves(dtype, values);
  const Storage = { f32: Float32Array, i32: Int32Array, u32: Uint32Array }[dtype];
  const stored = values instanceof Storage && values.buffer instanceof ArrayBuffer
    ? values
    : Storage.from(values as ArrayLike<number>);
  return new Uint32Array(stored.buffer as ArrayBuffer, stored.byteOffset, stored.length);
}
