/**
 * The vector functions against doubles, over sweeps; errors in units of the last place of the f32
 * nearest to the true value.
 */

import assert from "node:assert/strict";
import { type ScalarName, scalars } from "../../../kernels/elementwise.ts";
import { encodeKernels, i32, v128 } from "../../../kernels/wasm/encode.ts";
import { scalarRules, vectorMath } from "../../../kernels/wasm/scalar.ts";

const pages = 64, operandBytes = 1 << 20;

/** f of the columns, four lanes at a time. */
function evaluate(name: ScalarName, columns: readonly Float32Array[], relaxed = true) {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const module = new WebAssembly.Module(encodeKernels([{
    key: name,
    build(f) {
      const i = f.i32();
      f.forRange(i, i32.shl(f.begin, 2), i32.shl(f.end, 2), 16, () => {
        const x = columns.map((_, n) => f.v128(v128.load(i, (n + 1) * operandBytes)));
        f.store(i, scalarRules[name](vectorMath(f, relaxed), ...x));
      });
    },
  }], pages));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  columns.forEach((x, n) => new Float32Array(memory.buffer, (n + 1) * operandBytes).set(x));
  const size = columns[0].length;
  assert.ok(4 * size <= operandBytes);
  (exports[name] as (args: number, begin: number, end: number, scratch: number) => void)(
    0,
    0,
    size,
    0,
  );
  return new Float32Array(memory.buffer, 0, size).slice();
}

/** Evenly spaced, and the same with their sizes spread over `decades`. */
function sweep(low: number, high: number, count = 60_000, decades = 6): Float32Array {
  return Float32Array.from({ length: 2 * count }, (_, i) => {
    const x = low + (high - low) * ((i % count) + 0.5) / count;
    return i < count ? x : x * 10 ** (-decades * ((i * 7919) % count) / count);
  });
}

/**
 * Distance from the true value in steps of the f32 numbers around it, subnormal steps at the least.
 */
function ulps(found: number, truth: number): number {
  if (Object.is(found, truth) || Math.fround(truth) === found) return 0;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(truth))), -126);
  return Math.abs(found - truth) / 2 ** (exponent - 23);
}

interface Case {
  readonly low: number;
  readonly high: number;
  /** Passes if within either. */
  readonly ulp: number;
  readonly abs?: number;
  readonly truth?: (x: number) => number;
}

/** erfc by its continued fraction or series, for the tail that 1 + erf loses. */
function upperNormal(a: number): number { // Φ(−a)
  const z = a / Math.SQRT2;
  if (z < 2) return 0.5 * (1 - scalars.erf.f(z));
  let tail = z;
  for (let n = 200; n > 0; n--) tail = z + n / 2 / tail;
  return 0.5 * Math.exp(-z * z) / Math.sqrt(Math.PI) / tail;
}
const normalTail = (x: number) => x < 0 ? x * upperNormal(-x) : x - x * upperNormal(x);
const gelu0 = Math.sqrt(2 / Math.PI);
const tanhForm = (x: number) => x / (1 + Math.exp(-2 * gelu0 * (x + 0.044715 * x ** 3)));

// Bounds are about twice what was measured with fused multiply-add, so that another rounding does
// not fail.
const cases: Partial<Record<ScalarName, Case>> = {
  exp: { low: -87.3, high: 88.3, ulp: 2 },
  log: { low: 1e-38, high: 3e38, ulp: 2 },
  sin: { low: -10_000, high: 10_000, ulp: 3, abs: 3e-7 },
  cos: { low: -10_000, high: 10_000, ulp: 3, abs: 3e-7 },
  tanh: { low: -12, high: 12, ulp: 8 },
  erf: { low: -6, high: 6, ulp: 8 },
  sigmoid: { low: -87, high: 87, ulp: 4 },
  softplus: { low: -87, high: 87, ulp: 4 },
  relu: { low: -3, high: 3, ulp: 0 },
  silu: { low: -87, high: 87, ulp: 4 },
  gelu: { low: -12.5, high: 12.5, ulp: 12, truth: normalTail },
  // Where the exponent is large its rounding grows in the exponential: half a unit of −38 is 32
  // units of the value at −7.
  gelu_tanh: { low: -7, high: 7, ulp: 100, truth: tanhForm },
  rsqrt: { low: 1e-30, high: 1e30, ulp: 2 },
  sqrt: { low: 0, high: 1e30, ulp: 0.5 },
  reciprocal: { low: -1e20, high: 1e20, ulp: 0.5 },
  floor: { low: -1e5, high: 1e5, ulp: 0 },
  square: { low: -1e5, high: 1e5, ulp: 0.5 },
  abs: { low: -5, high: 5, ulp: 0 },
  neg: { low: -5, high: 5, ulp: 0 },
  sign: { low: -5, high: 5, ulp: 0 },
  round_bf16: { low: -1e5, high: 1e5, ulp: 0 },
  round_f16: { low: -70_000, high: 70_000, ulp: 0 },
};

for (const relaxed of [true, false]) {
  Deno.test(`scalar functions: close to the truth over sweeps${relaxed ? "" : ", without FMA"}`, () => {
    for (const [name, { low, high, ulp, abs = 0, truth }] of Object.entries(cases)) {
      const scalar = name as ScalarName, x = sweep(low, high);
      const f = truth ?? scalars[scalar].f as (x: number) => number;
      const y = evaluate(scalar, [x], relaxed);
      let worst = 0, where = 0;
      y.forEach((found, i) => {
        const expected = f(x[i]), distance = ulps(found, expected);
        if (Math.abs(found - expected) <= abs) return;
        if (!(distance <= worst)) [worst, where] = [distance, x[i]];
      });
      if (Deno.env.get("QUERN_TEST_SHOW")) console.log(name, relaxed, worst, where);
      assert.ok(worst <= ulp, `${name}(${where}) is off by ${worst} units in the last place`);
    }
  });
}

Deno.test("scalar functions: powers of two, infinities, zeros and NaN", () => {
  const special = Float32Array.of(NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5);
  const same = (name: ScalarName, expected: number[], x = special) =>
    assert.deepEqual([...evaluate(name, [x])], expected.map(Math.fround), name);
  same("exp", [NaN, Infinity, 0, 1, 1, Math.E, 1 / Math.E, Math.exp(0.5)].map(Math.fround));
  same("exp", [0, Infinity, 0, Infinity], Float32Array.of(-200, 200, -1e30, 3e38));
  same("log", [NaN, Infinity, NaN, -Infinity, -Infinity, 0, NaN, Math.log(0.5)]);
  same("relu", [NaN, Infinity, 0, 0, -0, 1, 0, 0.5]);
  same("sign", [NaN, 1, -1, 0, -0, 1, -1, 1]);
  same("round_bf16", [NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5]);
  same("round_f16", [NaN, Infinity, -Infinity, 0, -0, 1, -1, 0.5]);
  for (
    const name of ["tanh", "erf", "sigmoid", "softplus", "gelu", "sin", "cos", "silu"] as const
  ) {
    const y = evaluate(name, [special]);
    assert.ok(Number.isNaN(y[0]), `${name}(NaN) is ${y[0]}`);
    assert.ok(!Number.isNaN(y[3]) && !Number.isNaN(y[5]), `${name} of 0 and 1 are numbers`);
  }
  const ends = Float32Array.of(Infinity, -Infinity, 500, -500);
  same("tanh", [1, -1, 1, -1], ends);
  same("erf", [1, -1, 1, -1], ends);
  same("sigmoid", [1, 0, 1, 0], ends);
  same("softplus", [Infinity, 0, 500, 0], ends);
  same("gelu", [Infinity, 0, 500, 0], ends);
});

Deno.test("scalar functions: two and three operands", () => {
  const a = Float32Array.of(1, 2, NaN, 3, Infinity, 0, 1e30, -1),
    b = Float32Array.of(2, 1, 1, NaN, 1, -0, 1e30, -1),
    c = Float32Array.of(9, 8, 7, 6, 5, 4, 3, 2);
  const check = (name: ScalarName, ...columns: Float32Array[]) => {
    const f = scalars[name].f as (...x: number[]) => number;
    const expected = [...columns[0]].map((_, i) => Math.fround(f(...columns.map((x) => x[i]))));
    assert.deepEqual([...evaluate(name, columns)], expected, name);
  };
  for (const name of ["add", "sub", "mul", "div", "max", "min", "less", "equal"] as const) {
    check(name, a, b);
  }
  check("where", Float32Array.of(0, 1, NaN, -0, -3, Infinity, 1e-40, 0), a, c);
});

Deno.test("round_bf16 and round_f16: every rounding of 16-bit neighbours, subnormals included", () => {
  const words = new Uint32Array(1 << 17), values = new Float32Array(words.buffer);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1) & 0xffffe001;
  for (const name of ["round_bf16", "round_f16"] as const) {
    for (let step = 0; step < 4; step++) {
      const x = values.map((v, i) => (words[i] & 1) === 0 ? v * 2 ** (-30 * step) : v);
      const y = evaluate(name, [x]);
      y.forEach((found, i) => {
        const expected = scalars[name].f(x[i]);
        assert.ok(Object.is(found, expected), `${name}(${x[i]}) is ${found}, not ${expected}`);
      });
    }
  }
});
