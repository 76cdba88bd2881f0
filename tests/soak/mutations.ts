/** Random damage, the same for the same seed: to bytes, and to JSON. */

/** Numbers in [0, 1). */
export type Random = () => number;

/** Mulberry32: small, and good enough to pick places. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ state >>> 15, state | 1);
    x ^= x + Math.imul(x ^ x >>> 7, x | 61);
    return ((x ^ x >>> 14) >>> 0) / 2 ** 32;
  };
}

export const below = (random: Random, n: number) => Math.floor(random() * n);
export const pick = <T>(random: Random, from: readonly T[]): T => from[below(random, from.length)];

/** Whole numbers at which code that counts goes wrong. */
const edges: readonly bigint[] = [
  0n,
  1n,
  2n,
  7n,
  0x7fn,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  2n ** 40n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** Where damage goes: anywhere, or near the ends, where headers are. */
function place(random: Random, length: number): number {
  const near = Math.min(length, 600);
  switch (below(random, 3)) {
    case 0:
      return below(random, near);
    case 1:
      return length - 1 - below(random, near);
    default:
      return below(random, length);
  }
}

type Damage = (bytes: Uint8Array<ArrayBuffer>, random: Random) => Uint8Array<ArrayBuffer>;

const damages: readonly Damage[] = [
  function flipBits(bytes, random) {
    for (let i = below(random, 4); i >= 0; i--) {
      bytes[place(random, bytes.length)] ^= 1 << below(random, 8);
    }
    return bytes;
  },
  function setByte(bytes, random) {
    bytes[place(random, bytes.length)] = below(random, 256);
    return bytes;
  },
  function truncate(bytes, random) {
    return bytes.slice(0, below(random, bytes.length));
  },
  function cutEnd(bytes, random) {
    return bytes.slice(0, Math.max(0, bytes.length - 1 - below(random, 100)));
  },
  function insert(bytes, random) {
    const at = place(random, bytes.length), count = 1 + below(random, 20);
    const more = new Uint8Array(bytes.length + count);
    more.set(bytes.subarray(0, at));
    for (let i = 0; i < count; i++) more[at + i] = below(random, 256);
    more.set(bytes.subarray(at), at + count);
    return more;
  },
  function remove(bytes, random) {
    const at = place(random, bytes.length), count = 1 + below(random, 20);
    bytes.copyWithin(at, at + count);
    return bytes.slice(0, Math.max(at, bytes.length - count));
  },
  function repeat(bytes, random) {
    const at = place(random, bytes.length), to = place(random, bytes.length);
    bytes.copyWithin(to, at, at + 1 + below(random, 64));
    return bytes;
  },
  ...[2, 4, 8].map((width): Damage =>
    function setLength(bytes, random) {
      if (bytes.length < width) return bytes;
      const aligned = random() < 0.5 ? width : 1;
      const at = Math.min(place(random, bytes.length), bytes.length - width);
      const from = at - at % aligned, view = new DataView(bytes.buffer);
      const value = random() < 0.3
        ? BigInt(Math.max(0, bytes.length - 8 + below(random, 16)))
        : pick(random, edges);
      if (width === 8) view.setBigUint64(from, value & 0xffffffffffffffffn, true);
      else if (width === 4) view.setUint32(from, Number(value & 0xffffffffn), true);
      else view.setUint16(from, Number(value & 0xffffn), true);
      return bytes;
    }
  ),
];

/** A damaged copy. */
export function damaged(bytes: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  let copy = Uint8Array.from(bytes);
  const times = 1 + (random() < 0.3 ? below(random, 4) : 0);
  for (let i = 0; i < times && copy.length > 0; i++) copy = pick(random, damages)(copy, random);
  return copy;
}

/** Values that a JSON file should not have there. */
function oddValue(random: Random): unknown {
  return pick<() => unknown>(random, [
    () => Number(pick(random, edges)),
    () => -Number(pick(random, edges)),
    () => random() * 1e3,
    () => null,
    () => true,
    () => "",
    () => "x".repeat(1 + below(random, 300)),
    () => "../../etc/passwd",
    () => "\u001b[2J\n\u0000",
    () => "__proto__",
    () => [],
    () => ({}),
    () => Array.from({ length: below(random, 300) }, () => Number(pick(random, edges))),
    () => {
      let nested: unknown = 1;
      for (let i = below(random, 3000); i > 0; i--) nested = [nested];
      return nested;
    },
  ])();
}

/** A copy of a JSON value of which one or a few things are changed. */
export function damagedJson<T>(value: T, random: Random): T {
  const copy = structuredClone(value);
  for (let i = 1 + below(random, 2); i > 0; i--) damageJson(copy, random);
  return copy;
}

/** Also of a name that assigning to would mean something else. */
function put(object: object, key: string, value: unknown): void {
  Object.defineProperty(object, key, {
    value,
    enumerable: true,
    writable: true,
    configurable: true,
  });
}

/** Walks down at random and changes, takes away, copies or adds something. */
function damageJson(value: unknown, random: Random): void {
  if (typeof value !== "object" || value === null) return;
  const keys = Object.keys(value);
  if (keys.length === 0) return void Reflect.set(value, "0", oddValue(random));
  const key = pick(random, keys), inner = Reflect.get(value, key);
  if (typeof inner === "object" && inner !== null && random() < 0.8) {
    return damageJson(inner, random);
  }
  switch (below(random, 6)) {
    case 0:
      if (Array.isArray(value)) value.splice(Number(key), 1);
      else Reflect.deleteProperty(value, key);
      return;
    case 1:
      return void Reflect.set(value, key, Reflect.get(value, pick(random, keys)));
    case 2:
      if (Array.isArray(value)) return void value.push(oddValue(random));
      return put(value, pick(random, ["", "x", "../x", "__proto__", "0", "\u001b[2J"]), inner);
    case 3:
      if (typeof inner === "number") {
        return void Reflect.set(value, key, inner + pick(random, [-1, 1, 4, 8]));
      }
  }
  Reflect.set(value, key, oddValue(random));
}
