import assert from "node:assert/strict";
import { chooseShots } from "../../../core/eval/tasks/mod.ts";
import { UserError } from "../../../core/io/errors.ts";

const rows = Array.from({ length: 30 }, (_, id) => ({ id }));
const ids = (shots: readonly (readonly { readonly id?: unknown }[])[]) =>
  shots.map((each) => each.map(({ id }) => id));

Deno.test("shots: the first of the pool, for every document the same", () => {
  const found = chooseShots(rows, rows.slice(0, 3), {
    sampler: "first_n",
    count: 2,
    seed: 1234,
    isSameSplit: false,
  });
  assert.deepEqual(ids(found), [[0, 1], [0, 1], [0, 1]]);
});

Deno.test("shots: no document is its own shot, and as many are left", () => {
  const options = { count: 2, seed: 1234, isSameSplit: true } as const;
  const first = chooseShots(rows, rows.slice(0, 4), { sampler: "first_n", ...options });
  assert.deepEqual(ids(first), [[1, 2], [0, 2], [0, 1], [0, 1]]);
  const equal = chooseShots(rows, [{ id: 1 }], { sampler: "first_n", ...options });
  assert.deepEqual(ids(equal), [[0, 2]], "a row that reads the same is the same");
  const drawn = chooseShots(rows, rows, { sampler: "harness", ...options });
  drawn.forEach((shots, id) => {
    assert.equal(shots.length, 2);
    assert.ok(!shots.includes(rows[id]));
  });
});

Deno.test("shots: the harness's draws go on from document to document", () => {
  const found = chooseShots(rows, rows.slice(0, 2), {
    sampler: "harness",
    count: 10,
    seed: 1234,
    isSameSplit: false,
  });
  // r = random.Random(1234); [r.sample(range(30), 10) for _ in range(2)]
  assert.deepEqual(ids(found), [
    [24, 14, 3, 0, 2, 18, 1, 21, 25, 27],
    [24, 11, 7, 0, 26, 25, 28, 20, 19, 15],
  ]);
});

Deno.test("shots: more than the pool has is a fault that says what to do; none needs no pool", () => {
  const options = { sampler: "first_n", seed: 1234, isSameSplit: true } as const;
  assert.throws(
    () => chooseShots(rows.slice(0, 5), rows, { ...options, count: 5 }),
    (error) =>
      error instanceof UserError && /5 shots .* 5 rows, one of which/.test(error.message) &&
      /--num-fewshot/.test(error.hint ?? ""),
  );
  assert.deepEqual(chooseShots([], [{}, {}], { ...options, count: 0 }), [[], []]);
});
