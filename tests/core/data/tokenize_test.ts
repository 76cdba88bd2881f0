import assert from "node:assert/strict";
import { divide } from "../../../core/data/tokenize.ts";

const document = (text: string, isWholeFile = false) => ({ text, where: "x", isWholeFile });

async function divided(texts: string[], fraction: number, seed: number) {
  const parts = await Array.fromAsync(divide(texts.map((text) => document(text)), fraction, seed));
  assert.deepEqual(parts.map((part) => part.text), texts);
  return parts.map((part) => part.split);
}

Deno.test("divide: a whole file is cut where nanoGPT cuts it, never inside a character", async () => {
  const cut = async (text: string, fraction: number) =>
    (await Array.fromAsync(divide([document(text, true)], fraction, 0)))
      .map(({ split, text }) => `${split}:${text}`);
  assert.deepEqual(await cut("0123456789", 0.1), ["train:012345678", "val:9"]);
  assert.deepEqual(await cut("0123456789", 0.9), ["train:0", "val:123456789"]);
  assert.deepEqual(await cut("ab🙂🙂", 0.5), ["train:ab", "val:🙂🙂"]);
  assert.deepEqual(await cut("a🙂🙂b", 0.5), ["train:a🙂", "val:🙂b"]);
  assert.deepEqual(await cut("abc🙂", 0.2), ["train:abc", "val:🙂"]);
  assert.deepEqual(await cut("abc", 0), ["train:abc"]);
  assert.deepEqual(await cut("abc", 1), ["val:abc"]);
});

Deno.test("divide: one document in each run of 1/fraction is held out, drawn by the seed", async () => {
  const texts = Array.from({ length: 1000 }, (_, i) => String(i));
  const splits = await divided(texts, 0.1, 4);
  for (let i = 0; i < 1000; i += 10) {
    assert.equal(splits.slice(i, i + 10).filter((split) => split === "val").length, 1);
  }
  const places = new Set(splits.flatMap((split, i) => split === "val" ? [i % 10] : []));
  assert.equal(places.size, 10); // no rhythm
  assert.deepEqual(await divided(texts, 0.1, 4), splits);
  assert.notDeepEqual(await divided(texts, 0.1, 5), splits);
});

Deno.test("divide: odd fractions give about their part", async () => {
  const texts = Array.from({ length: 1000 }, (_, i) => String(i));
  for (const fraction of [0.013, 0.15, 0.3, 0.5, 0.75, 1]) {
    const held = (await divided(texts, fraction, 1)).filter((split) => split === "val").length;
    assert.ok(Math.abs(held - 1000 * fraction) <= 2, `${fraction}: ${held}`);
  }
  assert.ok((await divided(texts, 0, 1)).every((split) => split === "train"));
});
