import assert from "node:assert/strict";
import { interpret, placeholder, spec, type Tensor } from "../../../core/graph/mod.ts";
import { type DeltaInputs, gatedDelta } from "../../../core/nn/delta_rule.ts";
import {
  add,
  div,
  exp,
  fill,
  gradients,
  mul,
  neg,
  rsqrt,
  sigmoid,
  slice,
  square,
  sumAll,
  sumLast,
} from "../../../kernels/mod.ts";
import { wave } from "../model/tiny.ts";
import { checkClose } from "../../vectors.ts";

const [batch, heads, dk, dv] = [2, 2, 3, 5];

/** Inputs of the rule as free tensors, of which gates and keys are made; `spread` moves the gates. */
function inputsFor(time: number, spread = 1) {
  const values = new Map<Tensor, ArrayLike<number>>();
  const leaf = (shape: number[], phase: number, scale = 1) => {
    const tensor = placeholder(spec(shape), `${phase}`, "upload");
    values.set(tensor, wave(shape.reduce((a, b) => a * b), phase).map((x) => scale * x));
    return tensor;
  };
  const rows = [batch, time, heads];
  const leaves = [
    leaf([...rows, dk], 1),
    leaf([...rows, dk], 2),
    leaf([...rows, dv], 3),
    leaf(rows, 4, spread),
    leaf(rows, 5, spread),
    leaf([batch, heads, dk, dv], 6),
  ];
  const [q, k, v, g, beta, before] = leaves;
  const unit = mul(k, rsqrt(add(sumLast(square(k)), 1e-6)));
  const inputs: DeltaInputs = { q, k: unit, v, g: neg(exp(g)), beta: sigmoid(beta) };
  return { values, leaves, inputs, before };
}

/** Token by token, each with the state that the one before it left. */
function recurrent(inputs: DeltaInputs, before: Tensor): { outs: Tensor[]; state: Tensor } {
  const outs: Tensor[] = [];
  let state = before;
  for (let t = 0; t < inputs.q.shape[1]; t++) {
    const { q, k, v, g, beta } = inputs, at = (x: Tensor) => slice(x, 1, t, 1);
    const one = gatedDelta({ q: at(q), k: at(k), v: at(v), g: at(g), beta: at(beta) }, state);
    outs.push(one.out);
    state = one.state;
  }
  return { outs, state };
}

for (const [time, spread] of [[1, 1], [63, 1], [64, 1], [65, 1], [200, 1], [65, 30], [65, 1e-3]]) {
  Deno.test(`delta rule: chunks are the recurrence, with gradients: ${time} tokens, gates ${spread}`, () => {
    const { values, leaves, inputs, before } = inputsFor(time, spread);
    const whole = gatedDelta(inputs, before), steps = recurrent(inputs, before);
    const cot = wave(batch * time * heads * dv, 9);
    const weights = placeholder(spec([batch, time, heads, dv]), "cot", "upload");
    values.set(weights, cot);
    const loss = add(sumAll(mul(whole.out, weights)), sumAll(square(whole.state)));
    const stepLoss = steps.outs
      .map((out, t) => sumAll(mul(out, slice(weights, 1, t, 1))))
      .reduce((a, b) => add(a, b), sumAll(square(steps.state)));
    const found = interpret(
      [whole.state, loss, ...gradients(loss, leaves)],
      values,
      { precision: "f64" },
    );
    const expected = interpret(
      [steps.state, stepLoss, ...gradients(stepLoss, leaves)],
      values,
      { precision: "f64" },
    );
    found.forEach((x, i) => {
      assert.ok(x.every(Number.isFinite));
      // double precision, sums of some thousand terms
      checkClose(`${time} tokens, result ${i}`, x, expected[i], 1e-9, 1e-9);
    });
  });
}

Deno.test("delta rule: a segment begins with an empty state, wherever chunks begin", () => {
  const time = 11, cuts = [0, 3, 4, 9, time];
  for (const chunk of [2, 3, 4, 11, 64]) {
    const { values, inputs, before } = inputsFor(time);
    const ids = Array.from({ length: time }, (_, t) => cuts.findIndex((cut) => cut > t));
    const segments = placeholder(spec([batch, time]), "segments", "upload");
    values.set(segments, [...ids, ...ids]);
    const whole = gatedDelta({ ...inputs, segments }, before, chunk);
    const apart = cuts.slice(1).map((to, i) => {
      const at = (x: Tensor) => slice(x, 1, cuts[i], to - cuts[i]);
      const { q, k, v, g, beta } = inputs;
      return gatedDelta(
        { q: at(q), k: at(k), v: at(v), g: at(g), beta: at(beta) },
        i === 0 ? before : fill([batch, heads, dk, dv], 0),
      );
    });
    const [out, state, last, ...outs] = interpret(
      [whole.out, whole.state, apart.at(-1)!.state, ...apart.map(({ out }) => out)],
      values,
      { precision: "f64" },
    );
    checkClose(`chunks of ${chunk}, state`, state, last, 1e-12, 1e-12);
    outs.forEach((expected, i) => {
      const length = cuts[i + 1] - cuts[i], row = heads * dv;
      for (let b = 0; b < batch; b++) {
        const from = (b * time + cuts[i]) * row;
        checkClose(
          `chunks of ${chunk}, segment ${i}`,
          out.slice(from, from + length * row),
          expected.slice(b * length * row, (b + 1) * length * row),
          1e-12,
          1e-12,
        );
      }
    });
  }
});

Deno.test("delta rule: where nothing is corrected or forgotten the state stays", () => {
  const { values, inputs, before } = inputsFor(70);
  const zero = mul(inputs.g, 0);
  const { state } = gatedDelta({ ...inputs, g: zero, beta: zero }, before);
  const [after, first] = interpret([state, div(before, 1)], values, { precision: "f64" });
  assert.deepEqual(after, first);
});
