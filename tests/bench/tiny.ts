/**
 * Trains the small siblings of the published models on tiny Shakespeare, on the cpu device, and holds each to the
 * validation loss that the first lines of its config state. `deno run -A tests/bench/tiny.ts [tinyshakespeare.txt]`
 */

import { join } from "node:path";
import { root, sharedPath, withTempDir } from "../support.ts";

const names = ["polyglu-tiny", "veronica-tiny", "neollm-tiny", "recycled-core-tiny"];
const text = Deno.args[0] ?? sharedPath("data", "tinyshakespeare.txt");

async function quern(cwd: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${root}cli/main.ts`, ...args],
    cwd,
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

if (text === undefined) {
  console.log("no tinyshakespeare.txt is here: give its path");
} else {
  await withTempDir(async (dir) => {
    const tokens = join(dir, "data", "shakespeare");
    await quern(dir, "tokenize", text, "--out", tokens, "--tokenizer", "character");
    for (const name of names) {
      const began = performance.now();
      const printed = await quern(dir, "pretrain", name, "--device", "cpu");
      const seconds = (performance.now() - began) / 1000;
      const loss = Number(printed.match(/validation loss ([\d.]+)/)?.[1]);
      const config = await Deno.readTextFile(`${root}configs/${name}.yaml`);
      const stated = Number(config.replaceAll("\n# ", " ").match(/at most ([\d.]+) nats/)?.[1]);
      const verdict = loss <= stated ? "" : ": TOO HIGH";
      console.log(
        `${name}: ${loss} nats a character, at most ${stated} is stated, ${
          seconds.toFixed(0)
        } s${verdict}`,
      );
      if (!(loss <= stated)) Deno.exitCode = 1;
    }
  });
}
