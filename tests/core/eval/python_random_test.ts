import assert from "node:assert/strict";
import { pythonRandom } from "../../../core/eval/tasks/python_random.ts";

/** `random.Random(seed)`, then `sample(range(size), count)` several times: CPython 3.11 gave these. */
const recorded: readonly [seed: number, size: number, count: number, draws: number[][]][] = [
  [1234, 7473, 5, [
    [6374, 3610, 957, 61, 742],
    [7462, 6610, 4769, 286, 5501],
    [5677, 687, 806, 6279, 2905],
  ]],
  [1234, 1319, 6, [[902, 239, 15, 185, 1192, 71], [171, 201, 726, 484, 35, 63]]],
  // up to 21 rows, or more where more than five are drawn, a pool is kept
  [1234, 21, 5, [[14, 3, 0, 2, 1], [2, 3, 11, 7, 0]]],
  [1234, 22, 5, [[14, 3, 0, 2, 18], [1, 21, 2, 3, 11]]],
  [1234, 85, 6, [[56, 14, 0, 11, 74, 4], [10, 12, 45, 30, 2, 3]]],
  [1234, 86, 6, [[56, 14, 0, 11, 74, 4], [85, 10, 12, 45, 30, 2]]],
  [1234, 30, 10, [
    [24, 14, 3, 0, 2, 18, 1, 21, 25, 27],
    [24, 11, 7, 0, 26, 25, 28, 20, 19, 15],
  ]],
  [1234, 5, 5, [[3, 0, 4, 2, 1], [0, 4, 1, 3, 2]]],
  [1234, 1, 1, [[0], [0]]],
  [0, 1000, 1, [[864], [394], [776]]],
  [4294967295, 100, 3, [[81, 79, 26], [27, 77, 66]]],
];

for (const [seed, size, count, draws] of recorded) {
  Deno.test(`python's random: ${count} of ${size} by seed ${seed}, as CPython draws them`, () => {
    const random = pythonRandom(seed);
    assert.deepEqual(draws.map(() => random.sample(size, count)), draws);
  });
}

Deno.test("python's random: the words of its generator, beyond its first round", () => {
  const random = pythonRandom(1234);
  // [random.Random(1234).getrandbits(32) for _ in range(5)]; the thousand and first of them
  const first = Array.from({ length: 5 }, () => random.next());
  assert.deepEqual(first, [4150886329, 3342196574, 1892932127, 501869158, 32175636]);
  for (let i = 5; i < 1000; i++) random.next();
  assert.equal(random.next(), 3260923217);
});

Deno.test("python's random: more than there are cannot be drawn", () => {
  assert.throws(() => pythonRandom(1).sample(3, 4), RangeError);
});
