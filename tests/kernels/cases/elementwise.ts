/** Samples of every scalar function. */

import * as k from "../../../kernels/mod.ts";
import { type Case, f32, list, normal, ONE, positive, spread, type Values } from "./case.ts";

export const ranges: Partial<Record<k.ScalarName, Values[]>> = {
  div: [normal, positive],
  sqrt: [positive],
  rsqrt: [positive],
  reciprocal: [positive],
  log: [spread(1e-3, 8)],
  exp: [spread(-12, 4)],
  sin: [spread(-40, 40)],
  cos: [spread(-40, 40)],
  tanh: [spread(-12, 12)],
  sigmoid: [spread(-30, 30)],
  softplus: [spread(-30, 30)],
  erf: [spread(-5, 5)],
  gelu: [spread(-8, 8)],
  gelu_tanh: [spread(-8, 8)],
  silu: [spread(-20, 20)],
  less: [list(1, 2, 3, -1), list(2, 2, -1)],
  equal: [list(1, 2, 3, -1), list(2, 2, -1)],
  where: [list(0, 1, -2), normal, normal],
  round_even: [list(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, -0.51, 8388609, 1e9, -3, 0)],
  round_f16: [list(1, 0.1, -3.14159, 6.1e-5, 3e-8, 9.1e-8, 65519, 65520, -70000, 1e-9, 0)],
  round_bf16: [list(1, 0.1, -3.14159, 1.00390625, 1.01171875, 1e30, -1e-30, 0)],
};
const roughScalars = new Set<k.ScalarName>([
  "less",
  "equal",
  "floor",
  "round_even",
  "sign",
  "round_bf16",
  "round_f16",
  "where",
]);

export const elementwise: Case[] = (Object.keys(k.scalars) as k.ScalarName[]).flatMap((name) => {
  const { arity } = k.scalars[name], values = ranges[name] ?? [];
  const shapes = arity === 1 ? [[[3, 65]]] : [
    Array.from({ length: arity }, () => [3, 17]),
    [[5, 1, 3], [4, 1], [3]].slice(0, arity),
  ];
  return shapes.map((inputs, variant) => ({
    name: `${name}${variant === 0 ? "" : ", broadcast"}`,
    op: k.elementwiseOps[name],
    attrs: {},
    inputs: inputs.map((shape, i) => f32(shape, values[i] ?? normal)),
    tolerance: ONE,
    rough: roughScalars.has(name),
  }));
});
