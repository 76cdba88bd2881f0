import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

Deno.test("quern eval --bits-per-byte: a text's, for people and as JSON; what cannot be is said", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--out", "run", "--quiet");
    const lines = (await Deno.readTextFile(join(dir, "run/metrics.jsonl"))).trim().split("\n");
    const { bits_per_byte } = JSON.parse(lines.at(-1)!);
    const json = await run(dir, "eval", "run", "--bits-per-byte", "data", "--json", "--quiet");
    const found = JSON.parse(json.stdout);
    assert.equal(json.stderr, "");
    assert.ok(Math.abs(found.bits_per_byte - bits_per_byte) < 1e-6);
    assert.deepEqual([found.counting, found.context, found.stride], ["once", 32, 32]);

    await Deno.writeTextFile(join(dir, "some.txt"), "To be, or not to be.\nThat is it");
    const text = await run(dir, "eval", "run", "--bits-per-byte", "some.txt", "--stride", "8");
    assert.match(text.stdout, /^bits per byte +\d+\.\d{4} {2}31 bytes$/m);
    assert.match(text.stdout, /^word perplexity .* 9 words$/m);
    assert.match(
      text.stdout,
      /every token once, windows of 32 that move by 8, each document alone/,
    );
    assert.match(text.stderr, /measured in .* tokens\/s/);

    const refused: readonly (readonly [RegExp, ...string[]])[] = [
      [/nothing to measure\nhint: .*--bits-per-byte FILE/],
      [/--limit does nothing here: it goes with --tasks/, "--bits-per-byte", "a.txt", "--limit=1"],
      [/nope\.txt: there is no such file/, "--bits-per-byte", "nope.txt"],
      [/--context: the model reads 32 tokens at most/, "--bits-per-byte", "data", "--context=64"],
    ];
    for (const [message, ...args] of refused) {
      const { code, stderr } = await attempt(dir, "eval", "run", ...args);
      assert.equal(code, 2);
      assert.match(stderr, message);
    }
  }));
