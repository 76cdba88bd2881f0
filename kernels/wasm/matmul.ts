/** Matrix products on the cpu device, and what the planner has fused into their store. */

import { type OpContext, sizeOf, type Spec } from "../../core/graph/tensor.ts";
import type { FusedProgram } from "../fused.ts";
import { denseStrides } from "../layout.ts";
import {
  bytesPerElement,
  type CpuJob,
  type CpuLowering,
  type CpuTarget,
  input,
  type Operand,
  output,
  scratch,
} from "../lowering.ts";
import { type MatmulAttrs, matmulSizes } from "../matmul.ts";
import { storedAs } from "./elements.ts";
import { castJobs, fusedJobs } from "./fused.ts";
import type { Dense, Stored } from "./panels.ts";
import { type Matrix, type Product, productJobs } from "./product.ts";

function matrixOf({ shape, dtype }: Spec, at: Operand, dense: Dense): Matrix {
  const bytes = bytesPerElement(dtype), [rows, columns] = shape.slice(-2);
  return {
    at,
    stored: dtype as Stored,
    dense,
    stride: columns * bytes,
    batchStride: rows * columns * bytes,
  };
}

export function matmulWasm(node: OpContext, target: CpuTarget): CpuLowering | undefined {
  const { inputs, outputs, attrs } = node,
    { transA, transB, epilogue } = attrs as unknown as MatmulAttrs;
  const { batch, m, n, k } = matmulSizes(inputs, attrs);
  if (batch * m * n * k === 0) return undefined;
  if (inputs.slice(0, 2).some(({ dtype }) => dtype !== "f32" && dtype !== "bf16")) return undefined;
  const a = matrixOf(inputs[0], input(0), transA ? "outer" : "k");
  const b = matrixOf(inputs[1], input(1), transB ? "k" : "outer");
  const product = { batch, m, n, k, a, b };
  const halves = [...inputs.slice(0, 2), ...(epilogue ? [] : outputs)]
    .some(({ dtype }) => dtype === "bf16");
  const widened = target.blas && halves ? byWidening(node, target) : undefined;
  if (widened) return widened;
  const stored = storedAs(node.outputs[0].dtype);
  if (!epilogue) {
    if (!stored) return undefined;
    return productJobs({ ...product, c: { at: output(0), stored } }, scratch(0), target);
  }
  return withEpilogue(product, epilogue, node, target);
}

/**
 * A BLAS knows f32 alone: halves are widened into scratch before it, and made after it. `undefined`
 * where none would be asked.
 */
function byWidening(
  { inputs, outputs, attrs }: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  const { epilogue } = attrs as unknown as MatmulAttrs, sizes: number[] = [];
  const before: CpuJob[] = [], after: CpuJob[] = [];
  const room = (spec: Spec) => scratch(sizes.push(4 * sizeOf(spec.shape)) - 1);
  const operands = inputs.map((spec, i): Operand => {
    if (i > 1 || spec.dtype !== "bf16") return input(i);
    const wide = room(spec);
    before.push(...castJobs(spec, "f32", [input(i), wide], target));
    return wide;
  });
  const [result] = outputs, isHalf = !epilogue && result.dtype === "bf16";
  const wide = isHalf ? room(result) : output(0);
  if (isHalf) {
    after.push(...castJobs({ ...result, dtype: "f32" }, "bf16", [wide, output(0)], target));
  }
  const made = matmulWasm({
    inputs: inputs.map((spec, i) => i > 1 ? spec : { ...spec, dtype: "f32" }),
    outputs: isHalf ? [{ ...result, dtype: "f32" }] : outputs,
    attrs,
  }, target);
  if (!made?.jobs.some((job) => "gemm" in job)) return undefined;
  const placed = (at: Operand): Operand => {
    if (at.from === "scratch") return scratch(at.index + sizes.length);
    if (at.from === "input") return operands[at.index];
    return isHalf ? wide : at;
  };
  return {
    jobs: [...before, ...made.jobs.map((job) => moved(job, placed)), ...after],
    scratchBytes: [...sizes, ...made.scratchBytes ?? []],
    memberBytes: made.memberBytes ?? 0,
  };
}

/** A job with its operands elsewhere. */
function moved(job: CpuJob, placed: (at: Operand) => Operand): CpuJob {
  if ("gemm" in job) return { ...job, a: placed(job.a), b: placed(job.b), c: placed(job.c) };
  const args = job.args.map((arg) => typeof arg === "object" && "from" in arg ? placed(arg) : arg);
  return { ...job, args };
}

/**
 * The product, then the program over it. Where the program allows, the product is put where one of
 * its outputs will be and changed in place; else into scratch.
 */
function withEpilogue(
  product: Omit<Product, "c">,
  program: FusedProgram,
  { inputs, outputs }: OpContext,
  target: CpuTarget,
): CpuLowering | undefined {
  const { batch, m, n } = product, place = placeInOutputs(program);
  const at = place === undefined ? scratch(0) : output(place);
  const own = place === undefined ? [4 * batch * m * n] : [];
  const fused = fusedJobs(
    program,
    [at, ...inputs.slice(2).map((_, i) => input(i + 2))],
    outputs.map((_, i) => output(i)),
    [{ shape: [batch, m, n], dtype: "f32" }, ...inputs.slice(2)],
    target,
  );
  if (!fused) return undefined;
  const made = productJobs({ ...product, c: { at } }, scratch(own.length), target);
  return {
    jobs: [...made.jobs, ...fused.jobs],
    scratchBytes: [...own, ...made.scratchBytes ?? []],
    memberBytes: Math.max(made.memberBytes ?? 0, fused.memberBytes),
  };
}

/**
 * The output whose storage the product may use: all of it is written, and each element only after
 * it was read.
 */
function placeInOutputs({ shape, accesses, steps, outputs }: FusedProgram): number | undefined {
  const [product] = accesses, size = sizeOf(shape);
  const reduces = steps.some(({ op }) => op === "reduce_sum" || op === "reduce_max");
  const dense = denseStrides(shape);
  const inOrder = shape.every((n, axis) => n === 1 || product.strides[axis] === dense[axis]);
  if (reduces || product.offset !== 0 || !inOrder) return undefined;
  const found = outputs.findIndex(({ extent, spec }) =>
    extent === "element" && spec.dtype === "f32" && sizeOf(spec.shape) === size
  );
  return found < 0 ? undefined : found;
}
