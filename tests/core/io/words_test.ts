import assert from "node:assert/strict";
import { plural, shellWord } from "../../../core/io/words.ts";

Deno.test("words: one is not many", () => {
  assert.deepEqual([0, 1, 1234].map((n) => plural(n, "token")), [
    "0 tokens",
    "1 token",
    "1,234 tokens",
  ]);
});

Deno.test("words: a path is quoted where a shell would take it apart", {
  ignore: Deno.build.os === "windows",
}, () => {
  assert.deepEqual(["runs/a-1.b", "h/in t", "it's", "$x", ""].map(shellWord), [
    "runs/a-1.b",
    "'h/in t'",
    `'it'\\''s'`,
    "'$x'",
    "''",
  ]);
});
