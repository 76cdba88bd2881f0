/**
 * Element-wise work on a matrix product moves into the product's kernel, which then stores results
 * instead of sums.
 */

import { type FusedProgram, type FusedStep, matmulSizes, sourcesOf } from "../../kernels/mod.ts";
import { type Op, sizeOf } from "../graph/mod.ts";
import { refineStrides } from "./access.ts";
import { inOrder, type PlanNode, type Use, type Value } from "./simplify.ts";

/**
 * For each product whose only reader is a fused node without reductions: the two become one. Where
 * a fused node reads several products, the last of them takes it in. `kept` are values that must
 * stay stored.
 */
export function foldEpilogues(
  nodes: PlanNode[],
  kept: ReadonlySet<Value>,
  matmul: Op,
  replaced: Map<Value, Value>,
  maxOperands: number,
): PlanNode[] {
  const readers = new Map<Value, PlanNode[]>();
  for (const node of nodes) {
    for (const { value } of node.inputs) {
      readers.set(value, [...(readers.get(value) ?? []), node]);
    }
  }
  const place = new Map(nodes.map((node, i) => [node, i])),
    gone = new Set<PlanNode>(),
    made: PlanNode[] = [];
  for (const fused of nodes) {
    if (fused.op.name !== "fused") continue;
    const program = fused.attrs.program as FusedProgram;
    if (program.steps.some(({ op }) => op === "reduce_sum" || op === "reduce_max")) continue;
    if (program.outputs.some(({ extent }) => extent === "row")) continue;
    const products = fused.inputs.map(({ value }) => value).filter((value) =>
      value.producer.op === matmul && !gone.has(value.producer) &&
      value.producer.attrs.epilogue === undefined && !kept.has(value) &&
      readers.get(value)!.every((reader) => reader === fused)
    ).sort((a, b) => place.get(b.producer)! - place.get(a.producer)!);
    const folded = products.values().map((value) => foldInto(value, fused, program, maxOperands))
      .find((node) => node !== undefined);
    if (!folded) continue;
    gone.add(fused).add(folded.product);
    made.push(folded.node);
    fused.outputs.forEach((out, i) => replaced.set(out, folded.node.outputs[i]));
  }
  const rest = [...nodes.filter((node) => !gone.has(node)), ...made];
  for (const node of rest) {
    node.inputs.splice(
      0,
      node.inputs.length,
      ...node.inputs.map(({ value, spec }) => ({ value: replaced.get(value) ?? value, spec })),
    );
  }
  return inOrder(rest);
}

function foldInto(
  value: Value,
  fused: PlanNode,
  program: FusedProgram,
  maxOperands: number,
): { node: PlanNode; product: PlanNode } | undefined {
  // an epilogue binds each of its accesses
  const sources = sourcesOf(program).map((from) => fused.inputs[from]);
  const product = value.producer;
  const { batch, m, n } = matmulSizes(product.inputs.map(({ spec }) => spec), product.attrs),
    shape = [batch, m, n];
  if (sizeOf(shape) !== sizeOf(program.shape)) return undefined;
  if (product.inputs.length + sources.length - 1 + program.outputs.length > maxOperands) {
    return undefined;
  }
  // Everything else that the fused node reads must not come after the product.
  const refined = program.accesses.map(({ strides }) =>
    refineStrides(program.shape, strides, shape)
  );
  if (refined.some((strides) => strides === undefined)) return undefined;
  const own = sources.findIndex((use) => use.value === value);
  if (sources.some((use, i) => i !== own && use.value === value)) return undefined;
  const dense = [m * n, n, 1];
  if (
    program.accesses[own].offset !== 0 ||
    shape.some((size, axis) => size !== 1 && refined[own]![axis] !== dense[axis])
  ) return undefined;
  const order = [own, ...sources.keys().filter((i) => i !== own)];
  const { steps, outputs: stored } = value.spec.dtype === "bf16" ? rounding(program, own) : program;
  const epilogue: FusedProgram = {
    shape,
    accesses: order.map((i) => ({ strides: refined[i]!, offset: program.accesses[i].offset })),
    steps: steps.map((step) =>
      step.op === "input" ? { ...step, input: order.indexOf(step.input) } : step
    ),
    outputs: stored,
  };
  const inputs: Use[] = [...product.inputs, ...order.slice(1).map((i) => sources[i])],
    outputs: Value[] = [];
  const node: PlanNode = {
    op: product.op,
    attrs: { ...product.attrs, epilogue },
    inputs,
    outputs,
    path: product.path,
    order: fused.order,
  };
  fused.outputs.forEach(({ spec }, index) => outputs.push({ producer: node, index, spec }));
  return { node, product };
}

/** The program with an input rounded to bf16, as it would have been in memory. */
function rounding({ steps, outputs }: FusedProgram, input: number) {
  const at = steps.findIndex((step) => step.op === "input" && step.input === input);
  const moved = (value: number) => value < at ? value : value + 1;
  return {
    steps: steps.flatMap((step, i): FusedStep[] => {
      const own = "args" in step ? { ...step, args: step.args.map(moved) } as FusedStep : step;
      return i === at ? [own, { op: "round_bf16", args: [at] }] : [own];
    }),
    outputs: outputs.map((out) => ({ ...out, value: moved(out.value) })),
  };
}
