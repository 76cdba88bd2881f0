/**
 * Element-wise functions: one row gives a function's loop, its derivative and its cost; `scalar.ts`
 * has the same rows' WGSL and WASM. The fuser prints kernels from them. Operands broadcast as in
 * NumPy; results are f32 whatever the storage of the operands.
 */

import {
  apply,
  type Attrs,
  type Dtype,
  expect,
  isFloat,
  type Numbers,
  type Op,
  type OpContext,
  roundBf16,
  roundEven,
  roundF16,
  sizeOf,
  type Spec,
  type Tensor,
} from "../core/graph/mod.ts";
import { defineOp, type Kernel } from "./lowering.ts";
import { erf } from "./special.ts";
import { programOf } from "./program_of.ts";
import { sumTo } from "./reduce.ts";
import { programWasm } from "./wasm/fused.ts";

/** A tensor, or a number that broadcasts to every element. */
export type Value = Tensor | number;

export interface Scalar {
  readonly arity: number;
  /** FLOPs that one element is counted as. */
  readonly flops: number;
  f(...x: number[]): number;
  /**
   * Cotangents of the operands, before they are summed to the operands' shapes. Missing: the
   * function is locally constant.
   */
  d?(x: readonly Tensor[], y: Tensor, dy: Tensor): readonly (Tensor | undefined)[];
}

const sqrt2 = Math.SQRT2,
  invSqrt2Pi = 1 / Math.sqrt(2 * Math.PI),
  gelu0 = Math.sqrt(2 / Math.PI),
  gelu1 = 0.044715;
const sigmoidOf = (x: number) => x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));

export const scalars = {
  add: { arity: 2, flops: 1, f: (a, b) => a + b, d: (_x, _y, dy) => [dy, dy] },
  sub: { arity: 2, flops: 1, f: (a, b) => a - b, d: (_x, _y, dy) => [dy, neg(dy)] },
  mul: { arity: 2, flops: 1, f: (a, b) => a * b, d: ([a, b], _y, dy) => [mul(dy, b), mul(dy, a)] },
  div: {
    arity: 2,
    flops: 1,
    f: (a, b) => a / b,
    d: ([_a, b], y, dy) => [div(dy, b), neg(div(mul(dy, y), b))],
  },
  max: {
    arity: 2,
    flops: 1,
    f: (a, b) => Math.max(a, b),
    d: ([a, b], _y, dy) => [where(less(a, b), 0, dy), where(less(a, b), dy, 0)],
  },
  min: {
    arity: 2,
    flops: 1,
    f: (a, b) => Math.min(a, b),
    d: ([a, b], _y, dy) => [where(less(b, a), 0, dy), where(less(b, a), dy, 0)],
  },
  /** 1 where a < b, else 0. */
  less: { arity: 2, flops: 1, f: (a, b) => a < b ? 1 : 0 },
  equal: { arity: 2, flops: 1, f: (a, b) => a === b ? 1 : 0 },
  /**
   * b where a is not zero, else c. The branch that is not taken may be anything, infinite or not a
   * number.
   */
  where: {
    arity: 3,
    flops: 1,
    f: (a, b, c) => a !== 0 ? b : c,
    d: ([a], _y, dy) => [undefined, where(a, dy, 0), where(a, 0, dy)],
  },
  neg: { arity: 1, flops: 1, f: (x) => -x, d: (_x, _y, dy) => [neg(dy)] },
  abs: { arity: 1, flops: 1, f: Math.abs, d: ([x], _y, dy) => [mul(dy, sign(x))] },
  sign: { arity: 1, flops: 1, f: Math.sign },
  floor: { arity: 1, flops: 1, f: Math.floor },
  /** To the nearest whole number, of two equally near to the even one. */
  round_even: { arity: 1, flops: 1, f: roundEven },
  square: { arity: 1, flops: 1, f: (x) => x * x, d: ([x], _y, dy) => [mul(dy, mul(x, 2))] },
  reciprocal: { arity: 1, flops: 1, f: (x) => 1 / x, d: (_x, y, dy) => [neg(mul(dy, square(y)))] },
  sqrt: { arity: 1, flops: 1, f: Math.sqrt, d: (_x, y, dy) => [div(mul(dy, 0.5), y)] },
  rsqrt: {
    arity: 1,
    flops: 2,
    f: (x) => 1 / Math.sqrt(x),
    d: (_x, y, dy) => [mul(mul(dy, -0.5), mul(y, square(y)))],
  },
  exp: { arity: 1, flops: 10, f: Math.exp, d: (_x, y, dy) => [mul(dy, y)] },
  log: { arity: 1, flops: 10, f: Math.log, d: ([x], _y, dy) => [div(dy, x)] },
  sin: { arity: 1, flops: 10, f: Math.sin, d: ([x], _y, dy) => [mul(dy, cos(x))] },
  cos: { arity: 1, flops: 10, f: Math.cos, d: ([x], _y, dy) => [neg(mul(dy, sin(x)))] },
  tanh: { arity: 1, flops: 12, f: Math.tanh, d: (_x, y, dy) => [mul(dy, sub(1, square(y)))] },
  erf: {
    arity: 1,
    flops: 20,
    f: erf,
    d: ([x], _y, dy) => [mul(dy, mul(2 / Math.sqrt(Math.PI), exp(neg(square(x)))))],
  },
  sigmoid: { arity: 1, flops: 12, f: sigmoidOf, d: (_x, y, dy) => [mul(dy, mul(y, sub(1, y)))] },
  /** log(1 + exp x) */
  softplus: {
    arity: 1,
    flops: 22,
    f: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    d: ([x], _y, dy) => [mul(dy, sigmoid(x))],
  },
  relu: {
    arity: 1,
    flops: 1,
    f: (x) => Math.max(x, 0),
    d: ([x], _y, dy) => [where(less(0, x), dy, 0)],
  },
  /** x · sigmoid(x) */
  silu: {
    arity: 1,
    flops: 13,
    f: (x) => x * sigmoidOf(x),
    d: ([x], _y, dy) => {
      const s = sigmoid(x);
      return [mul(dy, mul(s, add(1, mul(x, sub(1, s)))))];
    },
  },
  /** x · Φ(x), with erf */
  gelu: {
    arity: 1,
    flops: 24,
    f: (x) => 0.5 * x * (1 + erf(x / sqrt2)),
    d: ([x], _y, dy) => {
      const density = mul(invSqrt2Pi, exp(mul(-0.5, square(x))));
      const distribution = mul(0.5, add(1, erfOf(mul(x, 1 / sqrt2))));
      return [mul(dy, add(distribution, mul(x, density)))];
    },
  },
  /** The tanh form of GELU (Hendrycks & Gimpel 2016). */
  gelu_tanh: {
    arity: 1,
    flops: 20,
    f: (x) => 0.5 * x * (1 + Math.tanh(gelu0 * (x + gelu1 * x * x * x))),
    d: ([x], _y, dy) => {
      const t = tanh(mul(gelu0, add(x, mul(gelu1, mul(x, square(x))))));
      const slope = mul(gelu0, add(1, mul(3 * gelu1, square(x))));
      return [mul(dy, add(mul(0.5, add(1, t)), mul(mul(0.5, x), mul(sub(1, square(t)), slope))))];
    },
  },
  /** Rounds to what bf16 holds; as storage see `cast`. */
  round_bf16: { arity: 1, flops: 1, f: roundBf16, d: (_x, _y, dy) => [dy] },
  round_f16: { arity: 1, flops: 1, f: roundF16, d: (_x, _y, dy) => [dy] },
} satisfies Record<string, Scalar>;

export type ScalarName = keyof typeof scalars;

/** The shape that all broadcast to, aligned at the last axis. */
export function broadcastShapes(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((n) =>
      n !== 1
    );
    expect(sizes.every((n) => n === sizes[0]), "shapes do not broadcast");
    return sizes[0] ?? 1;
  });
}

/** Element strides with which `shape` is read when it is broadcast to `to`; 0 where it repeats. */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const strides = new Array<number>(to.length).fill(0);
  for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) {
    if (shape[axis] !== 1) strides[axis + to.length - shape.length] = step;
  }
  return strides;
}

/** Calls `visit(offset of each operand, linear index)` for each element of `shape`. */
export function forEachStrided(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (offsets: readonly number[], index: number) => void,
): void {
  const size = sizeOf(shape), at = new Array<number>(shape.length).fill(0);
  const offsets = strides.map(() => 0);
  for (let index = 0; index < size; index++) {
    visit(offsets, index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis]++;
      strides.forEach((stride, i) => offsets[i] += stride[axis]);
      if (at[axis] < shape[axis]) break;
      strides.forEach((stride, i) => offsets[i] -= stride[axis] * shape[axis]);
      at[axis] = 0;
    }
  }
}

/** An op that the fuser may merge with its neighbours. */
export interface ElementwiseOp extends Kernel {
  readonly scalar: ScalarName;
}

export function isElementwise(op: Op): op is ElementwiseOp {
  return "scalar" in op;
}

function elementwiseOp(scalar: ScalarName): ElementwiseOp {
  const { arity, flops, f, d }: Scalar = scalars[scalar];
  const op: ElementwiseOp = defineOp<ElementwiseOp>({
    scalar,
    cheap: true,
    name: scalar,
    check(inputs: readonly Spec[]) {
      expect(
        inputs.length === arity && inputs.every((x) => isFloat(x.dtype)),
        `takes ${arity} float tensors`,
      );
      return [{ shape: broadcastShapes(inputs.map((x) => x.shape)), dtype: "f32" as Dtype }];
    },
    reference(
      inputs: readonly Numbers[],
      [out]: readonly Numbers[],
      { inputs: specs, outputs }: OpContext,
    ) {
      const { shape } = outputs[0], x = new Array<number>(arity);
      forEachStrided(shape, specs.map((s) => broadcastStrides(s.shape, shape)), (offsets, i) => {
        for (let k = 0; k < arity; k++) x[k] = inputs[k][offsets[k]];
        out[i] = f(...x);
      });
    },
    vjp(
      inputs: readonly Tensor[],
      [y]: readonly Tensor[],
      [dy]: readonly (Tensor | undefined)[],
    ) {
      const found = d?.(inputs, y, dy!) ?? inputs.map(() => undefined);
      return inputs.map((x, i) => found[i] && sumTo(found[i], x.shape));
    },
    cost: ({ inputs, outputs }: OpContext) => {
      const n = sizeOf(outputs[0].shape);
      return {
        flops: flops * n,
        bytes: 4 * (n + inputs.reduce((sum, x) => sum + sizeOf(x.shape), 0)),
      };
    },
    wasm: (node, target) => programWasm(programOf(op, node), node, target),
  });
  return op;
}

export const elementwiseOps = Object.fromEntries(
  (Object.keys(scalars) as ScalarName[]).map((name) => [name, elementwiseOp(name)]),
) as Record<ScalarName, ElementwiseOp>;

/** A tensor of one value; costs no memory when it is only an operand of element-wise work. */
export function fill(shape: readonly number[], value: number): Tensor {
  return apply(fillOp, [], { shape: [...shape], value })[0];
}

export const fillOp: Op = {
  name: "fill",
  constant: true,
  check: (_: readonly Spec[], { shape }: Attrs) => [{ shape: shape as number[], dtype: "f32" }],
  reference: (_, [out], { attrs }) => void out.fill(attrs.value as number),
};

const lift = (x: Value): Tensor => typeof x === "number" ? fill([], x) : x;
const call = (name: ScalarName, ...x: Value[]): Tensor =>
  apply(elementwiseOps[name], x.map(lift))[0];

/** Another storage type; values are rounded to nearest even. Gradients pass through. */
export function cast(x: Tensor, dtype: "f32" | "bf16" | "f16"): Tensor {
  return x.dtype === dtype ? x : apply(castOp, [x], { dtype })[0];
}

/** x as bf16, and its cotangent, too. */
export function halved(x: Tensor): Tensor {
  return apply(castOp, [x], { dtype: "bf16", cotangent: "bf16" })[0];
}

export const castOp: Kernel = {
  name: "cast",
  cheap: true,
  check([x]: readonly Spec[], { dtype }: Attrs) {
    expect(x && isFloat(x.dtype), "takes a float tensor");
    return [{ shape: x.shape, dtype: dtype as Dtype }];
  },
  reference: ([x], [out]) => void out.set(x),
  vjp: (_x, _y, [dy], { cotangent }) => [cotangent === "bf16" ? cast(dy!, "bf16") : dy],
  cost: ({ inputs: [x] }) => ({ flops: sizeOf(x.shape), bytes: 8 * sizeOf(x.shape) }),
  wasm: (node, target) => programWasm(programOf(castOp, node), node, target),
};

/** x repeated to `shape` by broadcasting. */
export function expand(x: Tensor, shape: readonly number[]): Tensor {
  return x.shape.join() === shape.join() ? x : apply(expandOp, [x], { shape: [...shape] })[0];
}

export const expandOp: Kernel = {
  name: "expand",
  cheap: true,
  check([x]: readonly Spec[], attrs: Attrs) {
    const shape = attrs.shape as number[];
    expect(isFloat(x.dtype), "takes a float tensor");
    expect(
      broadcastShapes([x.shape, shape]).join() === shape.join(),
      `cannot be repeated to [${shape}]`,
    );
    return [{ shape, dtype: "f32" }];
  },
  reference([x], [out], { inputs, outputs: [{ shape }] }) {
    forEachStrided(
      shape,
      [broadcastStrides(inputs[0].shape, shape)],
      ([from], i) => out[i] = x[from],
    );
  },
  vjp: ([x], _y, [dy]) => [sumTo(dy!, x.shape)],
  wasm: (node, target) => programWasm(programOf(expandOp, node), node, target),
};

const unary = (name: ScalarName) => (x: Value): Tensor => call(name, x);
const binary = (name: ScalarName) => (a: Value, b: Value): Tensor => call(name, a, b);

export const add = binary("add");
export const sub = binary("sub");
export const mul = binary("mul");
export const div = binary("div");
export const maximum = binary("max");
export const minimum = binary("min");
/** 1 where a < b, else 0. */
export const less = binary("less");
export const equal = binary("equal");
export const neg = unary("neg");
export const abs = unary("abs");
export const sign = unary("sign");
export const floor = unary("floor");
export const roundEvenOf = unary("round_even");
export const square = unary("square");
export const reciprocal = unary("reciprocal");
export const sqrt = unary("sqrt");
export const rsqrt = unary("rsqrt");
export const exp = unary("exp");
export const log = unary("log");
export const sin = unary("sin");
export const cos = unary("cos");
export const tanh = unary("tanh");
export const erfOf = unary("erf");
export const sigmoid = unary("sigmoid");
export const softplus = unary("softplus");
export const relu = unary("relu");
export const silu = unary("silu");
/** GELU with erf; `geluTanh` is the other form. */
export const gelu = unary("gelu");
export const geluTanh = unary("gelu_tanh");

/** `yes` where the condition is not zero, else `no`. */
export function where(condition: Value, yes: Value, no: Value): Tensor {
  return call("where", condition, yes, no);
}
