/**
 * How commands behave in terminals of any width, in pipes, and when nobody reads on.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { builtinConfigs } from "../../cli/builtin_configs.ts";
import { columnsOf, cutToWidth, displayWidth, fold } from "../../cli/ui/terminal.ts";
import { content, startHub } from "../hub.ts";
import { quern, withTempDir } from "../support.ts";
import { hasScript, onTerminal, sh } from "./terminal.ts";

Deno.test("terminal: a text takes the columns that a terminal gives it", () => {
  assert.equal(displayWidth("abc"), 3);
  assert.equal(displayWidth("日本語"), 6);
  assert.equal(displayWidth("e\u0301"), 1);
  assert.equal(displayWidth("👩‍🔬🇩🇪"), 4);
  assert.equal(displayWidth("naïve – …"), 9);
});

Deno.test("terminal: a line is cut to any width, never within a character", () => {
  assert.equal(cutToWidth("12 %  a long name", 8), "12 %  a…");
  assert.equal(cutToWidth("日本語", 4), "日…");
  assert.equal(cutToWidth("a\nb\u001b[2J", 80), "a b [2J");
  const text = fc.string({ unit: "grapheme", maxLength: 30 });
  fc.assert(fc.property(text, fc.integer({ min: 0, max: 40 }), (text, columns) => {
    const cut = cutToWidth(text, columns);
    assert.ok(displayWidth(cut) <= columns);
    assert.doesNotMatch(cut, /\p{Cc}/u);
    assert.ok(cut.isWellFormed());
  }));
});

Deno.test("terminal: folded lines fit, and lose no word", () => {
  assert.equal(fold("name  what it is for", 14), "name  what it\n      is for");
  assert.equal(fold("  one two three", 9), "  one two\n  three");
  const word = fc.stringMatching(/^[a-z語]{1,12}$/u);
  const line = fc.array(fc.tuple(fc.constantFrom(" ", "  ", "   "), word), { maxLength: 12 });
  fc.assert(fc.property(line, fc.integer({ min: 1, max: 60 }), (parts, columns) => {
    const text = parts.flat().join("");
    const folded = fold(text, columns);
    assert.deepEqual(folded.match(/\S+/g), text.match(/\S+/g));
    for (const line of folded.split("\n")) {
      assert.ok(displayWidth(line) <= columns || !line.trim().includes(" "), folded);
    }
    assert.equal(fold(text, 1000), text);
  }));
});

Deno.test("terminal: a pipe has no width; COLUMNS is heeded where it is one", () => {
  assert.equal(columnsOf({ columns: 100 }), undefined);
  const before = Deno.env.get("COLUMNS");
  try {
    for (const [value, columns] of [["33", 33], ["", 100], ["wide", 100], ["-5", 100]] as const) {
      Deno.env.set("COLUMNS", value);
      assert.equal(columnsOf({ isTTY: true, columns: 100 }), columns);
    }
    assert.equal(columnsOf({ isTTY: true, columns: 0 }), 80);
  } finally {
    if (before === undefined) Deno.env.delete("COLUMNS");
    else Deno.env.set("COLUMNS", before);
  }
});

/** The texts that stood in a line of their own, redrawn or not. */
// deno-lint-ignore no-control-regex -- the sequence that clears a line
const linesOf = (output: string) => output.split(/\r\x1b\[2K|\n/);

Deno.test({
  name: "terminal: the live line and tables fit into 20 and 40 columns",
  ignore: !hasScript,
  fn: async () => {
    await withTempDir(async (cwd) => {
      const name = `${"long-name-".repeat(10)}日本語.txt`;
      await Deno.writeTextFile(`${cwd}/${name}`, "to be or not to be\n".repeat(50_000));
      for (const columns of [20, 40]) {
        const run = `quern tokenize ${name} --out d${columns}`;
        const output = await onTerminal(run, { cwd, columns });
        const live = linesOf(output).filter((line) => line.startsWith("tokenizing"));
        assert.ok(live.length > 0, output);
        for (const line of live) assert.ok(displayWidth(line) < columns, line);
      }
      const list = await onTerminal("quern config list", { cwd, columns: 40 });
      assert.ok(linesOf(list).length > 4);
      for (const line of linesOf(list)) assert.ok(displayWidth(line) <= 40, line);
      const help = await onTerminal("quern --help", { cwd, columns: 100, env: { COLUMNS: "40" } });
      const commands = help.slice(help.indexOf("Commands:"), help.indexOf("Examples:"));
      for (const line of linesOf(commands)) assert.ok(displayWidth(line) <= 40, line);
    });
  },
});

Deno.test({
  name: "terminal: the live line says how far a measurement is",
  ignore: !hasScript,
  fn: async () => {
    await withTempDir(async (cwd) => {
      await Deno.writeTextFile(`${cwd}/a.txt`, "to be or not to be\n".repeat(30_000));
      const config = {
        model: {
          hidden_size: 32,
          num_hidden_layers: 1,
          num_attention_heads: 2,
          intermediate_size: 64,
        },
        data: { path: "d" },
        sequence_length: 64,
        batch_size: 8,
        steps: 2,
        optimizer: { kind: "adamw", learning_rate: 0.01 },
        averages: { ema: { decay: 0.9 } },
      };
      await Deno.writeTextFile(`${cwd}/c.yaml`, JSON.stringify(config));
      const on = "--device cpu --blas off --threads 1";
      const output = await onTerminal(
        `quern tokenize a.txt --out d --val-fraction 0.5 --quiet; quern pretrain c.yaml ${on}`,
        { cwd, columns: 80 },
      );
      for (const what of ["", " ema of the weights"]) {
        const line = new RegExp(`^step 2: measuring${what} (\\d+) %$`);
        const parts = linesOf(output).flatMap((text) =>
          text.match(line)?.slice(1).map(Number) ?? []
        );
        assert.ok(parts.length > 0 && parts.every((part) => part <= 100), output);
      }
    });
  },
});

Deno.test({
  name: "terminal: colour is for terminals, unless NO_COLOR forbids it; TERM=dumb gets plain lines",
  ignore: !hasScript,
  fn: async () => {
    await withTempDir(async (cwd) => {
      const slip = (env: Record<string, string>) =>
        onTerminal("quern config show nothing", { cwd, columns: 80, env });
      // deno-lint-ignore no-control-regex -- red
      assert.match(await slip({}), /^\x1b\[31merror:\x1b\[39m nothing: quern carries no/);
      assert.match(
        await slip({ NO_COLOR: "1" }),
        /^error: nothing: quern carries no.*\nhint: quern/,
      );
      await Deno.writeTextFile(`${cwd}/a.txt`, "to be or not to be\n".repeat(100));
      const run = "quern tokenize a.txt --out d";
      const output = await onTerminal(run, { cwd, columns: 80, env: { TERM: "dumb" } });
      // deno-lint-ignore no-control-regex -- anything that moves a cursor
      assert.doesNotMatch(output, /\x1b|\r/);
    });
  },
});

Deno.test("pipes: neither colour nor carriage returns, whatever is said", async () => {
  await withTempDir(async (cwd) => {
    await using hub = startHub({
      "models/o/m": { files: { "w.bin": { content: content(100_000), lfs: true } } },
    });
    hub.faults.set("w.bin", [{ kind: "break", after: 50_000 }]);
    await Deno.writeTextFile(`${cwd}/a.txt`, "to be or not to be\n".repeat(100));
    const env = { NO_COLOR: "", HF_ENDPOINT: hub.endpoint, HF_HOME: cwd, NO_PROXY: "127.0.0.1" };
    const outputs = await Promise.all([
      quern(["fetch", "o/m"], { cwd, env }),
      quern(["tokenize", "a.txt", "--out", "d"], { cwd, env }),
      quern(["config", "show", "nothing"], { cwd, env }),
      quern(["config", "list"], { cwd, env: { ...env, COLUMNS: "20" } }),
    ]);
    assert.match(outputs[0].stderr, /again in/);
    // deno-lint-ignore no-control-regex -- anything that moves a cursor
    for (const { stdout, stderr } of outputs) assert.doesNotMatch(stdout + stderr, /\x1b|\r/);
    const lines = outputs[3].stdout.trimEnd().split("\n");
    assert.equal(lines.length, builtinConfigs.length); // a line each
  });
});

Deno.test({
  name: "pipes: a command whose reader has gone ends quietly, its work done",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await withTempDir(async (cwd) => {
      await Deno.writeTextFile(`${cwd}/a.txt`, "to be or not to be\n".repeat(100));
      const runs = {
        "config list": "0",
        "--help": "0",
        "config show shakespeare-char": "0",
        "tokenize a.txt --out d": "0",
        "tokenize nothing.txt --out e": "2",
      };
      const results = await Promise.all(
        Object.keys(runs).flatMap((args, i) =>
          // the reader has ended long before quern writes; once with stderr in the same pipe
          [["", "a"], [" 2>&1", "b"]].map(([redirection, letter]) =>
            sh(
              `{ quern ${
                args.replace("--out d", `--out d${letter}`)
              }${redirection}; echo $? >code${i}${letter}; } | true
               cat code${i}${letter}`,
              cwd,
            )
          )
        ),
      );
      const codes = results.map(({ stdout }) => stdout.trim());
      assert.deepEqual(codes, Object.values(runs).flatMap((code) => [code, code]));
      const said = results.map(({ stderr }) => stderr).join("");
      assert.match(said, /^error: nothing\.txt: there is no such file\n(hint: .*\n)?$/);
      for (const letter of ["a", "b"]) await Deno.stat(`${cwd}/d${letter}/index.json`);
    });
  },
});
