/**
 * The GGUF format, version 3, as llama.cpp reads it: metadata, the tensors' names and shapes, then their bytes. Writing
 * streams: one tensor's values exist at a time.
 *
 * @module
 */
import { writeAllBytes } from "./atomic.ts";

/** A value of the metadata, with the type that it is stored as. */
export type GgufValue =
  | { readonly type: "u32" | "i32" | "f32" | "u64"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: ArrayLike<number> };

const codes = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9, u64: 10 } as const;

/** Element types: their number in the format, and the bytes of so many elements of a block. */
export const ggufTypes = {
  f32: { code: 0, block: 1, bytes: 4 },
  f16: { code: 1, block: 1, bytes: 2 },
  q8_0: { code: 8, block: 32, bytes: 34 },
  bf16: { code: 30, block: 1, bytes: 2 },
} as const;
export type GgufType = keyof typeof ggufTypes;

export interface GgufTensor {
  readonly name: string;
  /** As everywhere here, the last axis lies together in memory; the format turns the order round. */
  readonly shape: readonly number[];
  readonly type: GgufType;
  readonly data: () => ArrayBufferView;
}

const alignment = 32;
const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

function bytesOf({ shape, type }: GgufTensor): number {
  const { block, bytes } = ggufTypes[type];
  return shape.reduce((product, size) => product * size, 1) / block * bytes;
}

/** Writes and syncs a file. Not atomic by itself: see `writeFileAtomic`. */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const header = new Bytes();
  header.raw(new TextEncoder().encode("GGUF"));
  header.u32(3);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.text(key);
    header.value(value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    header.text(tensor.name);
    header.u32(tensor.shape.length);
    for (const size of tensor.shape.toReversed()) header.u64(size);
    header.u32(ggufTypes[tensor.type].code);
    header.u64(offset);
    offset += aligned(bytesOf(tensor));
  }
  header.raw(new Uint8Array(aligned(header.length) - header.length));
  await writeAllBytes(file, header.all());
  for (const tensor of tensors) {
    const view = tensor.data(), wanted = bytesOf(tensor);
    if (view.byteLength !== wanted) {
      throw new RangeError(`gguf: ${tensor.name} takes ${wanted} bytes, ${view.byteLength} came`);
    }
    await writeAllBytes(file, new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    await writeAllBytes(file, new Uint8Array(aligned(wanted) - wanted));
  }
  await file.sync();
}

/** Bytes that grow. */
class Bytes {
  #bytes = new Uint8Array(1 << 16);
  length = 0;

  #room(count: number): DataView {
    if (this.length + count > this.#bytes.length) {
      const more = new Uint8Array(Math.max(2 * this.#bytes.length, this.length + count));
      more.set(this.#bytes.subarray(0, this.length));
      this.#bytes = more;
    }
    const view = new DataView(this.#bytes.buffer, this.length, count);
    this.length += count;
    return view;
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.length - bytes.length);
  }

  u32(value: number): void {
    this.#room(4).setUint32(0, value, true);
  }

  u64(value: number): void {
    this.#room(8).setBigUint64(0, BigInt(value), true);
  }

  text(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  value(given: GgufValue): void {
    switch (given.type) {
      case "strings":
        this.u32(codes.array);
        this.u32(codes.string);
        this.u64(given.value.length);
        for (const text of given.value) this.text(text);
        return;
      case "i32s":
        this.u32(codes.array);
        this.u32(codes.i32);
        this.u64(given.value.length);
        for (let i = 0; i < given.value.length; i++) {
          this.#room(4).setInt32(0, given.value[i], true);
        }
        return;
    }
    this.u32(codes[given.type]);
    switch (given.type) {
      case "string":
        return this.text(given.value);
      case "bool":
        return void this.#room(1).setUint8(0, +given.value);
      case "f32":
        return void this.#room(4).setFloat32(0, given.value, true);
      case "i32":
        return void this.#room(4).setInt32(0, given.value, true);
      case "u64":
        return this.u64(given.value);
      case "u32":
        return this.u32(given.value);
    }
  }

  all(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}
