/** Rounding to nearest even: to the 16-bit float types, bf16 (the upper half of an f32) and f16, and to whole numbers. */

const word = new Uint32Array(1), float = new Float32Array(word.buffer);

/** f32 → the 16 bits of bf16. NaN stays NaN. */
export function bf16Bits(x: number): number {
  float[0] = x;
  const bits = word[0];
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBf16Bits(bits: number): number {
  word[0] = bits << 16;
  return float[0];
}

export function roundBf16(x: number): number {
  return fromBf16Bits(bf16Bits(x));
}

export function roundF16(x: number): number {
  return Math.f16round(x);
}

/** Numbers → packed storage of the type, whole 32-bit words. */
export function packHalves(
  dtype: "bf16" | "f16",
  values: ArrayLike<number>,
): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(values.length / 2));
  if (dtype === "f16") new Float16Array(words.buffer).set(values);
  else {
    const halves = new Uint16Array(words.buffer);
    if (values instanceof Float32Array) roundAll(values, halves);
    else for (let i = 0; i < values.length; i++) halves[i] = bf16Bits(values[i]);
  }
  return words;
}

/** `bf16Bits` of each, by the bits that are in memory already: a few times as fast. */
function roundAll(values: Float32Array, halves: Uint16Array): void {
  const all = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < all.length; i++) {
    const bits = all[i];
    halves[i] = (bits & 0x7fffffff) > 0x7f800000
      ? (bits >>> 16) | 0x40
      : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
}

/** Packed storage → `size` numbers. */
export function unpackHalves(
  dtype: "bf16" | "f16",
  words: Uint32Array,
  size: number,
): Float32Array<ArrayBuffer> {
  if (dtype === "f16") {
    return new Float32Array(new Float16Array(words.buffer as ArrayBuffer, words.byteOffset, size));
  }
  const halves = new Uint16Array(words.buffer, words.byteOffset, size),
    out = new Float32Array(size);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < size; i++) bits[i] = halves[i] << 16;
  return out;
}

/** The nearest whole number, of two equally near the even one, as IEEE 754 rounds. */
export function roundEven(x: number): number {
  const shift = 6755399441055744; // 1.5 · 2^52: what is added to it has no fraction left
  return Math.abs(x) < 2 ** 51 ? x + shift - shift : x;
}
