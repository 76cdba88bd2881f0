/**
 * Does a device agree with the plain loops on the table of cases?
 *
 * @module
 */

import { apply, type Dtype, interpret, placeholder, type Tensor } from "../../core/graph/mod.ts";
import type { Device } from "../../core/device/types.ts";
import type { Target } from "../../core/plan/types.ts";
import { runGraph } from "../support_device.ts";
import { type Case, valuesOf } from "./cases.ts";

/**
 * One line for each output of the cases that is not what the loops say. All cases run as one plan.
 */
export async function disagreements(
  device: Device,
  cases: readonly Case[],
  target: Target = device.target,
): Promise<string[]> {
  const inputs = new Map<Tensor, ArrayLike<number>>(),
    results: { name: string; tolerance: number; out: Tensor }[] = [];
  for (const sample of cases) {
    const values = valuesOf(sample);
    const operands = sample.inputs.map(({ shape, dtype }, i) => {
      const tensor = placeholder({ shape, dtype }, `${sample.name}.${i}`, "upload");
      inputs.set(tensor, values[i]);
      return tensor;
    });
    apply(sample.op, operands, sample.attrs).forEach((out, i) =>
      results.push({ name: `${sample.name} (output ${i})`, tolerance: sample.tolerance, out })
    );
  }
  const outputs = results.map(({ out }) => out);
  const actual = await runGraph(device, outputs, inputs, target);
  const expected = interpret(outputs, inputs, { precision: "f64" });
  return results.flatMap(({ name, tolerance, out }, i) => {
    const fault = firstFault(actual[i], expected[i], { tolerance, dtype: out.dtype });
    return fault ? [`${name}: ${fault}`] : [];
  });
}

// One unit of the last place, as both sides round and may stand on either side of a middle.
const unit: Record<Dtype, number> = { f32: 1.2e-7, bf16: 1 / 128, f16: 1 / 1024, i32: 0, u32: 0 };

function firstFault(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { tolerance, dtype }: { tolerance: number; dtype: Dtype },
): string | undefined {
  if (actual.length !== expected.length) return `${actual.length} values, not ${expected.length}`;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i], b = dtype === "f32" ? Math.fround(expected[i]) : expected[i];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    if (dtype === "f16" && Math.f16round(b) === a) continue; // infinity, and what is too small
    const allowed = tolerance * Math.max(1, Math.abs(b)) + unit[dtype] * Math.abs(b);
    if (!(Math.abs(a - b) <= allowed)) return `element ${i} is ${a}, not ${b}`;
  }
  return undefined;
}
