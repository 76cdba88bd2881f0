import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import {
  apply,
  interpret,
  isFloat,
  nodesOf,
  normals,
  type Op,
  placeholder,
  sizeOf,
  type Tensor,
} from "../../core/graph/mod.ts";
import { type SlopeCase, slopeCases, straightThrough } from "./slope_cases.ts";

/** The case's result against fixed random numbers: many gradients vanish in a plain sum. */
function projected({ inputs, f, name }: SlopeCase) {
  const given = new Map<Tensor, ArrayLike<number>>();
  const tensors = inputs.map(({ values, ...spec }, i) => {
    const tensor = placeholder(spec, `input ${i}`, "upload");
    given.set(tensor, values(sizeOf(spec.shape), 17 * (i + 1)));
    return tensor;
  });
  const out = f(tensors), weights = placeholder({ ...out, dtype: "f32" }, "weights", "upload");
  given.set(weights, normals(5, name, sizeOf(out.shape)));
  return { tensors, given, out, loss: k.sumAll(k.mul(out, weights)) };
}

/**
 * The slope of the loss along a random direction in one input, by central differences and by the
 * gradient.
 */
function slopesAlong(
  { given, loss }: ReturnType<typeof projected>,
  input: Tensor,
  gradient: ArrayLike<number>,
) {
  const at = Array.from(given.get(input)!), direction = normals(3, "direction", at.length);
  // The best step balances the curve's third derivative against rounding at 1e-16.
  const step = 1e-5;
  const value = (by: number) => {
    const moved = new Map(given).set(input, at.map((x, i) => x + by * direction[i]));
    return interpret([loss], moved, { precision: "f64" })[0][0];
  };
  const terms = at.map((_, i) => gradient[i] * direction[i]);
  return {
    measured: (value(step) - value(-step)) / (2 * step),
    derived: terms.reduce((sum, x) => sum + x, 0),
    // Of what size a sum of such terms is, however they cancel.
    scale: 1 + Math.hypot(...terms),
  };
}

Deno.test("every op's vjp is the slope of its loop, in every float input", () => {
  const faults: string[] = [];
  for (const sample of slopeCases) {
    const graph = projected(sample);
    const leaves = graph.tensors.filter((x, i) => isFloat(x.dtype) && !sample.frozen?.includes(i));
    const found = interpret(k.gradients(graph.loss, leaves), graph.given, { precision: "f64" });
    leaves.forEach((leaf, i) => {
      const { measured, derived, scale } = slopesAlong(graph, leaf, found[i]);
      if (Math.abs(measured - derived) <= 1e-6 * scale) return;
      const input = graph.tensors.indexOf(leaf);
      faults.push(`${sample.name}, input ${input}: slope ${measured}, but the vjp says ${derived}`);
    });
  }
  assert.deepEqual(faults, []);
});

const isOp = (value: unknown): value is Op =>
  typeof value === "object" && value !== null && "check" in value && "name" in value;
const allOps: readonly Op[] = [...Object.values(k), ...Object.values(k.elementwiseOps)].filter(
  isOp,
);

Deno.test("no op with a vjp is left out of the slope tests", () => {
  const tested = new Set<Op>(straightThrough);
  for (const sample of slopeCases) {
    for (const { op } of nodesOf([projected(sample).out])) tested.add(op);
  }
  const forgotten = allOps.filter((op) => op.vjp && !tested.has(op)).map(({ name }) => name);
  assert.deepEqual(forgotten, []);
});

Deno.test("rounding passes gradients as if it were not there", () => {
  for (const op of straightThrough) {
    const graph = projected({
      name: op.name,
      inputs: [{ shape: [4], dtype: "f32", values: () => [0.1, -3, 1e-9, 7] }],
      f: (inputs) => apply(op, inputs)[0],
    });
    const [slope] = interpret(k.gradients(graph.loss, graph.tensors), graph.given);
    assert.deepEqual([...slope], [...normals(5, op.name, 4)]);
  }
});
