/**
 * WASM instructions as functions: `f32x4.add(a, b)` is the bytes that compute a + b. An expression
 * is nested byte arrays, printed where it is used: one used twice is computed twice, so keep it in
 * a local (`f.v128(expression)`). Code carries its type for the compiler only, so a vector where an
 * address belongs is an error in the editor.
 */

export type ValueType = "i32" | "f32" | "f64" | "v128";

/** A call whose index is known once the module is put together. */
export interface CallMark {
  readonly callee: string;
}

export interface Bytes extends ReadonlyArray<number | CallMark | Bytes> {}

declare const typeOf: unique symbol;

/** Bytes that leave a value of type `T` on the stack. */
export type Code<T extends ValueType> = Bytes & { readonly [typeOf]?: T };
export type I32 = Code<"i32">;
export type F32 = Code<"f32">;
export type F64 = Code<"f64">;
export type V128 = Code<"v128">;

/** Plain numbers stand for constants where a scalar is wanted. */
export type I32Value = I32 | number;
export type F32Value = F32 | number;

/** A variable of the function; used as an expression it is its value. */
export type Local<T extends ValueType> = Code<T> & { readonly index: number };

/** Unsigned LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  do {
    const low = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value > 0 ? low | 0x80 : low);
  } while (value > 0);
  return bytes;
}

/** Signed LEB128 of an i32; numbers from 2^31 to 2^32 - 1 (addresses) wrap. */
export function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value | 0;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

function floatBytes(value: number): number[] {
  return [...new Uint8Array(new Float32Array([value]).buffer)];
}

const intCode = (x: I32Value): I32 => typeof x === "number" ? [0x41, ...signed(x)] : x;
const floatCode = (x: F32Value): F32 => typeof x === "number" ? [0x43, ...floatBytes(x)] : x;

// Alignment is a hint that V8 ignores on x64 and arm64; 0 is right for every address.
const at = (offset: number) => [0, unsigned(offset)];
const simd = (opcode: number) => [0xfd, ...unsigned(opcode)];

const loads =
  <T extends ValueType>(...opcode: number[]) => (address: I32Value, offset = 0): Code<T> => [
    intCode(address),
    opcode,
    at(offset),
  ];
const i32Op =
  (opcode: number) => (a: I32Value, b: I32Value): I32 => [intCode(a), intCode(b), opcode];
const f32Op =
  (opcode: number) => (a: F32Value, b: F32Value): F32 => [floatCode(a), floatCode(b), opcode];
const f32Test =
  (opcode: number) => (a: F32Value, b: F32Value): I32 => [floatCode(a), floatCode(b), opcode];
const f32Unary = (opcode: number) => (a: F32Value): F32 => [floatCode(a), opcode];
const f64Op = (opcode: number) => (a: F64, b: F64): F64 => [a, b, opcode];

/** Integers and addresses. Addresses are compared unsigned: above 2 GiB an i32 is negative. */
export const i32 = {
  const: (value: number): I32 => intCode(value),
  load: loads<"i32">(0x28),
  load8u: loads<"i32">(0x2d),
  load16s: loads<"i32">(0x2e),
  load16u: loads<"i32">(0x2f),
  eqz: (a: I32Value): I32 => [intCode(a), 0x45],
  eq: i32Op(0x46),
  ne: i32Op(0x47),
  ltS: i32Op(0x48),
  ltU: i32Op(0x49),
  gtS: i32Op(0x4a),
  gtU: i32Op(0x4b),
  leS: i32Op(0x4c),
  leU: i32Op(0x4d),
  geS: i32Op(0x4e),
  geU: i32Op(0x4f),
  add: i32Op(0x6a),
  sub: i32Op(0x6b),
  mul: i32Op(0x6c),
  divS: i32Op(0x6d),
  divU: i32Op(0x6e),
  remS: i32Op(0x6f),
  remU: i32Op(0x70),
  and: i32Op(0x71),
  or: i32Op(0x72),
  xor: i32Op(0x73),
  shl: i32Op(0x74),
  shrS: i32Op(0x75),
  shrU: i32Op(0x76),
  /** The number in a float, towards zero; out of range it saturates, NaN is 0. */
  truncF32S: (a: F32): I32 => [a, 0xfc, 0],
  truncF32U: (a: F32): I32 => [a, 0xfc, 1],
  reinterpretF32: (a: F32): I32 => [a, 0xbc],
  /** a when the condition is not 0, else b; both are computed. */
  select: (
    condition: I32Value,
    a: I32Value,
    b: I32Value,
  ): I32 => [intCode(a), intCode(b), intCode(condition), 0x1b],
  minS: (
    a: I32Value,
    b: I32Value,
  ): I32 => [intCode(a), intCode(b), intCode(a), intCode(b), 0x48, 0x1b],
  maxS: (
    a: I32Value,
    b: I32Value,
  ): I32 => [intCode(a), intCode(b), intCode(a), intCode(b), 0x4a, 0x1b],
  minU: (
    a: I32Value,
    b: I32Value,
  ): I32 => [intCode(a), intCode(b), intCode(a), intCode(b), 0x49, 0x1b],
};

export const f32 = {
  const: (value: number): F32 => floatCode(value),
  load: loads<"f32">(0x2a),
  eq: f32Test(0x5b),
  ne: f32Test(0x5c),
  lt: f32Test(0x5d),
  gt: f32Test(0x5e),
  le: f32Test(0x5f),
  ge: f32Test(0x60),
  abs: f32Unary(0x8b),
  neg: f32Unary(0x8c),
  floor: f32Unary(0x8e),
  trunc: f32Unary(0x8f),
  nearest: f32Unary(0x90),
  sqrt: f32Unary(0x91),
  add: f32Op(0x92),
  sub: f32Op(0x93),
  mul: f32Op(0x94),
  div: f32Op(0x95),
  min: f32Op(0x96),
  max: f32Op(0x97),
  convertI32S: (a: I32Value): F32 => [intCode(a), 0xb2],
  convertI32U: (a: I32Value): F32 => [intCode(a), 0xb3],
  reinterpretI32: (a: I32Value): F32 => [intCode(a), 0xbe],
  demoteF64: (a: F64): F32 => [a, 0xb6],
  select: (
    condition: I32Value,
    a: F32Value,
    b: F32Value,
  ): F32 => [floatCode(a), floatCode(b), intCode(condition), 0x1b],
};

/** Doubles, for sums over whole tensors. */
export const f64 = {
  load: loads<"f64">(0x2b),
  add: f64Op(0xa0),
  sub: f64Op(0xa1),
  mul: f64Op(0xa2),
  div: f64Op(0xa3),
  sqrt: (a: F64): F64 => [a, 0x9f],
  gt: (a: F64, b: F64): I32 => [a, b, 0x64],
  ge: (a: F64, b: F64): I32 => [a, b, 0x66],
  promoteF32: (a: F32): F64 => [a, 0xbb],
};

const unary = (opcode: number) => (a: V128): V128 => [a, simd(opcode)];
const binary = (opcode: number) => (a: V128, b: V128): V128 => [a, b, simd(opcode)];
const ternary = (opcode: number) => (a: V128, b: V128, c: V128): V128 => [a, b, c, simd(opcode)];
const shift =
  (opcode: number) => (a: V128, bits: I32Value): V128 => [a, intCode(bits), simd(opcode)];
const test = (opcode: number) => (a: V128): I32 => [a, simd(opcode)];
const loadLane =
  (opcode: number) => (address: I32Value, vector: V128, lane: number, offset = 0): V128 => [
    intCode(address),
    vector,
    simd(opcode),
    at(offset),
    lane,
  ];

export const v128 = {
  load: loads<"v128">(...simd(0x00)),
  load16x4s: loads<"v128">(...simd(0x03)),
  /**
   * Four 16-bit values, widened to 32 bits; `i32x4.shl(_, 16)` makes them floats when they were
   * bf16.
   */
  load16x4u: loads<"v128">(...simd(0x04)),
  load16Splat: loads<"v128">(...simd(0x08)),
  load32Splat: loads<"v128">(...simd(0x09)),
  load64Splat: loads<"v128">(...simd(0x0a)),
  load32Zero: loads<"v128">(...simd(0x5c)),
  load64Zero: loads<"v128">(...simd(0x5d)),
  load16Lane: loadLane(0x55),
  load32Lane: loadLane(0x56),
  load64Lane: loadLane(0x57),
  not: unary(0x4d),
  and: binary(0x4e),
  /** a & ~b */
  andnot: binary(0x4f),
  or: binary(0x50),
  xor: binary(0x51),
  /** Bits of a where the mask is 1, else of b. */
  bitselect: ternary(0x52),
  anyTrue: test(0x53),
  select: (condition: I32Value, a: V128, b: V128): V128 => [a, b, intCode(condition), 0x1b],
  /** Lanes 0-3 are a's, 4-7 are b's. */
  shuffle32: (a: V128, b: V128, lanes: readonly [number, number, number, number]): V128 => [
    a,
    b,
    simd(0x0d),
    lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => lane * 4 + byte)),
  ],
  /** Lanes 0-7 are a's 16-bit lanes, 8-15 are b's. */
  shuffle16: (a: V128, b: V128, lanes: readonly number[]): V128 => [
    a,
    b,
    simd(0x0d),
    lanes.flatMap((lane) => [lane * 2, lane * 2 + 1]),
  ],
};

export const f32x4 = {
  splat: (a: F32Value): V128 => [floatCode(a), simd(0x13)],
  extractLane: (a: V128, lane: number): F32 => [a, simd(0x1f), lane],
  replaceLane: (
    a: V128,
    lane: number,
    value: F32Value,
  ): V128 => [a, floatCode(value), simd(0x20), lane],
  eq: binary(0x41),
  ne: binary(0x42),
  lt: binary(0x43),
  gt: binary(0x44),
  le: binary(0x45),
  ge: binary(0x46),
  ceil: unary(0x67),
  floor: unary(0x68),
  trunc: unary(0x69),
  nearest: unary(0x6a),
  abs: unary(0xe0),
  neg: unary(0xe1),
  sqrt: unary(0xe3),
  add: binary(0xe4),
  sub: binary(0xe5),
  mul: binary(0xe6),
  div: binary(0xe7),
  /** Slow: NaN and -0 rules. `pmin` where those do not matter. */
  min: binary(0xe8),
  max: binary(0xe9),
  /** b < a ? b : a. The first operand's NaN survives: clamp with `pmin(pmax(x, low), high)`. */
  pmin: binary(0xea),
  /** a < b ? b : a */
  pmax: binary(0xeb),
  convertI32x4S: unary(0xfa),
  convertI32x4U: unary(0xfb),
  /** a · b + c; with one rounding or two, by host. Needs relaxed SIMD: see `madd`. */
  relaxedMadd: ternary(0x105),
  /** c − a · b, likewise. */
  relaxedNmadd: ternary(0x106),
};

export const i32x4 = {
  splat: (a: I32Value): V128 => [intCode(a), simd(0x11)],
  extractLane: (a: V128, lane: number): I32 => [a, simd(0x1b), lane],
  replaceLane: (
    a: V128,
    lane: number,
    value: I32Value,
  ): V128 => [a, intCode(value), simd(0x1c), lane],
  eq: binary(0x37),
  ne: binary(0x38),
  ltS: binary(0x39),
  ltU: binary(0x3a),
  gtS: binary(0x3b),
  gtU: binary(0x3c),
  leS: binary(0x3d),
  geS: binary(0x3f),
  abs: unary(0xa0),
  neg: unary(0xa1),
  allTrue: test(0xa3),
  /** The sign bits of the four lanes. */
  bitmask: test(0xa4),
  shl: shift(0xab),
  shrS: shift(0xac),
  shrU: shift(0xad),
  add: binary(0xae),
  sub: binary(0xb1),
  mul: binary(0xb5),
  minS: binary(0xb6),
  minU: binary(0xb7),
  maxS: binary(0xb8),
  maxU: binary(0xb9),
  /** Towards zero; saturates, NaN is 0. */
  truncF32x4S: unary(0xf8),
  truncF32x4U: unary(0xf9),
  /** Low or high four of eight 16-bit lanes, widened. */
  extendLowU: unary(0xa9),
  extendHighU: unary(0xaa),
};

/** 64-bit lanes, for the wide products of counter-based random numbers. */
export const i64x2 = {
  shl: shift(0xcb),
  shrU: shift(0xcd),
  add: binary(0xce),
  extmulLowU: binary(0xde),
  extmulHighU: binary(0xdf),
};

/** a · b + c, fused where the target has relaxed SIMD. */
export function madd(relaxed: boolean): (a: V128, b: V128, c: V128) => V128 {
  return relaxed ? f32x4.relaxedMadd : (a, b, c) => f32x4.add(f32x4.mul(a, b), c);
}
