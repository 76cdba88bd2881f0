/**
 * The one shared memory of the cpu device and who owns which part of it. Tensors are byte offsets;
 * pages that are never touched cost nothing, so it is reserved whole and never grows (growing would
 * detach every view).
 */

import { OutOfMemoryError } from "../types.ts";

const PAGE = 65536;
/** Words of the pool's protocol stand before everything else. */
export const CONTROL_BYTES = 4096;
export const ALIGNMENT = 64;

export interface Region {
  readonly offset: number;
  readonly bytes: number;
}

/** A region that is given out. */
export interface Allocated extends Region {
  /** So many bytes from its start were given out before, and may hold anything; the rest is 0. */
  readonly stale: number;
}

export interface SharedMemory {
  readonly memory: WebAssembly.Memory;
  readonly buffer: SharedArrayBuffer;
  allocate(bytes: number, purpose: string): Allocated;
  free(region: Region): void;
  usedBytes(): number;
}

/** The largest memory that the machine reserves, up to 4 GiB (the reach of 32-bit addresses). */
export function createSharedMemory(): SharedMemory {
  const memory = reserve();
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  // Free parts in the order of their offsets, never adjacent.
  let free: Region[] = [{ offset: CONTROL_BYTES, bytes: buffer.byteLength - CONTROL_BYTES }],
    used = 0,
    touched = CONTROL_BYTES; // nothing beyond was ever given out
  return {
    memory,
    buffer,
    allocate(wanted, purpose) {
      const bytes = Math.ceil(Math.max(wanted, 1) / ALIGNMENT) * ALIGNMENT;
      const place = free.findIndex((part) => part.bytes >= bytes);
      if (place < 0) {
        const mib = (n: number) => `${(n / 2 ** 20).toFixed(0)} MiB`;
        const most = Math.max(0, ...free.map((part) => part.bytes));
        throw new OutOfMemoryError(
          `the cpu device cannot hold ${mib(bytes)} for ${purpose}: ${mib(used)} of ${
            mib(buffer.byteLength)
          } are in use, the largest free part is ${
            mib(most)
          }; use a smaller batch_size or sequence_length, or a gpu`,
        );
      }
      const part = free[place];
      free = free.toSpliced(
        place,
        1,
        ...part.bytes > bytes ? [{ offset: part.offset + bytes, bytes: part.bytes - bytes }] : [],
      );
      used += bytes;
      const stale = Math.min(bytes, Math.max(0, touched - part.offset));
      touched = Math.max(touched, part.offset + bytes);
      return { offset: part.offset, bytes, stale };
    },
    free(region) {
      used -= region.bytes;
      const sorted = [...free, region].sort((a, b) => a.offset - b.offset);
      free = sorted.reduce<Region[]>((parts, part) => {
        const last = parts.at(-1);
        if (last && last.offset + last.bytes === part.offset) {
          parts[parts.length - 1] = { offset: last.offset, bytes: last.bytes + part.bytes };
        } else parts.push(part);
        return parts;
      }, []);
    },
    usedBytes: () => used,
  };
}

function reserve(): WebAssembly.Memory {
  for (let pages = PAGE; pages >= 4096; pages /= 2) {
    try {
      return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new OutOfMemoryError("the cpu device cannot reserve 256 MiB of address space");
}
