import assert from "node:assert/strict";
import { explainError } from "../../cli/ui/errors.ts";
import { formatBytes, formatCount, formatDuration, formatQuantity } from "../../cli/ui/numbers.ts";
import { numberBetween, parseNumber, parseSeed, wholeNumber } from "../../cli/options.ts";
import { UserError } from "../../core/io/errors.ts";

Deno.test("numbers: are written as people read them", () => {
  assert.deepEqual([0, 999, 1234567].map(formatCount), ["0", "999", "1,234,567"]);
  assert.deepEqual([0, 1, 1536, 2 ** 20, 2.5 * 2 ** 30].map(formatBytes), [
    "0 B",
    "1 B",
    "1.5 KiB",
    "1 MiB",
    "2.5 GiB",
  ]);
  assert.deepEqual([12, 5_400_000, 123_456].map(formatQuantity), ["12", "5.4 M", "123 k"]);
  assert.deepEqual([0.4, 12.34, 59.97, 125, 3720].map(formatDuration), [
    "0.40 s",
    "12.3 s",
    "1 min 00 s",
    "2 min 05 s",
    "1 h 02 min",
  ]);
});

Deno.test("option values: empty text and trailing rubbish are refused", () => {
  for (const text of ["", " ", "1x", "0x10", "Infinity", "--json", "1e"]) {
    assert.throws(() => parseNumber(text), /Not a number/);
  }
  assert.equal(parseNumber("1e-3"), 0.001);
  assert.throws(() => wholeNumber(1)("1.5"), /Not a whole number/);
  assert.throws(() => numberBetween(0, 1)("2"), /Not between 0 and 1/);
  assert.throws(() => parseSeed("4294967296"), /Not below 2\^32/);
});

Deno.test("errors: place, message, hint and code; others say how to see where", () => {
  const strip = (text: string) => text.replaceAll(/\p{Cc}\[\d+m/gu, "");
  const known = explainError(
    new UserError("too large", { where: "a.yaml:1:2", hint: "less", exitCode: 4 }),
  );
  assert.equal(strip(known.text), "error: a.yaml:1:2: too large\nhint: less");
  assert.equal(known.exitCode, 4);
  const unknown = explainError(new TypeError("x is not a function"));
  assert.equal(unknown.exitCode, 1);
  assert.match(unknown.text, /QUERN_DEBUG=1/);
});
