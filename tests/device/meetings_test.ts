import assert from "node:assert/strict";
import fc from "fast-check";
import { type Access, type Footprint, meetingsOf } from "../../core/device/cpu/meetings.ts";

const access = fc.record({
  first: fc.nat(30),
  size: fc.integer({ min: 1, max: 8 }),
  writes: fc.boolean(),
})
  .map(({ first, size, writes }): Access => ({ first, end: first + size, writes }));
const footprints = fc.array(
  fc.record({
    shared: fc.boolean(),
    step: fc.nat(12),
    accesses: fc.array(access, { maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 14 },
).map((list) => list.toSorted((a, b) => a.step - b.step));

const clash = (a: Footprint, b: Footprint) =>
  a.accesses.some((x) =>
    b.accesses.some((y) => (x.writes || y.writes) && x.first < y.end && y.first < x.end)
  );

Deno.test("members meet between any two entries that touch the same bytes, unless one thread does both", () => {
  fc.assert(fc.property(footprints, (list) => {
    const meets = meetingsOf(list);
    list.forEach((b, j) =>
      list.slice(0, j).forEach((a, i) => {
        if (!(a.shared || b.shared)) return;
        const follows = j === i + 1 && a.step === b.step;
        if (clash(a, b) || follows) {
          assert(meets.slice(i, j).includes(true), `${i} and ${j} may overlap`);
        }
      })
    );
    assert.equal(meets.at(-1), list.some(({ shared }) => shared));
  }));
});

Deno.test("products of one input need no meeting between them, their reader does", () => {
  const read = { first: 0, end: 10, writes: false };
  const product = (at: number): Footprint => ({
    shared: true,
    step: at,
    accesses: [read, { first: 10 * at, end: 10 * at + 10, writes: true }],
  });
  const reader: Footprint = {
    shared: true,
    step: 9,
    accesses: [{ first: 10, end: 40, writes: false }],
  };
  assert.deepEqual(meetingsOf([product(1), product(2), product(3), reader]), [
    false,
    false,
    true,
    true,
  ]);
});
