import assert from "node:assert/strict";
import { placeholder, reveal, revealing, scope, spec } from "../../../core/graph/mod.ts";

const about = { kind: "gate", over: "tokens" } as const;
const x = placeholder(spec([2]), "x", "state");

Deno.test("reveal(): nothing is made where nobody looks", () => {
  reveal("open", about, () => {
    throw new Error("it was made");
  });
});

Deno.test("revealing(): gives what was told, in order and with its place", () => {
  const { result, revealed } = revealing(() => {
    scope("layers.0", () => scope("mixer", () => reveal("open", about, () => x)));
    const inner = revealing(() => reveal("hidden", about, () => x));
    assert.deepEqual(inner.revealed.map(({ name }) => name), ["hidden"]);
    scope("layers.1", () => reveal("open", { ...about, labels: ["a", "b"] }, () => x));
    return 7;
  });
  assert.equal(result, 7);
  assert.deepEqual(revealed, [
    { path: "layers.0.mixer", name: "open", ...about, value: x },
    { path: "layers.1", name: "open", ...about, labels: ["a", "b"], value: x },
  ]);
  assert.throws(() =>
    revealing(() => {
      throw new Error("no");
    })
  );
  reveal("open", about, () => assert.fail("looking ended with the error"));
});
