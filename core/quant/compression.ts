/** Two compressions for the same bytes: zstd, and LZMA as the challenge's artifact has it. */

import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import * as lzma from "lzma1";

export const compressions = ["zstd", "lzma"] as const;
export type Compression = typeof compressions[number];

/** zstd 19 leaves as few bytes as 22, in less time. */
const zstdLevel = 19, lzmaPreset = 9;

export function compress(bytes: Uint8Array, compression: Compression): Uint8Array<ArrayBuffer> {
  if (compression === "lzma") return Uint8Array.from(lzma.compress(bytes, lzmaPreset));
  const options = {
    params: { [constants.ZSTD_c_compressionLevel]: zstdLevel },
    pledgedSrcSize: bytes.length, // no megabytes of tables for a few bytes; @types/node do not know it
  };
  return new Uint8Array(zstdCompressSync(bytes, options));
}

/**
 * At most `most` bytes.
 *
 * @throws {Error} where the bytes are damaged, or hold more
 */
export function decompress(
  bytes: Uint8Array,
  compression: Compression,
  most: number,
): Uint8Array<ArrayBuffer> {
  if (compression === "zstd") {
    return new Uint8Array(zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, most) }));
  }
  const length = lzmaLength(bytes);
  if (length === undefined || length > most) throw new RangeError(`more than ${most} bytes`);
  return Uint8Array.from(lzma.decompress(withDictionary(bytes, length)));
}

/** Memory is taken for the dictionary that a file claims: one as long as all that it holds is as good. */
function withDictionary(bytes: Uint8Array, length: number): Uint8Array {
  const copy = Uint8Array.from(bytes), view = new DataView(copy.buffer), at = 1;
  view.setUint32(at, Math.min(view.getUint32(at, true), Math.max(length, 4096)), true);
  return copy;
}

/** What an .lzma file says that it holds: after one byte of properties and the dictionary's size. */
function lzmaLength(bytes: Uint8Array): number | undefined {
  const at = 5;
  if (bytes.length < at + 8) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
  return length < 2n ** 53n ? Number(length) : undefined;
}
