/**
 * Philox 4x32-10 (Salmon et al. 2011): random numbers as a function of a counter, so that any draw
 * can be made alone, in any order, and a resumed run needs no generator state. `core/graph` has the
 * device's twin; the layers keep the two apart, and both are tested against Random123's known
 * answers.
 *
 * @module
 */

type Words4 = readonly [number, number, number, number];

/** What a draw is for: different purposes never share random numbers. */
export const purposes = { order: 1, window: 2, validation: 3, corpus: 4, source: 5 } as const;

/** Four random 32-bit words for a counter of four words and a key of two. */
export function philox(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0);
    const low1 = Math.imul(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0];
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** The upper 32 bits of the product of two unsigned words. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16); // below 2^32 + 2^16: exact in a double
  const other = a0 * b1 + (middle % 0x10000);
  return a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000);
}

/** A uniform number in [0, 1) of 53 random bits: draw `index` of `seed` for a purpose. */
export function uniform(seed: number, purpose: number, index: number, epoch = 0): number {
  const [high, low] = philox([...words(index), epoch, 0], [seed, purpose]);
  return (high * 0x200000 + (low >>> 11)) / 2 ** 53;
}

/** A uniform whole number in [0, below). */
export function uniformBelow(seed: number, purpose: number, index: number, below: number): number {
  return Math.floor(uniform(seed, purpose, index) * below);
}

/**
 * Where place `index` of a shuffled row of `count` things points: a permutation that is computed,
 * not stored. A balanced Feistel network over the next even number of bits; results outside go
 * round again.
 */
export function shuffled(index: number, count: number, seed: number, epoch: number): number {
  const halfBits = Math.max(1, Math.ceil(Math.log2(Math.max(2, count)) / 2));
  const half = 2 ** halfBits;
  let at = index;
  do {
    let left = Math.floor(at / half), right = at % half;
    for (let round = 0; round < 6; round++) {
      const mixed = philox([right, round, epoch, 0], [seed, purposes.order])[0] % half;
      [left, right] = [right, (left ^ mixed) >>> 0];
    }
    at = left * half + right;
  } while (at >= count);
  return at;
}

/** A whole number of up to 53 bits as two words. */
function words(n: number): [number, number] {
  return [n >>> 0, Math.floor(n / 2 ** 32)];
}
