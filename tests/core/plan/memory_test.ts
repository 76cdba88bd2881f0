import assert from "node:assert/strict";
import fc from "fast-check";
import { type Interval, layOut } from "../../../core/plan/memory.ts";

const intervals = fc.array(
  fc.record({ bytes: fc.integer({ min: 0, max: 5000 }), first: fc.nat(40), length: fc.nat(15) }),
  { maxLength: 60 },
).map((list) =>
  list.map(({ bytes, first, length }): Interval => ({ bytes, first, last: first + length }))
);

const options = { alignment: 64, slack: 64, slabBytes: 8192 };

Deno.test("tensors that live at the same time never share bytes, nor cross a slab", () => {
  fc.assert(fc.property(intervals, (list) => {
    const { offsets, bytes } = layOut(list, options);
    const end = (i: number) => offsets[i] + Math.max(list[i].bytes, 4) + options.slack;
    list.forEach((a, i) => {
      assert.equal(offsets[i] % options.alignment, 0);
      assert(end(i) <= bytes);
      assert.equal(
        Math.floor(offsets[i] / options.slabBytes),
        Math.floor((end(i) - 1) / options.slabBytes),
      );
      list.forEach((b, j) => {
        if (i === j || a.last < b.first || b.last < a.first) return;
        assert(end(i) <= offsets[j] || end(j) <= offsets[i], `${i} and ${j} overlap`);
      });
    });
  }));
});

Deno.test("a chain of equal tensors needs the room of two", () => {
  const chain = Array.from(
    { length: 20 },
    (_, i): Interval => ({ bytes: 1000, first: i, last: i + 1 }),
  );
  assert.equal(layOut(chain, { ...options, slabBytes: 2 ** 30 }).bytes, 2 * 1088);
});
