import assert from "node:assert/strict";
import { cutText, isHeldOut, keptLength } from "../../../core/data/divide.ts";

Deno.test("divide: a whole file is cut where nanoGPT cuts it, never inside a character", () => {
  const cut = (text: string, fraction: number) => cutText(text, keptLength(text.length, fraction));
  assert.deepEqual(cut("0123456789", 0.1), ["012345678", "9"]);
  assert.deepEqual(cut("0123456789", 0.9), ["0", "123456789"]);
  assert.deepEqual(cut("ab🙂🙂", 0.5), ["ab", "🙂🙂"]);
  assert.deepEqual(cut("a🙂🙂b", 0.5), ["a🙂", "🙂b"]);
  assert.deepEqual(cut("abc🙂", 0.2), ["abc", "🙂"]);
  assert.deepEqual(cut("abc", 0), ["abc", ""]);
  assert.deepEqual(cut("abc", 1), ["", "abc"]);
});

const divided = (count: number, fraction: number, seed: number) =>
  Array.from({ length: count }, (_, i) => isHeldOut(i, fraction, seed) ? "val" : "train");

Deno.test("divide: one document in each run of 1/fraction is held out, drawn by the seed", () => {
  const splits = divided(1000, 0.1, 4);
  for (let i = 0; i < 1000; i += 10) {
    assert.equal(splits.slice(i, i + 10).filter((split) => split === "val").length, 1);
  }
  const places = new Set(splits.flatMap((split, i) => split === "val" ? [i % 10] : []));
  assert.equal(places.size, 10); // no rhythm
  assert.deepEqual(divided(1000, 0.1, 4), splits);
  assert.notDeepEqual(divided(1000, 0.1, 5), splits);
});

Deno.test("divide: odd fractions give about their part", () => {
  for (const fraction of [0.013, 0.15, 0.3, 0.5, 0.75, 1]) {
    const held = (divided(1000, fraction, 1)).filter((split) => split === "val").length;
    assert.ok(Math.abs(held - 1000 * fraction) <= 2, `${fraction}: ${held}`);
  }
  assert.ok((divided(1000, 0, 1)).every((split) => split === "train"));
});
