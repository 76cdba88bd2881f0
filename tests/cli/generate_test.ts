import assert from "node:assert/strict";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

/** A folder with a model that was trained for a moment, and `quern generate` on it. */
async function withRun(
  use: (tools: {
    dir: string;
    generate: (...args: string[]) => ReturnType<typeof run>;
    refused: (...args: string[]) => ReturnType<typeof attempt>;
  }) => Promise<void>,
): Promise<void> {
  await withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=10", "--quiet");
    await use({
      dir,
      generate: (...args) => run(dir, "generate", "runs/tiny", ...args),
      refused: (...args) => attempt(dir, "generate", "runs/tiny", ...args),
    });
  });
}

const linesOf = (stdout: string) =>
  stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);

Deno.test("generate --stop: ends before the text, which may be given more than once", () =>
  withRun(async ({ generate }) => {
    const options = ["On", "--temperature", "3", "--max-tokens", "20", "--seed", "3"];
    const { stdout } = await generate(...options);
    const text = stdout.slice(2, -1), stop = text.slice(5, 7).replaceAll("\n", "\\n");
    const wanted = `On${text.slice(0, text.indexOf(text.slice(5, 7)))}\n`;
    const stopped = await generate(...options, "--stop", "never there", "--stop", stop);
    assert.equal(stopped.stdout, wanted);
    const json = linesOf((await generate(...options, "--json", "--stop", stop)).stdout);
    assert.equal(`On${json.map(({ text }) => text).join("")}\n`, wanted);
    assert.equal(json.at(-1)!.reason, "stop");
  }));

// llama.cpp 4713: the flag after the stop text's flag was swallowed.
Deno.test("replay: llama.cpp 4713: --stop --json is refused with the way to write it", async () => {
  const { code, stderr } = await attempt(".", "generate", "runs/none", "x", "--stop", "--json");
  assert.equal(code, 2);
  assert.match(stderr, /option '--stop' has no value: --json follows\nhint: .* --stop=--json$/m);
  const empty = await attempt(".", "generate", "runs/none", "x", "--stop", "");
  assert.equal(empty.code, 2);
});
