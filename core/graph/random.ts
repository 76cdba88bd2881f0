/**
 * Philox 4x32-10 (Salmon et al. 2011): counter-based, so any order of execution gives the same
 * bits.
 */

const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;

/**
 * High and low words of a 32 × 32 bit product, by 16-bit halves: the same steps as in WGSL, which
 * has no 64-bit type.
 */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const low = Math.imul(a0, b0) >>> 0;
  const middle = (Math.imul(a1, b0) >>> 0) + (low >>> 16);
  const cross = (Math.imul(a0, b1) >>> 0) + (middle & 0xffff);
  return ((Math.imul(a1, b1) >>> 0) + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}

/** One block: four words from a counter of four words and a key of two. */
export function philox(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): [number, number, number, number] {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(M0, c0), low0 = Math.imul(M0, c0) >>> 0;
    const high1 = multiplyHigh(M1, c2), low1 = Math.imul(M1, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A word → a number in (0, 1): 23 bits and a half, exact in f32, never 0 or 1. */
export function unitInterval(word: number): number {
  return ((word >>> 9) + 0.5) / 8388608;
}

/** A name → 32 bits (FNV-1a), to key a stream of random numbers by its purpose or path. */
export function streamOf(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** `count` uniform numbers in (0, 1) of the stream `name` under `seed`, for initial weights. */
export function uniforms(seed: number, name: string, count: number): Float32Array {
  const out = new Float32Array(count), stream = streamOf(name);
  for (let i = 0; i < count; i += 4) {
    const words = philox(i / 4, 0, stream, 0, seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
    for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = unitInterval(words[j]);
  }
  return out;
}

/**
 * `count` standard normal numbers of the stream `name` under `seed` (Box-Muller), for initial
 * weights.
 */
export function normals(seed: number, name: string, count: number): Float32Array {
  const out = new Float32Array(count), stream = streamOf(name);
  for (let i = 0; i < count; i += 4) {
    const words = philox(i / 4, 0, stream, 0, seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
    for (let pair = 0; pair < 4 && i + pair < count; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log(unitInterval(words[pair]))),
        angle = 2 * Math.PI * unitInterval(words[pair + 1]);
      out[i + pair] = radius * Math.cos(angle);
      if (i + pair + 1 < count) out[i + pair + 1] = radius * Math.sin(angle);
    }
  }
  return out;
}
