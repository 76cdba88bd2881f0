/** Casts to bf16 that go into what they read: its kernel rounds as it stores. */

import { castOp } from "../../kernels/mod.ts";
import type { Op } from "../graph/mod.ts";
import { current } from "./fuse.ts";
import type { PlanNode, Use, Value } from "./simplify.ts";

/**
 * The nodes without the casts that are the only readers of an output which its op's kernels can
 * store as bf16 (`halves.makes`). `results` must stay as they are.
 */
export function storeHalves(
  nodes: readonly PlanNode[],
  results: readonly Use[],
  replaced: Map<Value, Value>,
): PlanNode[] {
  const reads = new Map<Value, number>();
  for (const { value } of [...nodes.flatMap(({ inputs }) => inputs), ...results]) {
    reads.set(value, (reads.get(value) ?? 0) + 1);
  }
  const rest = nodes.filter((cast) => {
    if (cast.op !== castOp as Op || cast.attrs.dtype !== "bf16") return true;
    const { value } = cast.inputs[0], { producer, index, spec } = value;
    if (reads.get(value)! > 1 || !stores(producer, index)) return true;
    const half: Value = { producer, index, spec: { shape: spec.shape, dtype: "bf16" } };
    producer.outputs[index] = half;
    replaced.set(cast.outputs[0], half);
    return false;
  });
  for (const { inputs } of rest) {
    inputs.splice(
      0,
      inputs.length,
      ...inputs.map((use) => current(use, replaced)),
    );
  }
  return rest;
}

function stores({ op: { halves }, inputs }: PlanNode, index: number): boolean {
  return halves?.makes?.includes(index) === true &&
    (halves.stores?.(inputs.map(({ spec }) => spec)) ?? true);
}
