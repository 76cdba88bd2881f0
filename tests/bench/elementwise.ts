/**
 * Element-wise chains and row kernels on one core: ours in WASM against plain TypeScript loops,
 * taking turns in one run.
 *
 *     deno run -A tests/bench/elementwise.ts
 */

import { spec } from "../../core/graph/tensor.ts";
import {
  adamWOp,
  fusedOp,
  type FusedProgram,
  type FusedStep,
  type Kernel,
  rmsNormGradOp,
  rmsNormOp,
  type ScalarName,
  scalars,
} from "../../kernels/mod.ts";
import { denseStrides } from "../../kernels/layout.ts";
import { load, type Loaded, type Sample, sample } from "../kernels/wasm/harness.ts";
import { interleave, timed } from "./interleave.ts";

export interface ElementwiseRow {
  readonly name: string;
  /** Nanoseconds an element, median. */
  readonly wasm: number;
  readonly loop: number;
}

interface Case {
  readonly name: string;
  readonly op: Kernel;
  readonly attrs: Record<string, unknown>;
  readonly inputs: readonly Sample[];
  /** The same, as one would write it. */
  readonly loop: (inputs: readonly Float32Array[], out: Float32Array) => void;
}

const rows = 1024, width = 256, size = rows * width, shape = [rows, width];

function chain(
  steps: FusedStep[],
  reads: number,
): { op: Kernel; attrs: { program: FusedProgram } } {
  const program: FusedProgram = {
    shape,
    accesses: Array.from({ length: reads }, () => ({ strides: denseStrides(shape), offset: 0 })),
    steps,
    outputs: [{ value: steps.length - 1, extent: "element", spec: spec(shape) }],
  };
  return { op: fusedOp, attrs: { program } };
}

const read = (n: number): FusedStep => ({ op: "input", input: n });
const dense = (count: number) => Array.from({ length: count }, (_, n) => sample(shape, n + 1));

function lone(name: ScalarName): Case {
  const f = scalars[name].f as (x: number) => number;
  return {
    name,
    ...chain([read(0), { op: name, args: [0] }], 1),
    inputs: dense(1),
    loop: ([x], out) => {
      for (let i = 0; i < size; i++) out[i] = f(x[i]);
    },
  };
}

function softmax([x]: readonly Float32Array[], out: Float32Array): void {
  for (let row = 0; row < size; row += width) {
    let top = -Infinity, sum = 0;
    for (let i = row; i < row + width; i++) top = Math.max(top, x[i]);
    for (let i = row; i < row + width; i++) sum += out[i] = Math.exp(x[i] - top);
    for (let i = row; i < row + width; i++) out[i] /= sum;
  }
}

const eps = 1e-6;

function rmsNorm([x, gain]: readonly Float32Array[], out: Float32Array): void {
  for (let row = 0; row < size; row += width) {
    let sum = 0;
    for (let i = row; i < row + width; i++) sum += x[i] * x[i];
    const inverse = 1 / Math.sqrt(sum / width + eps);
    for (let i = 0; i < width; i++) out[row + i] = x[row + i] * inverse * gain[i];
  }
}

const slopes = new Float32Array(width);

function rmsNormGrad([x, dy, gain]: readonly Float32Array[], out: Float32Array): void {
  slopes.fill(0);
  for (let row = 0; row < size; row += width) {
    let squares = 0, dot = 0;
    for (let i = 0; i < width; i++) {
      squares += x[row + i] * x[row + i];
      dot += x[row + i] * dy[row + i] * gain[i];
    }
    const inverse = 1 / Math.sqrt(squares / width + eps), pull = dot * inverse ** 3 / width;
    for (let i = 0; i < width; i++) {
      out[row + i] = dy[row + i] * gain[i] * inverse - x[row + i] * pull;
      slopes[i] += dy[row + i] * x[row + i] * inverse;
    }
  }
}

const adam = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
const hyper = [1e-3, 0.1, 0.05, 0.9, 0.1, 0.95, 0.05, 0.1];

function adamW(inputs: readonly Float32Array[]): void {
  const [param, grad, m, v, [lr, c1, c2], [scale]] = inputs, { beta1, beta2 } = adam;
  for (let i = 0; i < size; i++) {
    const g = grad[i] * scale;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    const step = lr / c1 * m[i] / (Math.sqrt(v[i]) / Math.sqrt(c2) + adam.eps);
    param[i] = param[i] * (1 - lr * adam.weight_decay) - step;
  }
}

const vector = (...values: number[]): Sample => ({
  ...spec([values.length]),
  values: Float64Array.from(values),
});
const positive = (x: Sample): Sample => ({ ...x, values: x.values.map(Math.abs) });

export const cases: readonly Case[] = [
  {
    name: "x*y+1",
    ...chain([
      read(0),
      read(1),
      { op: "mul", args: [0, 1] },
      { op: "constant", value: 1 },
      { op: "add", args: [2, 3] },
    ], 2),
    inputs: dense(2),
    loop: ([x, y], out) => {
      for (let i = 0; i < size; i++) out[i] = x[i] * y[i] + 1;
    },
  },
  ...(["exp", "log", "sin", "tanh", "erf", "softplus", "gelu", "gelu_tanh"] as const).map(lone),
  {
    name: "silu(g)*u",
    ...chain([
      read(0),
      read(1),
      { op: "silu", args: [0] },
      { op: "mul", args: [2, 1] },
    ], 2),
    inputs: dense(2),
    loop: ([g, u], out) => {
      for (let i = 0; i < size; i++) out[i] = g[i] / (1 + Math.exp(-g[i])) * u[i];
    },
  },
  {
    name: "softmax, rows of 256",
    ...chain([
      read(0),
      { op: "reduce_max", args: [0] },
      { op: "sub", args: [0, 1] },
      { op: "exp", args: [2] },
      { op: "reduce_sum", args: [3] },
      { op: "div", args: [3, 4] },
    ], 1),
    inputs: dense(1),
    loop: softmax,
  },
  {
    name: "RMSNorm",
    op: rmsNormOp,
    attrs: { eps },
    inputs: [...dense(1), sample([width], 9)],
    loop: rmsNorm,
  },
  {
    name: "RMSNorm backward",
    op: rmsNormGradOp,
    attrs: { eps },
    inputs: [...dense(2), sample([width], 9)],
    loop: rmsNormGrad,
  },
  {
    name: "AdamW",
    // The harness restores what is written in place before each run; here each output has its own
    // place.
    op: { ...adamWOp, inplace: undefined },
    attrs: { eps: adam.eps, decay: 0 },
    inputs: [...dense(3), positive(sample(shape, 4)), vector(...hyper), vector(0.5, 1)],
    loop: adamW,
  },
];

export async function benchElementwise(rounds = 25): Promise<ElementwiseRow[]> {
  const contenders: Record<string, ReturnType<typeof timed>> = {};
  for (const { name, op, attrs, inputs, loop } of cases) {
    const ours: Loaded = load(op, inputs, attrs)!;
    const values = inputs.map((x) => Float32Array.from(x.values)), out = new Float32Array(size);
    contenders[`${name} wasm`] = timed(() => ours.run());
    contenders[`${name} loop`] = timed(() => loop(values, out));
  }
  const timings = await interleave(contenders, { rounds, warmMs: 100 });
  const perElement = (name: string) => timings[name]!.median * 1e6 / size;
  return cases.map(({ name }) => ({
    name,
    wasm: perElement(`${name} wasm`),
    loop: perElement(`${name} loop`),
  }));
}

if (import.meta.main) {
  console.log("ns an element (median)    wasm     loop   loop/wasm");
  for (const { name, wasm, loop } of await benchElementwise()) {
    const cells = [wasm.toFixed(2).padStart(8), loop.toFixed(2).padStart(8)];
    console.log(name.padEnd(21), ...cells, (loop / wasm).toFixed(1).padStart(10));
  }
}
