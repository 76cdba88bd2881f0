import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../support.ts";
import { attempt, run } from "./tiny_project.ts";

const quick = ["--set", "steps=3", "--set", "batch_size=2", "--set", "validation.max_tokens=500"];

Deno.test("quickstart: goes the whole way and says what to try next; a second time, too", () =>
  withTempDir(async (dir) => {
    const { stdout, stderr } = await run(dir, "quickstart", ...quick);
    assert.match(stderr, /^1\. wrote runs\/quickstart\/corpus\.txt: 1\.\d+ MiB/);
    assert.match(stdout, /^held-out loss +\d\.\d{3} nats a character/);
    assert.match(stdout, /^sums never seen +\d+ of 200 right$/m);
    const next = stdout.match(/quern generate (\S+) "([^"]+)" --temperature 0/)!;
    await run(dir, "generate", next[1], next[2], "--temperature", "0", "--max-tokens", "4");
    const json = await run(dir, "quickstart", "--json", "--quiet", ...quick);
    assert.equal(json.stderr, "");
    assert.equal(JSON.parse(json.stdout).steps, 3);
  }));

Deno.test("quickstart: replaces no folder that is not its own", () =>
  withTempDir(async (dir) => {
    await Deno.mkdir(join(dir, "precious"));
    const { code, stderr } = await attempt(dir, "quickstart", "--out", "precious", ...quick);
    assert.equal(code, 2);
    assert.match(stderr, /precious: it exists and is no quickstart's folder/);
  }));
