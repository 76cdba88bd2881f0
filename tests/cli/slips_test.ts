/**
 * What a user may get wrong: each slip is one clear line, what to do, and the right exit code.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { wholeNumber } from "../../cli/options.ts";
import { fieldOption } from "../../cli/reading_options.ts";
import { explainError } from "../../cli/ui/errors.ts";
import { loadTokenizer } from "../../core/text/load.ts";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run, tinyYaml } from "./tiny_project.ts";

Deno.test("slips: numbers that are no numbers, too large, or nothing", () => {
  assert.throws(() => wholeNumber(1)("99999999999999999999"), /Too large/);
  assert.throws(() => wholeNumber(1)("1.5"), /Not a whole number of at least 1/);
  for (const text of ["NaN", "Infinity", "1e999", "", "0x10", "1 "]) {
    assert.throws(() => wholeNumber(1)(text), /Not a number/, text);
  }
  assert.throws(() => fieldOption().parseArg!("", undefined), /may not be empty/);
});

Deno.test("slips: an array that the engine cannot make is out of memory", () => {
  const failure = (make: () => unknown) => {
    try {
      make();
    } catch (error) {
      return explainError(error);
    }
    throw new Error("it could be made");
  };
  for (const make of [() => new ArrayBuffer(2 ** 50), () => new Float64Array(2 ** 50)]) {
    const { text, exitCode } = failure(make);
    assert.equal(exitCode, 4);
    assert.match(
      text,
      /out of memory: .*\n.*hint:.* make the model, the rows or the batch smaller$/,
    );
  }
  assert.equal(failure(() => "a".repeat(-1)).exitCode, 1); // a fault of quern, not of the memory
});

Deno.test("slips: a tokenizer's file that is none, or not there", () =>
  withTempDir(async (dir) => {
    const file = join(dir, "a.yaml");
    await Deno.writeTextFile(file, "model:\n  hidden_size: 3\n");
    await assert.rejects(loadTokenizer(file), (error: Error) => {
      assert.match(error.message, /^not JSON: .*$/);
      return true;
    });
    await assert.rejects(loadTokenizer(dir), { hint: /copy it from there/ });
    await assert.rejects(loadTokenizer(join(dir, "none")), { hint: /give byte, character, or/ });
  }));

Deno.test("slips: a config with what is no number, nothing where a number belongs, or no text", () =>
  withTempDir(async (dir) => {
    const wrong = async (text: string | Uint8Array, ...args: string[]) => {
      const file = join(dir, "a.yaml");
      if (typeof text === "string") await Deno.writeTextFile(file, text);
      else await Deno.writeFile(file, text);
      const { code, stdout, stderr } = await attempt(dir, "pretrain", "a.yaml", ...args);
      assert.equal(code, 2);
      assert.equal(stdout, "");
      return stderr;
    };
    const none = tinyYaml.replace("batch_size: 4", "");
    assert.match(
      await wrong(none),
      /^error: a\.yaml:2:1: batch_size: missing \(a number or auto\)$/m,
    );
    assert.match(
      await wrong(tinyYaml, "--set", "steps=.nan"),
      /^error: --set steps=\.nan: steps: expected a number, found NaN$/m,
    );
    assert.match(
      await wrong(Uint8Array.of(97, 58, 10, 255)),
      /^error: a\.yaml:2: not valid UTF-8: byte 0xff at offset 3 of the file\nhint: convert it/,
    );
  }));

Deno.test("slips: generate from what is no run, from one that lacks a file, with too large a batch", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=1", "--quiet");
    const refused = async (code: number, ...args: string[]) => {
      const found = await attempt(dir, "generate", ...args);
      assert.equal(found.code, code, found.stderr);
      assert.equal(found.stdout, "");
      return found.stderr;
    };
    assert.match(
      await refused(2, "runs", "On"),
      /^error: runs: neither a run folder nor a checkpoint\nhint: give the folder that quern pretrain/,
    );
    const huge = ["runs/tiny", "On", "--n", "1000000000000", "--batch", "1000000000", "--quiet"];
    assert.match(
      await refused(4, ...huge),
      /^error: 1,000,000,000 continuations at once do not fit: .*\nhint: use a smaller --batch\n$/,
    );
    await Deno.remove(join(dir, "runs/tiny/tokenizer.json"));
    assert.match(
      await refused(2, "runs/tiny", "On"),
      /^error: runs\/tiny\/tokenizer\.json: there is no such tokenizer file\nhint: .* copy it/,
    );
  }));
