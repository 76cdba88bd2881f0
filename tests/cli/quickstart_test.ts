import assert from "node:assert/strict";
import { join } from "node:path";
import { startQuern, withTempDir } from "../support.ts";
import { attempt, cpuOptions, run } from "./tiny_project.ts";

const quick = ["--set", "steps=3", "--set", "batch_size=2", "--set", "validation.max_tokens=500"];

Deno.test("quickstart: goes the whole way and says what to try next; a second time, too", () =>
  withTempDir(async (dir) => {
    const { stdout, stderr } = await run(dir, "quickstart", ...quick);
    assert.match(stderr, /never reaches its peak: warmup is 100, steps 3/);
    assert.match(stderr, /^1\. wrote runs\/quickstart\/corpus\.txt: 1\.\d+ MiB/);
    assert.match(stdout, /^held-out loss +\d\.\d{3} nats a character/);
    assert.match(stdout, /^sums never seen +\d+ of 200 right$/m);
    assert.match(stdout, /^its curves +\S+report\.html$/m);
    const next = stdout.match(/quern generate (\S+) "([^"]+)" --temperature 0/)!;
    await run(dir, "generate", next[1], next[2], "--temperature", "0", "--max-tokens", "4");
    const weights = "checkpoints/step-3/model.safetensors";
    const before = await Deno.readFile(join(dir, "runs/quickstart/model", weights));
    const json = await run(dir, "quickstart", "--json", "--set", "seed=2", ...quick);
    assert.match(
      json.stderr,
      /^the model that was in runs\/quickstart\/model is now runs\/quickstart\/model-1$/m,
    );
    assert.equal(JSON.parse(json.stdout).steps, 3);
    assert.deepEqual(await Deno.readFile(join(dir, "runs/quickstart/model-1", weights)), before);
  }));

Deno.test("quickstart: a slip in --set is refused before anything is written", () =>
  withTempDir(async (dir) => {
    const { code, stderr } = await attempt(dir, "quickstart", "--set", "stepz=3");
    assert.equal(code, 2);
    assert.match(stderr, /unknown key stepz\nhint: did you mean steps\?/);
    assert.deepEqual([...Deno.readDirSync(dir)], []);
  }));

Deno.test("quickstart: other data and too small a vocabulary are refused", () =>
  withTempDir(async (dir) => {
    const data = await attempt(dir, "quickstart", "--set", "data.path=elsewhere");
    assert.equal(data.code, 2);
    assert.match(
      data.stderr,
      /--set data\.path=elsewhere: quickstart trains on the text that it makes/,
    );
    assert.deepEqual([...Deno.readDirSync(dir)], []);
    const small = await attempt(dir, "quickstart", ...quick, "--set", "model.vocab_size=10");
    assert.equal(small.code, 2);
    assert.match(small.stderr, /model\.vocab_size: the data have \d+ tokens, the model only 10/);
  }));

Deno.test("quickstart: Ctrl-C before and after the training says so, too", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (cwd) => {
    const stopAt = async (line: RegExp, args: string[]) => {
      const child = startQuern(["quickstart", ...cpuOptions, ...args], { cwd });
      let told = "";
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
        const before = told;
        told += text;
        if (line.test(told) && !line.test(before)) child.kill("SIGINT");
      }
      await child.stdout.cancel();
      assert.equal((await child.status).code, 130, told);
      return told;
    };
    const early = await stopAt(/^1\. wrote/m, quick);
    assert.match(early, /^note: interrupted before the training\nhint: .*begins again/m);
    const late = await stopAt(/step 3: validation loss/, quick);
    assert.match(late, /^note: interrupted after .*\nhint: /m);
    assert.ok(![...Deno.readDirSync(join(cwd, "runs/quickstart"))].some((e) => e.name === ".lock"));
  }));

Deno.test("quickstart: Ctrl-C saves and says how to go on", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (cwd) => {
    const args = [
      "quickstart",
      "--out",
      "a b",
      ...cpuOptions,
      "--set",
      "validation.max_tokens=500",
    ];
    const child = startQuern(args, { cwd });
    const metrics = join(cwd, "a b/model/metrics.jsonl");
    while (!(await Deno.readTextFile(metrics).catch(() => ""))) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill("SIGINT");
    const { code, stderr } = await child.output();
    assert.equal(code, 130);
    assert.match(
      new TextDecoder().decode(stderr),
      /interrupted after step \d+; everything is saved\nhint: .* --resume 'a b\/model'/,
    );
    await run(cwd, "pretrain", "--resume", "a b/model", "--set", "steps=1000000", "--dry-run");
  }));

Deno.test("quickstart: replaces no folder that is not its own", () =>
  withTempDir(async (dir) => {
    await Deno.mkdir(join(dir, "precious"));
    await Deno.writeTextFile(join(dir, "precious/mine.txt"), "mine");
    const { code, stderr } = await attempt(dir, "quickstart", "--out", "precious", ...quick);
    assert.equal(code, 2);
    assert.match(stderr, /precious: it exists and is no quickstart's folder/);
    await Deno.remove(join(dir, "precious/mine.txt"));
    await Deno.writeTextFile(join(dir, "precious/corpus.txt"), "mine");
    const text = await attempt(dir, "quickstart", "--out", "precious", ...quick);
    assert.equal(text.code, 2);
    assert.match(text.stderr, /precious\/corpus\.txt: this is not the text that quickstart writes/);
    assert.equal(await Deno.readTextFile(join(dir, "precious/corpus.txt")), "mine");
  }));
