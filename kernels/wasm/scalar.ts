/**
 * The WASM column of the scalar table: each function on four lanes. Errors stay within a few units
 * in the last place (measured by `tests/kernels/wasm/scalar_test.ts`); NaN passes through every
 * arithmetic function, so that a gradient gone wrong is seen.
 *
 * What makes them fast: constants are set before the loop (`f.constant`), `pmin/pmax` in place of
 * `min/max` (their first operand's NaN survives), and rounding to an integer by adding 1.5 · 2²³,
 * after which the low bits *are* the integer.
 */

import type { ScalarName } from "../elementwise.ts";
import { f32x4, type FunctionBuilder, i32x4, type Local, madd, type V128, v128 } from "./encode.ts";

type Vector = Local<"v128">;

/** The function being written, with what the rules need of it. */
export interface VectorMath {
  readonly f: FunctionBuilder;
  /** A number in all lanes. */
  k(value: number): Vector;
  /** A variable, for what is used twice. */
  keep(value: V128): Vector;
  madd(a: V128, b: V128, c: V128): V128;
  /** c − a · b */
  nmadd(a: V128, b: V128, c: V128): V128;
}

export function vectorMath(f: FunctionBuilder, relaxed: boolean): VectorMath {
  return {
    f,
    k: (value) => f.constant(value),
    keep: (value) => f.v128(value),
    madd: madd(relaxed),
    nmadd: relaxed ? f32x4.relaxedNmadd : (a, b, c) => f32x4.sub(c, f32x4.mul(a, b)),
  };
}

const { add, sub, mul, div, pmin, pmax, abs, neg } = f32x4;

/** Σ coefficients[i] zⁱ, highest first, by Horner's rule. */
function polynomial(s: VectorMath, z: Vector, coefficients: readonly number[]): V128 {
  return coefficients.slice(1).reduce<V128>(
    (sum, c) => s.madd(sum, z, s.k(c)),
    s.k(coefficients[0]),
  );
}

/** Adding this leaves the nearest integer in the low bits (|x| < 2²²). */
const magic = 1.5 * 2 ** 23;

/**
 * exp(x + low); `low` is a correction far below 1. The integer part n + 127 becomes the exponent of
 * the scale: 0 (a scale of 0) from −87.7 down, 255 (infinite) from 88.4 up, so both ends come out
 * right without a test. Polynomial: Cephes expf.
 */
function exp(s: VectorMath, x: Vector, low?: V128): V128 {
  const clamped = s.keep(pmin(pmax(x, s.k(-88.1)), s.k(88.8)));
  const shifted = s.keep(s.madd(clamped, s.k(Math.LOG2E), s.k(magic + 127)));
  const n = s.keep(sub(shifted, s.k(magic + 127)));
  const near = s.nmadd(n, s.k(-2.12194440e-4), s.nmadd(n, s.k(0.693359375), clamped));
  const r = s.keep(low ? add(near, low) : near);
  const tail = polynomial(s, r, [
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
  ]);
  const value = s.madd(tail, mul(r, r), add(r, s.k(1)));
  return mul(value, i32x4.shl(shifted, 23));
}

/** Cephes logf: mantissa in [√½, √2), exponent apart; subnormals are scaled up first. */
function log(s: VectorMath, x: Vector): V128 {
  const small = s.keep(f32x4.lt(x, s.k(2 ** -126)));
  const scaled = v128.bitselect(mul(x, s.k(2 ** 23)), x, small);
  // Counted from √½, so that the exponent's bits carry at the mantissa √2.
  const sqrtHalf = 0x3f3504f3;
  const bits = s.keep(i32x4.sub(scaled, s.f.constantI32(sqrtHalf)));
  const exponent = f32x4.convertI32x4S(i32x4.shrS(bits, 23));
  const e = s.keep(sub(exponent, v128.and(small, s.k(23))));
  const mantissa = i32x4.add(
    v128.and(bits, s.f.constantI32(0x7fffff)),
    s.f.constantI32(sqrtHalf),
  );
  const m = s.keep(sub(mantissa, s.k(1))), z = s.keep(mul(m, m));
  const tail = mul(
    mul(
      polynomial(s, m, [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
      ]),
      m,
    ),
    z,
  );
  const low = s.nmadd(s.k(0.5), z, s.madd(e, s.k(-2.12194440e-4), tail));
  const value = s.madd(e, s.k(0.693359375), add(m, low));
  // 0 → −∞, ∞ → ∞, below 0 and NaN → NaN.
  const ends = v128.bitselect(s.k(-Infinity), s.k(NaN), f32x4.eq(x, s.k(0)));
  const regular = v128.and(f32x4.gt(x, s.k(0)), f32x4.lt(x, s.k(Infinity)));
  return v128.bitselect(
    value,
    v128.bitselect(x, ends, f32x4.eq(x, s.k(Infinity))),
    regular,
  );
}

/**
 * sin(x + quarter · π/2). Three parts of π/2, the first two short enough that n times them is exact
 * to |x| of 12,000.
 */
function circular(s: VectorMath, x: Vector, quarter: 0 | 1): V128 {
  const shifted = s.keep(s.madd(x, s.k(2 / Math.PI), s.k(magic)));
  const n = s.keep(sub(shifted, s.k(magic)));
  const first = s.nmadd(n, s.k(1.5703125), x);
  const r = s.keep(
    s.nmadd(n, s.k(7.54978995489188e-8), s.nmadd(n, s.k(4.837512969970703125e-4), first)),
  );
  const z = s.keep(mul(r, r));
  const sine = s.madd(
    mul(polynomial(s, z, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]), z),
    r,
    r,
  );
  const cosine = s.madd(
    mul(polynomial(s, z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]), z),
    z,
    s.nmadd(s.k(0.5), z, s.k(1)),
  );
  const quadrant = quarter === 0 ? shifted : i32x4.add(shifted, s.f.constantI32(1));
  const q = s.keep(quadrant);
  const odd = i32x4.shrS(i32x4.shl(q, 31), 31);
  const sign = i32x4.shl(i32x4.shrU(q, 1), 31);
  const value = v128.xor(v128.bitselect(cosine, sine, odd), sign);
  // Beyond the reduction's range the value is meaningless, but stays bounded.
  return pmin(pmax(value, s.k(-1)), s.k(1));
}

/**
 * An odd rational function of a clamped argument, x · P(x²) / Q(x²), that may not pass 1 by its
 * rounding.
 */
function oddRational(
  s: VectorMath,
  x: Vector,
  limit: number,
  above: readonly number[],
  below: readonly number[],
): V128 {
  const clamped = s.keep(pmin(pmax(x, s.k(-limit)), s.k(limit))),
    z = s.keep(mul(clamped, clamped));
  const value = mul(clamped, div(polynomial(s, z, above), polynomial(s, z, below)));
  return pmin(pmax(value, s.k(-1)), s.k(1));
}

/** The rational minimax form that Eigen uses. */
function tanh(s: VectorMath, x: Vector): V128 {
  return oddRational(
    s,
    x,
    9,
    [
      -2.76076847742355e-16,
      2.00018790482477e-13,
      -8.60467152213735e-11,
      5.12229709037114e-8,
      1.48572235717979e-5,
      6.37261928875436e-4,
      4.89352455891786e-3,
    ],
    [1.19825839466702e-6, 1.18534705686654e-4, 2.26843463243900e-3, 4.89352518554385e-3],
  );
}

/** As `tanh`, from the same source. */
function erf(s: VectorMath, x: Vector): V128 {
  return oddRational(
    s,
    x,
    4,
    [
      -2.72614225801306e-10,
      2.77068142495902e-8,
      -2.10102402082508e-6,
      -5.69250639462346e-5,
      -7.34990630326855e-4,
      -2.95459980854025e-3,
      -1.60960333262415e-2,
    ],
    [
      -1.45660718464996e-5,
      -2.13374055278905e-4,
      -1.68282697438203e-3,
      -7.37332916720468e-3,
      -1.42647390514189e-2,
    ],
  );
}

function sigmoid(s: VectorMath, x: Vector): V128 {
  return div(s.k(1), add(s.k(1), exp(s, s.keep(neg(x)))));
}

/**
 * max(x, 0) + log1p(u), u = exp(−|x|); log1p(u) = 2 artanh(u / (2 + u)), accurate for small u too.
 */
function softplus(s: VectorMath, x: Vector): V128 {
  const u = s.keep(exp(s, s.keep(neg(abs(x)))));
  const t = s.keep(div(u, add(u, s.k(2)))), z = s.keep(mul(t, t)), twice = s.keep(add(t, t));
  // (artanh(t)/t − 1)/t² on t² < 1/9; fitted to 1.1e-10.
  const tail = polynomial(s, z, [
    0.12150467187166214,
    0.10713829100131989,
    0.14308442175388336,
    0.19999438524246216,
    0.3333333730697632,
  ]);
  return add(pmax(x, s.k(0)), s.madd(mul(tail, z), twice, twice));
}

/**
 * x Φ(x) = max(x, 0) − |x| Φ(−|x|): nothing cancels in the negative tail. Φ(−a) = exp(−a²/2) ·
 * R(t), t = 1/(1 + 0.2316419 a), R fitted to
 * 1.5e-7 of its value on 0..14.5; a² is split so that its rounding does not grow in the exponential.
 */
function gelu(s: VectorMath, x: Vector): V128 {
  const a = s.keep(pmin(abs(x), s.k(14.5)));
  const t = s.keep(div(s.k(1), s.madd(a, s.k(0.2316419), s.k(1))));
  const fit = polynomial(s, t, [
    -0.07007167845752597,
    0.2461751499424644,
    -0.19896497474041389,
    0.2226687012862163,
    0.014987765227508006,
    0.10218922016512705,
    0.09049923375257715,
    0.09251665658534321,
  ]);
  const high = s.keep(v128.and(a, s.f.constantI32(0xfffff000)));
  const low = mul(mul(sub(high, a), add(high, a)), s.k(0.5));
  const exponent = s.keep(mul(mul(high, high), s.k(-0.5)));
  const tail = mul(mul(fit, t), exp(s, exponent, low));
  return s.nmadd(a, tail, pmax(x, s.k(0)));
}

const gelu0 = Math.sqrt(2 / Math.PI), gelu1 = 0.044715;

/** ½ x (1 + tanh u) = x · sigmoid(2u), which keeps the negative tail. */
function geluTanh(s: VectorMath, x: Vector): V128 {
  const cubic = s.madd(mul(x, x), s.k(-2 * gelu0 * gelu1), s.k(-2 * gelu0));
  return div(x, add(s.k(1), exp(s, s.keep(mul(x, cubic)))));
}

/**
 * The bits of bf16 in the low half of each lane: nearest, ties to even; NaN stays NaN (made quiet).
 */
export function bf16Bits(s: VectorMath, x: Vector): V128 {
  const odd = v128.and(i32x4.shrU(x, 16), s.f.constantI32(1));
  const rounded = i32x4.add(i32x4.add(x, s.f.constantI32(0x7fff)), odd);
  const quiet = v128.or(x, s.f.constantI32(0x400000));
  return i32x4.shrU(v128.bitselect(rounded, quiet, f32x4.eq(x, x)), 16);
}

/**
 * Normal numbers by integers as for bf16; below 2⁻¹⁴ the steps are 2⁻²⁴, those of numbers just
 * above ½; from 65,520 up infinite.
 */
function roundF16(s: VectorMath, x: Vector): V128 {
  const size = s.keep(abs(x)), int = (value: number) => s.f.constantI32(value);
  const odd = v128.and(i32x4.shrU(size, 13), int(1));
  const rounded = s.keep(
    v128.and(i32x4.add(i32x4.add(size, int(0xfff)), odd), int(0xffffe000)),
  );
  const normal = v128.bitselect(s.k(Infinity), rounded, f32x4.ge(size, s.k(65520)));
  const tiny = sub(add(size, s.k(0.5)), s.k(0.5));
  const value = v128.bitselect(tiny, normal, f32x4.lt(size, s.k(2 ** -14)));
  const signed = v128.bitselect(value, x, int(0x7fffffff));
  return v128.bitselect(signed, x, f32x4.eq(x, x));
}

function sign(s: VectorMath, x: Vector): V128 {
  const one = v128.bitselect(s.k(1), x, s.f.constantI32(0x7fffffff));
  return v128.bitselect(one, x, f32x4.gt(abs(x), s.k(0)));
}

type Rule = (s: VectorMath, ...x: Vector[]) => V128;

/** Arguments are variables, so a rule may use them as often as it likes. */
export const scalarRules: Readonly<Record<ScalarName, Rule>> = {
  add: (_, a, b) => add(a, b),
  sub: (_, a, b) => sub(a, b),
  mul: (_, a, b) => mul(a, b),
  div: (_, a, b) => div(a, b),
  max: (_, a, b) => f32x4.max(a, b),
  min: (_, a, b) => f32x4.min(a, b),
  less: (s, a, b) => v128.and(f32x4.lt(a, b), s.k(1)),
  equal: (s, a, b) => v128.and(f32x4.eq(a, b), s.k(1)),
  where: (s, a, b, c) => v128.bitselect(b, c, f32x4.ne(a, s.k(0))),
  neg: (_, x) => neg(x),
  abs: (_, x) => abs(x),
  sign,
  floor: (_, x) => f32x4.floor(x),
  round_even: (_, x) => f32x4.nearest(x),
  square: (_, x) => mul(x, x),
  reciprocal: (s, x) => div(s.k(1), x),
  sqrt: (_, x) => f32x4.sqrt(x),
  rsqrt: (s, x) => div(s.k(1), f32x4.sqrt(x)),
  exp: (s, x) => exp(s, x),
  log,
  sin: (s, x) => circular(s, x, 0),
  cos: (s, x) => circular(s, x, 1),
  tanh,
  erf,
  sigmoid,
  softplus,
  relu: (s, x) => pmax(x, s.k(0)),
  silu: (s, x) => div(x, add(s.k(1), exp(s, s.keep(neg(x))))),
  gelu,
  gelu_tanh: geluTanh,
  round_bf16: (s, x) => i32x4.shl(bf16Bits(s, x), 16),
  round_f16: roundF16,
};
