/**
 * The random numbers of Python's `random.Random`, so far as `sample` needs them: MT19937 (Matsumoto and
 * Nishimura 1998) seeded by `init_by_array`, as CPython does.
 */

const SIZE = 624, MIDDLE = 397;

export interface PythonRandom {
  /** The next 32 bits. */
  next(): number;
  /** `random.sample(range(size), count)`: places in a list, none twice, in the order of the draw. */
  sample(size: number, count: number): number[];
}

/** `random.Random(seed)` for a seed of at most 32 bits. */
export function pythonRandom(seed: number): PythonRandom {
  const state = seededBy(seed);
  let at = SIZE;
  const next = () => {
    if (at === SIZE) {
      twist(state);
      at = 0;
    }
    return temper(state[at++]);
  };
  const bits = (count: number) => next() >>> (32 - count);
  const below = (limit: number) => {
    const width = 32 - Math.clz32(limit);
    let drawn = bits(width);
    while (drawn >= limit) drawn = bits(width);
    return drawn;
  };
  return { next, sample: (size, count) => sample(below, size, count) };
}

/** Where few are drawn from many, taken places are drawn again; else a pool of what is left is kept. */
function sample(below: (limit: number) => number, size: number, count: number): number[] {
  if (count > size) throw new RangeError(`${count} of ${size} cannot be drawn`);
  const largestPool = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
  if (size > largestPool) {
    const taken = new Set<number>();
    while (taken.size < count) taken.add(below(size)); // a set keeps the order of the draw
    return [...taken];
  }
  const pool = Array.from({ length: size }, (_, place) => place);
  return Array.from({ length: count }, (_, i) => {
    const at = below(size - i), drawn = pool[at];
    pool[at] = pool[size - i - 1];
    return drawn;
  });
}

function seededBy(seed: number): Uint32Array {
  const state = new Uint32Array(SIZE);
  const mixed = (i: number, factor: number) => {
    const before = state[i - 1];
    return Math.imul(before ^ (before >>> 30), factor);
  };
  state[0] = 19650218;
  for (let i = 1; i < SIZE; i++) state[i] = mixed(i, 1812433253) + i;
  let i = 1;
  const step = () => {
    if (++i < SIZE) return;
    state[0] = state[SIZE - 1];
    i = 1;
  };
  for (let k = 0; k < SIZE; k++, step()) state[i] = (state[i] ^ mixed(i, 1664525)) + seed;
  for (let k = 1; k < SIZE; k++, step()) state[i] = (state[i] ^ mixed(i, 1566083941)) - i;
  state[0] = 0x80000000;
  return state;
}

function twist(state: Uint32Array): void {
  for (let i = 0; i < SIZE; i++) {
    const joined = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
    state[i] = state[(i + MIDDLE) % SIZE] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
  }
}

function temper(word: number): number {
  let mixed = word ^ (word >>> 11);
  mixed ^= (mixed << 7) & 0x9d2c5680;
  mixed ^= (mixed << 15) & 0xefc60000;
  return (mixed ^ (mixed >>> 18)) >>> 0;
}
