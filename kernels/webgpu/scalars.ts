/**
 * The WGSL column of the table of scalar functions. WGSL promises little: `tanh` may overflow to
 * NaN, `sin` is good to 2^-11 and only within ±π, `max` may lose a NaN. Where that matters the
 * function is written out here, and NaN goes through by comparisons whose false branch keeps it, or
 * by its bits. Kernels name the helpers below; the header prints those that are named.
 */

import type { ScalarName } from "../elementwise.ts";
import type { FusedProgram, FusedStep } from "../fused.ts";

type Print = (...x: string[]) => string;
const call = (name: string): Print => (...x) => `${name}(${x.join(", ")})`;

export const scalarWgsl: Readonly<Record<ScalarName, Print>> = {
  add: (a, b) => `${a} + ${b}`,
  sub: (a, b) => `${a} - ${b}`,
  mul: (a, b) => `${a} * ${b}`,
  div: (a, b) => `${a} / ${b}`,
  max: call("max_of"),
  min: call("min_of"),
  less: (a, b) => `select(0.0, 1.0, ${a} < ${b})`,
  equal: (a, b) => `select(0.0, 1.0, ${a} == ${b})`,
  where: (a, b, c) => `select(${c}, ${b}, ${a} != 0.0)`,
  neg: (x) => `-${x}`,
  abs: call("abs"),
  sign: call("sign"),
  floor: call("floor"),
  round_even: call("round"), // WGSL's takes the even one
  square: (x) => `${x} * ${x}`,
  reciprocal: (x) => `1.0 / ${x}`,
  sqrt: call("sqrt"),
  rsqrt: (x) => `1.0 / sqrt(${x})`,
  exp: call("exp_of"),
  log: call("log_of"),
  sin: call("sin_of"),
  cos: call("cos_of"),
  tanh: call("tanh_of"),
  erf: call("erf_of"),
  sigmoid: call("sigmoid_of"),
  softplus: call("softplus_of"),
  relu: (x) => `select(${x}, 0.0, ${x} < 0.0)`,
  silu: (x) => `${x} * sigmoid_of(${x})`,
  gelu: (x) => `0.5 * ${x} * (1.0 + erf_of(${x} * 0.70710678118654752))`,
  gelu_tanh: (x) =>
    `0.5 * ${x} * (1.0 + tanh_of(0.79788456080286536 * (${x} + 0.044715 * ${x} * ${x} * ${x})))`,
  round_bf16: (x) => `bitcast<f32>(bf16_bits(${x}) << 16u)`,
  round_f16: (x) => `f16_value(f16_bits(${x}))`,
};

/** Functions that kernels may name, later ones building on earlier ones. */
export const helpersWgsl: Readonly<Record<string, string>> = {
  // A call, as naga refuses to fold a literal's bits to infinity or NaN.
  float_of: `fn float_of(bits: u32) -> f32 { return bitcast<f32>(bits); }`,
  is_nan: `fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }`,
  is_finite:
    `fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }`,
  max_of: `fn max_of(a: f32, b: f32) -> f32 { return select(a, b, a < b || is_nan(b)); }`,
  min_of: `fn min_of(a: f32, b: f32) -> f32 { return select(a, b, b < a || is_nan(b)); }`,
  // e^x = 2^k e^r: drivers' own exp loses digits for large |x|. Both halves of 2^k are normal
  // numbers.
  exp_of: `fn exp_of(x: f32) -> f32 {
  let near = select(select(x, -104.0, x < -104.0), 89.0, x > 89.0);
  let k = floor(near * 1.44269504088896341 + 0.5);
  let r = (near - k * 0.693145751953125) - k * 1.42860682030941723e-6;
  var p = 1.98756915e-4;
  p = p * r + 1.39819995e-3;
  p = p * r + 8.33345207e-3;
  p = p * r + 4.16657944e-2;
  p = p * r + 1.66666657e-1;
  p = p * r + 0.5;
  p = p * r * r + r + 1.0;
  let whole = i32(k);
  let half = whole >> 1u;
  return p * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(whole - half + 127) << 23u);
}`,
  sigmoid_of: `fn sigmoid_of(x: f32) -> f32 {
  let e = exp_of(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}`,
  // log(1 + e) = 2 artanh(e / (2 + e)), for 0 ≤ e ≤ 1.
  softplus_of: `fn softplus_of(x: f32) -> f32 {
  let e = exp_of(-abs(x));
  let a = e / (2.0 + e);
  let s = a * a;
  let tail = 2.0 * a * (1.0 + s * (0.333333333 + s * (0.2 + s * (0.142857143 + s * (0.111111111 + s * (0.0909090909 + s * (0.0769230769 + s * 0.0666666667)))))));
  return select(tail, x + tail, x > 0.0);
}`,
  // log(2^k m) = k ln 2 + 2 artanh((m - 1) / (m + 1)), m within a factor √2 of 1; drivers' own is
  // off in the fifth digit near 1.
  log_of: `fn log_of(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let k = (bits - 0x3f3504f3u + 0x3f800000u) >> 23u;
  let m = bitcast<f32>(bits - (k << 23u) + 0x3f800000u);
  let a = (m - 1.0) / (m + 1.0);
  let s = a * a;
  let tail = 2.0 * a * (1.0 + s * (0.333333333 + s * (0.2 + s * (0.142857143 + s * (0.111111111 + s * 0.0909090909)))));
  let e = f32(i32(k) - 127);
  let value = e * 0.693145751953125 + (e * 1.42860682030941723e-6 + tail);
  return select(log(x), value, x > 1.2e-38 && x < 3.4e38);
}`,
  tanh_of: `fn tanh_of(x: f32) -> f32 {
  let s = x * x;
  let near = x + x * s * (-0.333333333 + s * (0.133333333 + s * (-0.0539682540 + s * (0.0218694885 - s * 0.00886323553))));
  let e = exp_of(-2.0 * abs(x));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(-far, far, x > 0.0), near, abs(x) < 0.3);
}`,
  // Two polynomials (N. Juffa's single-precision erff): absolute error below 1e-7.
  erf_of: `fn erf_of(x: f32) -> f32 {
  let t = abs(x);
  let s = x * x;
  var far = -1.72853470e-5 * t + 3.83197126e-4;
  far = far * s + (-3.88396438e-3 * t + 2.42546219e-2);
  far = far * t - 1.06777877e-1;
  far = far * t - 6.34846687e-1;
  far = far * t - 1.28717512e-1;
  far = 1.0 - exp_of(far * t - t);
  far = select(far, 1.0, t > 5.0);
  var near = -5.96761703e-4;
  near = near * s + 4.99119423e-3;
  near = near * s - 2.67681349e-2;
  near = near * s + 1.12819925e-1;
  near = near * s - 3.76125336e-1;
  near = near * s + 1.28379166e-1;
  near = near * x + x;
  return select(select(-far, far, x > 0.0), near, t < 0.92);
}`,
  // Cody and Waite: π/2 in three parts; good to some ten thousand turns.
  quarter_turns:
    `fn quarter_turns(x: f32) -> f32 { return floor(x * 0.636619772367581343 + 0.5); }`,
  turned: `fn turned(x: f32, k: f32) -> f32 {
  return ((x - k * 1.5703125) - k * 4.837512969970703125e-4) - k * 7.54978995489188216e-8;
}`,
  sin_near: `fn sin_near(r: f32) -> f32 {
  let s = r * r;
  return r + r * s * (-1.6666654611e-1 + s * (8.3321608736e-3 - s * 1.9515295891e-4));
}`,
  cos_near: `fn cos_near(r: f32) -> f32 {
  let s = r * r;
  return 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5));
}`,
  sine_at: `fn sine_at(x: f32, shift: i32) -> f32 {
  let k = quarter_turns(x);
  let r = turned(x, k);
  let quarter = (i32(k) + shift) & 3;
  let value = select(sin_near(r), cos_near(r), (quarter & 1) == 1);
  return select(value, -value, quarter >= 2);
}`,
  sin_of: `fn sin_of(x: f32) -> f32 { return select(sine_at(x, 0), sin(x), abs(x) > 3.0e4); }`,
  cos_of: `fn cos_of(x: f32) -> f32 { return select(sine_at(x, 1), cos(x), abs(x) > 3.0e4); }`,
};

/** The helpers that a text names, and those that they name in turn. */
export function helpersIn(text: string): string[] {
  const found: string[] = [];
  let seen = text;
  for (const name of Object.keys(helpersWgsl).reverse()) {
    if (!new RegExp(`\\b${name}\\(`).test(seen)) continue;
    found.unshift(helpersWgsl[name]);
    seen += helpersWgsl[name];
  }
  return found;
}

/** A number as a WGSL expression of type f32, whatever it is. */
export function floatWgsl(value: number): string {
  const nearest = Math.fround(value);
  if (!Number.isFinite(nearest)) {
    return Number.isNaN(nearest)
      ? "float_of(0x7fc00000u)"
      : nearest > 0
      ? "float_of(0x7f800000u)"
      : "float_of(0xff800000u)";
  }
  return Object.is(nearest, -0) ? "-0.0f" : `f32(${nearest})`;
}

type Reduction = Extract<FusedStep, { readonly args: readonly [number] }>;

export function isReduction(step: FusedStep): step is Reduction {
  return step.op === "reduce_sum" || step.op === "reduce_max";
}

/**
 * A program without reductions, for one point: lines that define `t0`, `t1`, …, and the name of
 * each step's value. `load` gives the expression of an input.
 */
export function stepsWgsl(
  { steps }: FusedProgram,
  load: (input: number) => string,
  constant: (value: number, step: number) => string = floatWgsl,
): { lines: string[]; values: string[] } {
  const values = steps.map((_, i) => `t${i}`);
  const lines = steps.map((step, i) => {
    if (isReduction(step)) throw new Error("a row reduction cannot be computed at one point");
    const value = step.op === "input"
      ? load(step.input)
      : step.op === "constant"
      ? constant(step.value, i)
      : scalarWgsl[step.op](...step.args.map((arg) => values[arg]));
    return `let ${values[i]} = ${value};`;
  });
  return { lines, values };
}
