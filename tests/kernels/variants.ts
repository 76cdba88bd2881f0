/**
 * Every way that an op can run on the WebGPU device against the op's own loop in double precision.
 * Errors are told relative to the largest expected value of an output: sums of f32 products lose
 * digits against their largest terms, not against their result.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  apply,
  type Attrs,
  normals,
  type Op,
  type OpContext,
  placeholder,
  roundTo,
  sizeOf,
  type Spec,
} from "../../core/graph/mod.ts";
import type { WebgpuDevice } from "../../core/device/webgpu/mod.ts";
import type { GpuKernel } from "../../kernels/lowering.ts";
import { runGraph } from "../support_device.ts";

/** A node with values for its inputs. */
export interface Case {
  readonly op: Op;
  readonly inputs: readonly Spec[];
  readonly attrs: Attrs;
  readonly values: readonly ArrayLike<number>[];
}

export const f32 = (...shape: number[]): Spec => ({ shape, dtype: "f32" });
export const i32 = (...shape: number[]): Spec => ({ shape, dtype: "i32" });

/**
 * Normal numbers for float inputs, rounded to what they are stored as; others must be given, by
 * index.
 */
export function caseOf(
  op: Op,
  inputs: readonly Spec[],
  attrs: Attrs,
  given: Readonly<Record<number, ArrayLike<number>>> = {},
): Case {
  const values = inputs.map(({ shape, dtype }, i) => {
    const numbers = given[i] ?? normals(i, "case", sizeOf(shape));
    const rounded = Float64Array.from(numbers);
    roundTo(dtype, rounded);
    return rounded;
  });
  return { op, inputs, attrs, values };
}

export function contextOf({ op, inputs, attrs }: Case): OpContext {
  return { inputs, attrs, outputs: op.check(inputs, attrs) };
}

/** What the op's loop yields in double precision. */
export function expected(given: Case): Float64Array[] {
  const context = contextOf(given);
  const outputs = context.outputs.map(({ shape }) => new Float64Array(sizeOf(shape)));
  given.op.reference(given.values.map((x) => Float64Array.from(x)), outputs, context);
  return outputs;
}

/** The outputs of the case as `kernel` computes them. */
export async function runKernel(device: WebgpuDevice, kernel: GpuKernel, given: Case) {
  const inputs = given.inputs.map((spec, i) => placeholder(spec, `x${i}`, "upload"));
  const op = { ...given.op, kernels: [kernel] };
  const outputs = apply(op, inputs, given.attrs);
  return await runGraph(
    device,
    outputs,
    new Map(inputs.map((tensor, i) => [tensor, given.values[i]])),
  );
}

/**
 * Runs the case with every kernel that the device can run; each output must be within its
 * tolerance.
 */
export async function checkVariants(
  device: WebgpuDevice,
  kernels: readonly GpuKernel[],
  given: Case,
  tolerance: number | readonly number[],
): Promise<void> {
  const wanted = expected(given), context = contextOf(given);
  const { limits } = device.target;
  const able = kernels.filter(({ when }) => when?.(context, limits) ?? true);
  assert.ok(able.length > 0, "no kernel takes the case");
  for (const kernel of able) {
    const outputs = await runKernel(device, kernel, given);
    outputs.forEach((output, i) => {
      const allowed = typeof tolerance === "number" ? tolerance : tolerance[i];
      const error = relativeError(output, wanted[i]);
      const shapes = given.inputs.map(({ shape, dtype }) => `${dtype}[${shape}]`).join(" ");
      assert.ok(
        error <= allowed,
        `${given.op.name} (${kernel.name}) of ${shapes} ${
          JSON.stringify(given.attrs)
        }: output ${i} is off by ${error}, more than ${allowed}`,
      );
    });
  }
}

/** Largest difference over the largest expected size; infinite where something is not a number. */
export function relativeError(actual: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let worst = 0, largest = 0;
  for (let i = 0; i < wanted.length; i++) {
    const error = Math.abs(actual[i] - wanted[i]);
    if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
    largest = Math.max(largest, Math.abs(wanted[i]));
  }
  return largest > 0 ? worst / largest : worst;
}
