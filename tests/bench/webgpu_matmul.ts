/**
 * Matrix products on the GPU, every kernel: squares, the shapes of a training step and of decoding.
 *
 *     deno run -A tests/bench/webgpu_matmul.ts [--json] [substring of a shape's name]
 *
 * A software adapter gets one small square.
 */

import type { Dtype } from "../../core/graph/mod.ts";
import { openWebgpu, type WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import { matmulOp } from "../../kernels/matmul.ts";
import { fewRows } from "../../kernels/webgpu/gemm.ts";
import { matmulKernels } from "../../kernels/webgpu/matmul.ts";
import { timeNode } from "./webgpu_timing.ts";

interface Shape {
  readonly name: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly dtype?: Dtype;
}

const formsOf = (name: string, m: number, n: number, k: number): Shape[] => [
  { name: `${name} NN`, m, n, k, transA: false, transB: false },
  { name: `${name} NT`, m, n, k, transA: false, transB: true },
  { name: `${name} TN`, m, n, k, transA: true, transB: false },
];
const squares = (...sizes: number[]) => sizes.flatMap((n) => formsOf(`square ${n}`, n, n, n));

/** y = x Wᵀ, dx = dy W, dW = dyᵀ x */
const linearOf = (name: string, rows: number, out: number, width: number): Shape[] => [
  { name: `${name} forward`, m: rows, n: out, k: width, transA: false, transB: true },
  { name: `${name} dx`, m: rows, n: width, k: out, transA: false, transB: false },
  { name: `${name} dW`, m: out, n: width, k: rows, transA: true, transB: false },
];

const gpuShapes: Shape[] = [
  ...squares(512, 1024, 2048, 4096),
  ...linearOf("qkv, 8192 tokens", 8192, 2304, 768),
  ...linearOf("mlp, 8192 tokens", 8192, 2048, 768),
  ...linearOf("head chunk", 256, 50_304, 768),
  ...[1, 8].flatMap((rows): Shape[] => [
    { name: `decode ${rows} mlp`, m: rows, n: 2048, k: 768, transA: false, transB: true },
    { name: `decode ${rows} head`, m: rows, n: 50_304, k: 768, transA: false, transB: true },
    { name: `decode ${rows} NN`, m: rows, n: 2048, k: 768, transA: false, transB: false },
    {
      name: `decode ${rows} head bf16`,
      m: rows,
      n: 50_304,
      k: 768,
      transA: false,
      transB: true,
      dtype: "bf16",
    },
  ]),
];

export interface Row {
  readonly shape: string;
  readonly sizes: string;
  readonly kernel: string;
  readonly ms: number;
  readonly gflops: number;
  /** Of operands and result, each once. */
  readonly gbs: number;
}

/** Leaves out what can only be slow, so that all is done in half a minute. */
function worthwhile(kernel: string, { m, n, k, transA }: Shape): boolean {
  const work = m * n * k;
  if (kernel === "by_shape") return true;
  if (m <= fewRows) return /rows|32/.test(kernel);
  if (kernel === "rows") return false;
  if (kernel === "plain" || kernel.endsWith("32")) return work <= 2 ** 27;
  if (kernel.startsWith("split")) return transA || k > 8192 || work <= 2 ** 30;
  return true;
}

async function measure(device: WebgpuDevice, shape: Shape): Promise<Row[]> {
  const { name, m, n, k, transA, transB, dtype = "f32" } = shape;
  const inputs = [
    { shape: transA ? [k, m] : [m, k], dtype: "f32" as Dtype },
    { shape: transB ? [n, k] : [k, n], dtype },
  ];
  const attrs = { transA, transB }, outputs = matmulOp.check(inputs, attrs);
  const { flops, bytes } = matmulOp.cost!({ inputs, outputs, attrs });
  const rows: Row[] = [];
  for (const kernel of matmulKernels) {
    if (!(kernel.when?.({ inputs, outputs, attrs }, device.target.limits) ?? true)) continue;
    if (!worthwhile(kernel.name, shape)) continue;
    const ms = await timeNode(device, { op: matmulOp, inputs, outputs, attrs }, kernel);
    const [gflops, gbs] = [flops, bytes].map((x) => x / ms / 1e6);
    rows.push({ shape: name, sizes: `${m}×${n}×${k}`, kernel: kernel.name, ms, gflops, gbs });
  }
  return rows;
}

export function format({ shape, sizes, kernel, ms, gflops, gbs }: Row): string {
  return [
    shape.padEnd(24),
    sizes.padEnd(18),
    kernel.padEnd(10),
    `${ms.toFixed(3)} ms`.padStart(12),
    `${gflops.toFixed(gflops < 100 ? 1 : 0)} GFLOP/s`.padStart(16),
    `${gbs.toFixed(1)} GB/s`.padStart(14),
  ].join(" ");
}

if (import.meta.main) {
  await using device = await openWebgpu();
  const json = Deno.args.includes("--json"), filter = Deno.args.find((arg) => !arg.startsWith("-"));
  console.error(device.info.name);
  const shapes = device.software ? squares(256) : gpuShapes;
  for (const shape of shapes.filter(({ name }) => name.includes(filter ?? ""))) {
    for (const row of await measure(device, shape)) {
      console.log(json ? JSON.stringify(row) : format(row));
    }
  }
}
