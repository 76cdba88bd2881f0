/**
 * What both devices do with a run's inputs: check them, compute host ops, and hand each upload out
 * as numbers.
 */

import { allocateNumbers, type Numbers, sizeOf } from "../graph/mod.ts";
import type { Plan } from "../plan/types.ts";
import { describeSpec } from "./types.ts";

/** The values of all uploads of a plan, in its order. */
export function prepareUploads(
  plan: Plan,
  inputs: Readonly<Record<string, ArrayLike<number> | number>>,
): ArrayLike<number>[] {
  const made = new Set(plan.host.flatMap(({ outputs }) => outputs));
  const values: ArrayLike<number>[] = plan.uploads.map((upload, i) => {
    if (made.has(i)) return allocateNumbers(upload.dtype, sizeOf(upload.shape));
    const given = inputs[upload.name], value = typeof given === "number" ? [given] : given;
    if (value === undefined) {
      throw new Error(`the run needs an input ${upload.name}, ${describeSpec(upload)}`);
    }
    if (value.length !== sizeOf(upload.shape)) {
      throw new Error(
        `input ${upload.name} has ${value.length} values, but ${describeSpec(upload)} needs ${
          sizeOf(upload.shape)
        }`,
      );
    }
    return value;
  });
  for (const name of Object.keys(inputs)) {
    if (!plan.uploads.some((upload) => upload.name === name)) {
      throw new Error(`the run has no input ${name}`);
    }
  }
  for (const { op, context, inputs: from, outputs: to } of plan.host) {
    op.reference(
      from.map((i) => typed(plan, i, values[i])),
      to.map((i) => values[i] as Numbers),
      context,
    );
  }
  return values;
}

function typed(plan: Plan, index: number, values: ArrayLike<number>): Numbers {
  if (ArrayBuffer.isView(values)) return values as unknown as Numbers;
  const numbers = allocateNumbers(plan.uploads[index].dtype, values.length);
  numbers.set(values as never);
  return numbers;
}
