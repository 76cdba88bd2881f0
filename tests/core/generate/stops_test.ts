import assert from "node:assert/strict";
import fc from "fast-check";
import { stopWatch } from "../../../core/generate/stops.ts";

/** What comes out for each piece, and what was held back to the end. */
function feed(stops: string[], pieces: string[]) {
  const watch = stopWatch(stops), given = pieces.map((piece) => watch.push(piece));
  return { given, rest: watch.end(), met: watch.met };
}

Deno.test("stops: a stop text across pieces is never given out, a false beginning is", () => {
  assert.deepEqual(feed(["END"], ["one E", "N", "D two"]), {
    given: ["one ", "", ""],
    rest: "",
    met: "END",
  });
  assert.deepEqual(feed(["END"], ["one E", "N", "TER"]).given, ["one ", "", "ENTER"]);
  assert.deepEqual(feed(["END"], ["one EN"]), { given: ["one "], rest: "EN", met: undefined });
  assert.deepEqual(feed(["aab"], ["a", "a", "a", "b!"]).given, ["", "", "a", ""]);
  assert.deepEqual(feed([], ["a", "b"]), { given: ["a", "b"], rest: "", met: undefined });
});

Deno.test("stops: of several, the one that is complete first ends the text", () => {
  assert.deepEqual(feed(["abcd", "bc"], ["xabcd"]), { given: ["xa"], rest: "", met: "bc" });
  assert.deepEqual(feed(["c", "bc"], ["abc"]), { given: ["a"], rest: "", met: "bc" });
});

Deno.test("stops: the pieces that a text comes in change nothing", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "😀"), maxLength: 12 });
  const stop = fc.string({ unit: fc.constantFrom("a", "b", "😀"), minLength: 1, maxLength: 4 });
  fc.assert(fc.property(fc.array(letters), fc.array(stop, { maxLength: 3 }), (pieces, stops) => {
    const whole = feed(stops, [pieces.join("")]), parts = feed(stops, pieces);
    assert.equal(parts.given.join("") + parts.rest, whole.given.join("") + whole.rest);
    assert.equal(parts.met, whole.met);
    assert.ok(stops.every((text) => !(parts.given.join("") + parts.rest).includes(text)));
  }));
});
