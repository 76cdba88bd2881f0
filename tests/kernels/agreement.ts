/**
 * Does a device agree with the plain loops on the table of cases?
 *
 * @module
 */

import { apply, interpret, placeholder, type Tensor } from "../../core/graph/mod.ts";
import { compareValues } from "../../core/inspect/compare.ts";
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
    const { fault } = compareValues(actual[i], expected[i], { tolerance, dtype: out.dtype });
    return fault ? [`${name}: ${fault}`] : [];
  });
}
