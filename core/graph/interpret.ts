/**
 * Evaluates a graph with the ops' plain loops: the oracle of every test, in f32 or, for slopes, in
 * f64.
 */

import { type Dtype, type Numbers, sizeOf, type Tensor } from "./tensor.ts";
import { nodesOf } from "./trace.ts";
import { roundBf16, roundF16 } from "./halves.ts";

export interface InterpretOptions {
  /** Storage of float tensors. `f64` also keeps bf16 and f16 tensors unrounded. */
  readonly precision?: "f32" | "f64";
}

/** Room for a tensor's values as plain numbers (halves are held widened). */
export function allocateNumbers(
  dtype: Dtype,
  size: number,
  precision: "f32" | "f64" = "f32",
): Numbers {
  if (dtype === "i32") return new Int32Array(size);
  if (dtype === "u32") return new Uint32Array(size);
  return precision === "f64" ? new Float64Array(size) : new Float32Array(size);
}

/** Values of `outputs`, given the values of the placeholders that they depend on. */
export function interpret(
  outputs: readonly Tensor[],
  inputs: ReadonlyMap<Tensor, ArrayLike<number>>,
  { precision = "f32" }: InterpretOptions = {},
): Numbers[] {
  const values = new Map<Tensor, Numbers>();
  for (const node of nodesOf(outputs)) {
    for (const out of node.outputs) {
      values.set(out, allocateNumbers(out.dtype, sizeOf(out.shape), precision));
    }
    if (node.op.placeholder) {
      const given = inputs.get(node.outputs[0]);
      if (!given) throw new Error(`no value was given for input ${node.attrs.name}`);
      values.get(node.outputs[0])!.set(given as ArrayLike<number> & Numbers);
      continue;
    }
    const results = node.outputs.map((out) => values.get(out)!);
    node.op.reference(node.inputs.map((input) => values.get(input)!), results, node);
    if (precision === "f32") node.outputs.forEach((out, i) => roundTo(out.dtype, results[i]));
  }
  return outputs.map((out) => values.get(out)!);
}

/** Rounds in place to what the storage type can hold. */
export function roundTo(dtype: Dtype, values: Numbers): void {
  const round = dtype === "bf16" ? roundBf16 : dtype === "f16" ? roundF16 : undefined;
  if (round) { for (let i = 0; i < values.length; i++) values[i] = round(values[i]); }
}
