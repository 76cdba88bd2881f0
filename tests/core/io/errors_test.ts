import assert from "node:assert/strict";
import { didYouMean, editDistance, nearestName, UserError } from "../../../core/io/errors.ts";

Deno.test("nearestName: finds the slip, and stays silent where nothing is near", () => {
  assert.equal(nearestName("stepz", ["steps", "seed", "out"]), "steps");
  assert.equal(nearestName("hiden_size", ["hidden_size", "head_size"]), "hidden_size");
  assert.equal(nearestName("warmup_steps", ["start", "warmup"]), "warmup");
  assert.equal(nearestName("decay", ["peak", "decay_steps"]), "decay_steps");
  assert.equal(nearestName("colour", ["steps", "seed"]), undefined);
  assert.equal(didYouMean("colour", ["steps"]), "");
  assert.equal(didYouMean("lr_", ["lr"]), ' (did you mean "lr"?)');
});

Deno.test("editDistance: counts insertions, deletions and replacements", () => {
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("", "abc"), 3);
});

Deno.test("UserError: is wrong usage unless said otherwise", () => {
  assert.equal(new UserError("x").exitCode, 2);
  assert.equal(new UserError("x", { exitCode: 4 }).exitCode, 4);
});
