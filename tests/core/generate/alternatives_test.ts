import assert from "node:assert/strict";
import fc from "fast-check";
import { likeliest } from "../../../core/generate/alternatives.ts";

Deno.test("alternatives: the likeliest of a sorted row, with their log-probabilities", () => {
  const logit = fc.integer({ min: -3, max: 3 }); // many ties
  const row = fc.array(logit, { minLength: 1, maxLength: 9 });
  fc.assert(fc.property(row, fc.integer({ min: 0, max: 12 }), (values, count) => {
    const total = values.reduce((sum, value) => sum + Math.exp(value), 0);
    const wanted = values.map((value, id) => ({ id, logprob: value - Math.log(total) }))
      .sort((a, b) => b.logprob - a.logprob || a.id - b.id).slice(0, count);
    const found = likeliest(Float32Array.from(values), count);
    assert.deepEqual(found.map(({ id }) => id), wanted.map(({ id }) => id));
    found.forEach(({ logprob }, i) => assert.ok(Math.abs(logprob - wanted[i].logprob) < 1e-12));
  }));
  const [{ logprob }] = likeliest(Float32Array.of(1000, 1000), 1); // no overflow
  assert.ok(Math.abs(logprob - Math.log(0.5)) < 1e-12);
});
