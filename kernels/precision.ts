/**
 * Training in bf16: what a forward pass stores is rounded to 16 bits, what it computes with is f32.
 *
 * The rule, for every op alike: operands and outputs that its entry lists in `halves` are rounded
 * (products, attention, norms' outputs); element-wise work between them is f32 and is done again in
 * the backward pass; whatever is not listed stays f32 (the residual stream, which is a sum that
 * norms read, and of which bf16 is kept for their backward pass; norms' statistics; log-sum-exps; the
 * loss). An op that lists nothing reads f32. A cotangent is stored as the value is
 * that it belongs to, but those of parameters are f32.
 */

import { applyBy, type ApplyRule, isHalf, keepAs, type Tensor } from "../core/graph/mod.ts";
import { cast, halved } from "./elementwise.ts";

/** Storage of activations and of the weights that they are multiplied with. */
export const precisions = ["f32", "bf16"] as const;
export type Precision = typeof precisions[number];

/**
 * Traces a forward pass that stores so. Parameters come and their gradients go as f32. Within a pass
 * in bf16, what is to be exact may be traced in f32.
 */
export function inPrecision<T>(precision: Precision, forward: () => T): T {
  return applyBy(precision === "f32" ? undefined : storeHalves, forward);
}

const storeHalves: ApplyRule = ({ cheap, alias, halves = {} }, inputs, make) => {
  const { reads = [], keeps = [], makes = [] } = halves;
  const asIs = (x: Tensor, i: number) => cheap || alias || keeps.includes(i) || !isHalf(x.dtype);
  for (const i of keeps) if (inputs[i].dtype === "f32") keepAs(inputs[i], halved(inputs[i]));
  const outputs = make(
    inputs.map((x, i) => reads.includes(i) ? read(x) : asIs(x, i) ? x : cast(x, "f32")),
  );
  return outputs.map((y, i) => {
    if (!makes.includes(i)) return y;
    const half = halved(y);
    keepAs(y, half);
    return half;
  });
};

const read = (x: Tensor) => x.dtype !== "f32" ? x : isOfParameters(x) ? cast(x, "bf16") : halved(x);

const ofParameters = new WeakMap<Tensor, boolean>();

/** Whether a tensor is a parameter or made of parameters, constants and values of the run alone: it has no rows. */
function isOfParameters(x: Tensor): boolean {
  const { op, attrs, inputs } = x.node;
  if (op.placeholder) return attrs.kind === "state" || x.shape.length < 2;
  let known = ofParameters.get(x);
  if (known === undefined) {
    known = op.constant === true || inputs.length > 0 && inputs.every(isOfParameters);
    ofParameters.set(x, known);
  }
  return known;
}
