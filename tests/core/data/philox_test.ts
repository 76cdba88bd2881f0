import assert from "node:assert/strict";
import { philox, purposes, shuffled, uniform, uniformBelow } from "../../../core/data/philox.ts";

const ones = 0xffffffff;

Deno.test("philox: Random123's known answers", () => {
  assert.deepEqual(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  assert.deepEqual(
    philox([ones, ones, ones, ones], [ones, ones]),
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  );
});

Deno.test("shuffled: is a permutation for every count, and differs by seed and epoch", () => {
  const order = (count: number, seed: number, epoch: number) =>
    Array.from({ length: count }, (_, i) => shuffled(i, count, seed, epoch));
  for (const count of [1, 2, 3, 4, 5, 16, 17, 100, 1000]) {
    assert.equal(new Set(order(count, 7, 0)).size, count);
    assert.ok(order(count, 7, 0).every((at) => at >= 0 && at < count));
  }
  assert.notDeepEqual(order(100, 7, 0), order(100, 8, 0));
  assert.notDeepEqual(order(100, 7, 0), order(100, 7, 1));
  assert.deepEqual(order(100, 7, 1), order(100, 7, 1));
});

Deno.test("shuffled: neighbours part, and each place is as likely as any other", () => {
  const counts = new Array(10).fill(0);
  for (let epoch = 0; epoch < 4000; epoch++) counts[shuffled(3, 10, 5, epoch)]++;
  for (const count of counts) assert.ok(Math.abs(count - 400) < 100, `${counts}`);
});

Deno.test("uniform: fills its range evenly", () => {
  const draws = Array.from({ length: 20_000 }, (_, i) => uniform(3, purposes.window, i));
  assert.ok(draws.every((x) => x >= 0 && x < 1));
  const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
  assert.ok(Math.abs(mean - 0.5) < 0.01);
  assert.equal(uniformBelow(3, purposes.window, 9, 1), 0);
});
