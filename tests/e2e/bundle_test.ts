/**
 * The program as one file, or a few, without its sources: pool, wasm and commands must work there
 * as they do from source.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { root, withTempDir } from "../support.ts";

const config = `
model: { hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 24 }
data: { path: data }
sequence_length: 16
batch_size: 64
steps: 4
optimizer: { kind: adamw, learning_rate: { kind: constant, peak: 1.0e-3 } }
validation: { every: 4 }
log_every: 2
`;

async function run(command: string, args: string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.equal(code, 0, `${args.join(" ")} ended with ${code}: ${text(stderr)}`);
  return text(stdout);
}

for (
  const [form, args, entry] of [
    // Not minified: Deno 2.9.6 then misses the place where it gives CommonJS packages their
    // `require`.
    ["one file", ["--output", "app.js"], "app.js"],
    [
      "files that are loaded when needed",
      ["--minify", "--code-splitting", "--outdir", "app"],
      "app/main.js",
    ],
  ] as const
) {
  Deno.test(`a bundle of ${form} tokenizes, trains on two threads and generates`, async () => {
    await withTempDir(async (dir) => {
      // From the root, where the import map is; what comes out needs neither.
      const output = args.map((arg) => arg.startsWith("app") ? join(dir, arg) : arg);
      await run(Deno.execPath(), ["bundle", "--quiet", ...output, "cli/main.ts"], root);
      await Deno.writeTextFile(join(dir, "text.txt"), "the cat sat on the mat. ".repeat(400));
      await Deno.writeTextFile(join(dir, "config.yaml"), config);
      const quern = (...rest: string[]) =>
        run(Deno.execPath(), ["run", "-A", "--no-config", "--cached-only", entry, ...rest], dir);
      await quern("tokenize", "text.txt", "--out", "data", "--tokenizer", "character");
      // Enough that workers start.
      await Deno.writeTextFile(join(dir, "long.txt"), "the cat sat on the mat. ".repeat(200_000));
      await quern("tokenize", "long.txt", "--out", "long", "--threads", "2");
      await quern(
        "pretrain",
        "config.yaml",
        "--out",
        "run",
        "--device",
        "cpu",
        "--blas",
        "off",
        "--threads",
        "2",
        "--quiet",
      );
      const text = await quern(
        "generate",
        "run",
        "the ",
        "--max-tokens",
        "5",
        "--seed",
        "1",
        "--device",
        "cpu",
        "--threads",
        "2",
      );
      assert(text.length > 4, text);
    });
  });
}
