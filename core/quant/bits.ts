/** Levels as a stream of bits: shifted to start at 0, the first in the lowest bits of the first byte. */

import { type LevelBits, rangeOf } from "./levels.ts";

/** Bytes of `count` levels: whole groups, of 8 levels of 5 bits or 4 of 6; the last one is filled up with zero bits. */
export function packedBytes(count: number, bits: LevelBits): number {
  const group = { 5: 8, 6: 4, 8: 1 }[bits];
  return Math.ceil(count / group) * group * bits / 8;
}

export function packBits(levels: Int8Array, bits: LevelBits): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(packedBytes(levels.length, bits)), range = rangeOf(bits);
  let word = 0, filled = 0, at = 0;
  for (const level of levels) {
    word |= (level + range) << filled;
    filled += bits;
    for (; filled >= 8; filled -= 8, word >>>= 8) bytes[at++] = word & 0xff;
  }
  if (filled > 0) bytes[at] = word;
  return bytes;
}

/** @throws {RangeError} where the bytes are not those of `count` levels */
export function unpackBits(
  bytes: Uint8Array,
  bits: LevelBits,
  count: number,
): Int8Array<ArrayBuffer> {
  if (bytes.length !== packedBytes(count, bits)) {
    throw new RangeError(`${count} levels of ${bits} bits are not ${bytes.length} bytes`);
  }
  const levels = new Int8Array(count), range = rangeOf(bits), mask = 2 ** bits - 1;
  let word = 0, filled = 0, at = 0;
  for (let i = 0; i < count; i++) {
    for (; filled < bits; filled += 8) word |= bytes[at++] << filled;
    const code = word & mask;
    if (code > 2 * range) {
      throw new RangeError(`level ${i} has the code ${code}, above ${2 * range}`);
    }
    levels[i] = code - range;
    word >>>= bits;
    filled -= bits;
  }
  return levels;
}
