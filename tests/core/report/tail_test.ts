import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { writeFileAtomic } from "../../../core/io/atomic.ts";
import { recordIn, scalarsIn } from "../../../core/report/records.ts";
import { followLines } from "../../../core/report/tail.ts";
import { withTempDir } from "../../support.ts";

/** A file, and the lines that were read of it. */
function followed(path: string) {
  const lines: string[] = [];
  const read = followLines(path, {
    line: (text) => void lines.push(text),
    restart: () => void lines.splice(0),
  });
  return { lines, read };
}

Deno.test("report: a growing file is read line by line, however its bytes arrive", () =>
  withTempDir(async (dir) => {
    let count = 0;
    const pieces = fc.array(fc.string({ unit: "grapheme", maxLength: 9 }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.array(fc.nat(), { maxLength: 8 }), async (texts, cuts) => {
        const all = texts.map((text) => `${text.replaceAll("\n", "")}\n`).join("");
        const bytes = new TextEncoder().encode(`${all}half`);
        const path = join(dir, String(count++)), { lines, read } = followed(path);
        const ends = [
          ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b),
          bytes.length,
        ];
        let from = 0;
        for (const end of ends) {
          await Deno.writeFile(path, bytes.subarray(from, end), { append: true });
          await read();
          from = end;
        }
        assert.deepEqual(
          lines,
          all.split("\n").slice(0, -1),
        );
        assert.equal(await read(), false);
      }),
      { numRuns: 40 },
    );
  }));

Deno.test("report: a file that was cut back, replaced, removed or is not there yet is read anew", () =>
  withTempDir(async (dir) => {
    const path = join(dir, "metrics.jsonl"), { lines, read } = followed(path);
    assert.equal(await read(), false);
    await Deno.writeTextFile(path, "1\n2\n3\n");
    assert.equal(await read(), true);
    await writeFileAtomic(path, "1\n2\n"); // as a run that goes on cuts it
    assert.equal(await read(), true);
    assert.deepEqual(lines, ["1", "2"]);
    await Deno.writeTextFile(path, "4\n", { append: true });
    await read();
    assert.deepEqual(lines, ["1", "2", "4"]);
    await writeFileAtomic(path, "a\nb\nc\nd\n"); // longer than before, and another one
    await read();
    assert.deepEqual(lines, ["a", "b", "c", "d"]);
    await Deno.truncate(path, 2);
    await read();
    assert.deepEqual(lines, ["a"]);
    await Deno.remove(path);
    assert.equal(await read(), true);
    assert.deepEqual(lines, []);
  }));

Deno.test("report: a line that is longer than what is read at once is one line", () =>
  withTempDir(async (dir) => {
    const long = "x".repeat(2_500_000), path = join(dir, "long"), { lines, read } = followed(path);
    await Deno.writeTextFile(path, `${long}\nshort\n`);
    await read();
    assert.ok(lines.length === 2 && lines[0] === long && lines[1] === "short");
  }));

Deno.test("report: a record's numbers have names; what JSON writes as null was not finite", () => {
  const line = JSON.stringify({
    step: 5,
    loss: NaN,
    "router.alpha": [0.25, 0.75],
    tokens_by_source: { math: 7 },
    validation_by_source: { "a/b": { validation_loss: 2 } },
    router_health: { min_share: "branch 0 starves" },
  });
  assert.deepEqual(scalarsIn(recordIn(line)!), [
    ["loss", NaN],
    ["router.alpha/0", 0.25],
    ["router.alpha/1", 0.75],
    ["tokens_by_source/math", 7],
    ["validation_by_source/a/b/validation_loss", 2],
  ]);
  const average = recordIn('{"step":9,"weights":"ema","validation_loss":1.5}')!;
  assert.deepEqual(scalarsIn(average), [["ema/validation_loss", 1.5]]);
  for (const broken of ["", "{", "null", "3", '{"step":"1"}', "[1]"]) {
    assert.equal(recordIn(broken), undefined);
  }
});
