import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeArtifact } from "../../../core/quant/artifact.ts";
import {
  type Choice,
  chooseForms,
  fitBudget,
  formCosts,
  relativeImportance,
  wellUsed,
} from "../../../core/quant/budget.ts";
import { type Form, forms, store, type Weight } from "../../../core/quant/forms.ts";
import { normals } from "../../../core/graph/mod.ts";

const better = { search: "row", floor: "tiny" } as const;

const shapes = Array.from(
  { length: 80 },
  (_, i) => [[16, 96], [48, 30], [33, 17], [1, 900]][i % 4],
);
const weights = shapes.map((shape, i): Weight => {
  const values = Float32Array.from(normals(i, "w", shape[0] * shape[1]));
  return { name: `w${i}`, shape, read: () => values };
});

const choices = weights.map((weight): Choice => ({
  name: weight.name,
  costs: formCosts(weight, forms, better),
  importance: relativeImportance(weight.read()),
}));

Deno.test("budget: more bits cost more bytes and leave less error", () => {
  for (const { costs } of choices) {
    assert.deepEqual(costs.map(({ form }) => form), ["int5", "int6", "int8", "f16"]);
    const errors = costs.map(({ error }) => error);
    assert.deepEqual(errors, errors.toSorted((a, b) => b - a));
  }
});

Deno.test("budget: a choice keeps to its limit, and no single change that fits would spare error", () => {
  const all = choices.reduce((sum, { costs }) => sum + costs.at(-1)!.bytes, 0);
  fc.assert(fc.property(fc.integer({ min: 1, max: Math.ceil(all * 1.1) }), (limit) => {
    const chosen = chooseForms(choices, limit);
    const least = choices.reduce((sum, { costs }) => sum + costs[0].bytes, 0);
    assert.equal(chosen === undefined, least > limit);
    if (!chosen) return;
    const bytes = [...chosen.values()].reduce((sum, one) => sum + one.bytes, 0);
    assert.ok(bytes <= limit);
    for (const { name, costs } of choices) {
      const now = chosen.get(name)!;
      for (const { bytes: other, error } of costs) {
        if (bytes - now.bytes + other <= limit) assert.ok(error >= now.error, name);
      }
    }
  }));
});

Deno.test("budget: files land within 2 % under it, or say why not", () => {
  const options = better;
  const make = (chosen: ReadonlyMap<string, Form>) => {
    const tensors = weights.map((weight) => store(weight, chosen.get(weight.name)!, options));
    return encodeArtifact({ facts: {}, tensors }, "bytes", ["zstd"]).bytes;
  };
  const fit = (budget: number) => fitBudget(choices, budget, make, (file) => file.length);
  for (const budget of [70_000, 80_000, 100_000, 140_000]) {
    const { bytes, outcome, made } = fit(budget);
    assert.equal(outcome, "fits");
    assert.equal(made.length, bytes);
    assert.ok(bytes <= budget && bytes >= wellUsed * budget, `${bytes} of ${budget}`);
  }
  const [wide, narrow] = [fit(1_000_000), fit(5_000)];
  assert.equal(wide.outcome, "full");
  assert.deepEqual(new Set(wide.forms.values()), new Set(["f16"]));
  assert.equal(narrow.outcome, "over");
  assert.deepEqual(new Set(narrow.forms.values()), new Set(["int5"]));
});
