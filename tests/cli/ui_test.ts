import assert from "node:assert/strict";
import { secondsLeft } from "../../cli/train_progress.ts";
import { explainError } from "../../cli/ui/errors.ts";
import { formatBytes, formatCount, formatDuration, formatQuantity } from "../../cli/ui/numbers.ts";
import {
  numberBetween,
  parseNumber,
  parsePath,
  parseSeed,
  refuseSwallowedFlags,
  wholeNumber,
} from "../../cli/options.ts";
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
  assert.deepEqual(
    [0, 12, 5_400_000, 123_456, 999_999, 1.394535e18, 2e15, 1.2345678e28].map(formatQuantity),
    ["0", "12", "5.4 M", "123 k", "1 M", "1.39 E", "2 P", "12,346 Y"],
  );
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
  assert.throws(() => parsePath(""), /may not be empty/);
  assert.throws(() => parseSeed("4294967296"), /Not below 2\^32/);
});

Deno.test("errors: place, message, hint and code; others say how to see where", () => {
  const strip = (text: string) => text.replaceAll(/\p{Cc}\[\d+m/gu, "");
  const known = explainError(
    new UserError("too large", { where: "a.yaml:1:2", hint: "less", exitCode: 4 }),
  );
  assert.equal(strip(known.text), "error: a.yaml:1:2: too large\nhint: less");
  assert.equal(known.exitCode, 4);
  const named = explainError(
    new UserError("a\u001b[2J\nb", { where: "x\u0007", hint: "\u009b1m" }),
  );
  assert.equal(strip(named.text), "error: x\ufffd: a\ufffd[2J\nb\nhint: \ufffd1m");
  const unknown = explainError(new TypeError("x is not a function"));
  assert.equal(unknown.exitCode, 1);
  assert.match(unknown.text, /QUERN_DEBUG=1/);
});

Deno.test("errors: what the system refuses is said in words, without a temporary file's name", () => {
  const explain = (code: string, message: string) =>
    explainError(Object.assign(new Error(message), { code })).text;
  assert.match(
    explain(
      "ENOSPC",
      "No space left on device (os error 28): writefile 'runs/a/.latest.partial-12-ab3f'",
    ),
    /runs\/a\/latest: the disk is full\n.*free some space/,
  );
  assert.match(explain("ENOSPC", "No space left on device (os error 28)"), / the disk is full\n/);
  assert.match(
    explain("EROFS", "Read-only file system (os error 30): mkdir 'ro/.d.partial-118-cf98fc2a'"),
    /ro\/d: nothing can be written here/,
  );
});

Deno.test("replay: llama.cpp 4713: a flag is not taken for the value of the option before it", async () => {
  const { tokenizeCommand } = await import("../../cli/tokenize.ts");
  const check = (...args: string[]) => refuseSwallowedFlags(tokenizeCommand(), args);
  assert.throws(() => check("a.txt", "--out", "--json"), {
    message: "option '--out' has no value: --json follows",
    hint: "if --json is the value, write --out=--json",
  });
  check("a.txt", "--out=--json", "--quiet", "--json");
  check("a.txt", "--out", "-x", "--val-fraction", "-1", "--", "--out", "--json");
});

// A wish: to know the time left. A run that goes on counts only what this process has done.
Deno.test("replay: Lightning-AI/litgpt 399: the time left follows the pace, and max_minutes", () => {
  const half = { done: 50, seconds: 100, ahead: 150 };
  assert.equal(secondsLeft(half, 0), 300);
  assert.equal(secondsLeft(half, 3), 80);
  assert.equal(secondsLeft(half, 1), 0); // over time: the last step is on its way
  assert.equal(secondsLeft({ ...half, ahead: 0 }, 0), 0);
  // half of the time went into measuring, and as much as that is ahead
  const measuring = { spent: half.seconds / 2, ahead: half.seconds / 2 };
  assert.equal(secondsLeft({ ...half, measuring }, 0), 150 + half.seconds / 2);
});
