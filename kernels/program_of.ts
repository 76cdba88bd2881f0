/**
 * One node as a fused program of its own: what the fuser grows chains from, and how a lone
 * element-wise, layout or row-reducing node runs on a device that only prints fused programs.
 */

import { type Op, type OpContext, sizeOf, type Spec } from "../core/graph/mod.ts";
import { broadcastStrides, castOp, expandOp, fillOp, isElementwise } from "./elementwise.ts";
import type { Access, FusedProgram, FusedStep } from "./fused.ts";
import { denseStrides, permuteOp, sliceOp } from "./layout.ts";
import { isRowReduce, maxLastGradOp } from "./reduce.ts";

/**
 * The program of an element-wise, cast, expand, permute, slice, fill or row-reducing node or the
 * gradient of a maximum, over the axes as they stand (nothing is collapsed). `undefined`: another
 * op, or nothing to compute.
 */
export function programOf(op: Op, context: OpContext): FusedProgram | undefined {
  const { inputs, outputs: [out] } = context;
  if (!out || sizeOf(out.shape) === 0) return undefined;
  if (isElementwise(op)) {
    const args = inputs.map((_, i) => i);
    const reads = inputs.map((x) => broadcast(x, out.shape));
    return elementProgram(out, reads, [...inputSteps(inputs), { op: op.scalar, args }]);
  }
  if (op === castOp || op === expandOp) {
    return elementProgram(out, [broadcast(inputs[0], out.shape)], inputSteps(inputs));
  }
  if (op === permuteOp || op === sliceOp) {
    return elementProgram(out, [layoutAccess(op, context)], inputSteps(inputs));
  }
  if (op === fillOp) {
    return elementProgram(out, [], [{ op: "constant", value: context.attrs.value as number }]);
  }
  if (isRowReduce(op)) {
    const [x] = inputs;
    return {
      shape: x.shape,
      accesses: [{ strides: denseStrides(x.shape), offset: 0 }],
      steps: [{ op: "input", input: 0 }, { op: `reduce_${op.reduction}`, args: [0] }],
      outputs: [{ value: 1, extent: "row", spec: { shape: out.shape, dtype: out.dtype } }],
    };
  }
  if (op === maxLastGradOp) {
    const [x, dy] = inputs;
    return elementProgram(out, [broadcast(x, x.shape), broadcast(dy, x.shape)], [
      ...inputSteps(inputs),
      { op: "reduce_max", args: [0] },
      { op: "equal", args: [0, 2] },
      { op: "constant", value: 0 },
      { op: "where", args: [3, 1, 4] },
    ]);
  }
  return undefined;
}

/** Where output element (i, j, …) of a permute or slice is read. */
function layoutAccess(op: Op, { inputs: [x], attrs }: OpContext): Access {
  const strides = denseStrides(x.shape);
  if (op === permuteOp) {
    return { strides: (attrs.order as number[]).map((axis) => strides[axis]), offset: 0 };
  }
  return { strides, offset: (attrs.start as number) * strides[attrs.axis as number] };
}

const broadcast = (x: Spec, to: readonly number[]): Access => ({
  strides: broadcastStrides(x.shape, to),
  offset: 0,
});

const inputSteps = (inputs: readonly Spec[]): FusedStep[] =>
  inputs.map((_, input) => ({ op: "input", input }));

/** A program whose last step is its one dense output. Scalars become rows of one. */
function elementProgram(
  { shape, dtype }: Spec,
  reads: readonly Access[],
  steps: readonly FusedStep[],
): FusedProgram {
  const scalar = shape.length === 0;
  return {
    shape: scalar ? [1] : shape,
    accesses: scalar ? reads.map(({ offset }) => ({ strides: [0], offset })) : reads,
    steps,
    outputs: [{ value: steps.length - 1, extent: "element", spec: { shape, dtype } }],
  };
}
