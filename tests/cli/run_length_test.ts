import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run, tinyYaml } from "./tiny_project.ts";

Deno.test("quern pretrain: max_tokens gives the steps, ends the run, and a larger one makes it go on", () =>
  withTempDir(async (dir) => {
    await makeProject(dir); // 128 tokens an update
    const byTokens = tinyYaml.replace("steps: 20", "max_tokens: 1.1k tokens")
      .replace("warmup: 2", "warmup: 20%").replace("every: 5", "every: 40%");
    await Deno.writeTextFile(join(dir, "tokens.yaml"), byTokens);
    const first = await run(dir, "pretrain", "tokens.yaml");
    assert.match(first.stderr, /^steps 9 = max_tokens \/ \(batch_size × sequence_length\)$/m);
    assert.match(first.stderr, /training 9 steps on cpu/);
    assert.match(first.stdout, /^runs\/tokens: step 9 \(max_tokens\), /m);
    const names = Array.from(Deno.readDirSync(join(dir, "runs/tokens/checkpoints")), (f) => f.name);
    assert.deepEqual(names.sort(), ["latest", "step-7", "step-9"]);
    const again = await run(dir, "pretrain", "--resume", "runs/tokens");
    const [, more] = again.stderr.match(/--set '(max_tokens=2\.2k tokens)'$/m)!;
    const longer = await run(dir, "pretrain", "--resume", "runs/tokens", "--set", more);
    assert.match(longer.stdout, /step 18 \(max_tokens\)/);
    const both = ["--set", "max_tokens=300", "--out", "both"];
    const sooner = await run(dir, "pretrain", "tiny.yaml", ...both);
    assert.match(sooner.stderr, /^note: max_tokens ends the run after step 3; .* 20 steps$/m);
    assert.match(sooner.stdout, /^both: step 3 \(max_tokens\), /m);
  }));

Deno.test("quern pretrain: with max_minutes alone nothing may depend on how long the run is", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const timed = tinyYaml.replace("steps: 20", "max_minutes: 0.01");
    const constant = timed.replace(/learning_rate:.*/, "learning_rate: 0.01");
    await Deno.writeTextFile(join(dir, "timed.yaml"), timed);
    await Deno.writeTextFile(join(dir, "constant.yaml"), constant);
    const refused = await attempt(dir, "pretrain", "timed.yaml");
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /^error: timed\.yaml:14:18: optimizer\.learning_rate: this needs/);
    const part = await attempt(dir, "pretrain", "constant.yaml", "--set", "log_every=10%");
    assert.match(part.stderr, /log_every: this needs the length of the run: give steps or max_tok/);
    const dry = await run(dir, "pretrain", "constant.yaml", "--dry-run");
    assert.match(dry.stdout, /^the run +as many updates as 0\.60 s \(max_minutes\) allow$/m);
    const trained = await run(dir, "pretrain", "constant.yaml");
    assert.match(trained.stderr, /training for 0\.60 s on cpu/);
    assert.match(trained.stdout, /^runs\/constant: step \d+ \(max_minutes\), /m);
    await Deno.writeTextFile(join(dir, "none.yaml"), tinyYaml.replace("steps: 20", ""));
    const none = await attempt(dir, "pretrain", "none.yaml");
    assert.match(none.stderr, /steps: how long is the run\? steps, max_tokens or max_minutes/);
  }));

Deno.test("quern pretrain: stages are planned, announced and checked", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const stages = "stages:\n  - { from: 50%, sequence_length: 64, batch_size: 2 }\n" +
      "  - { from: 30 steps, accumulation: 2 }\n";
    await Deno.writeTextFile(join(dir, "staged.yaml"), tinyYaml + stages);
    const { stdout } = await run(dir, "pretrain", "staged.yaml", "--dry-run");
    assert.match(stdout, /^ {2}from step 0 +4 rows of 32: 128 tokens, .* dispatches, \S+ .iB$/m);
    assert.match(stdout, /^ {2}from step 30 +2 rows of 64 in 2 parts: 128 tokens, /m);
    assert.match(stdout, /^ {2}validation +rows of 64 in all of them$/m);
    assert.match(stdout, /^model\.max_position_embeddings 64 = the longest sequence_length/m);
    assert.match(stdout, /^note: stages\.1 never begins: from 30 steps is step 30, .* at 20$/m);
    const json = await run(dir, "pretrain", "staged.yaml", "--dry-run", "--json");
    const { stages: planned, tokens } = JSON.parse(json.stdout);
    assert.deepEqual(planned.map(({ from }: { from: number }) => from), [0, 10, 30]);
    assert.equal(tokens, 2560);
    const { stderr } = await run(dir, "pretrain", "staged.yaml");
    assert.match(stderr, /^step 10: from here on 2 rows of 64 an update$/m);
    const bad = await attempt(dir, "pretrain", "staged.yaml", "--set", "stages.1.accumulation=3");
    assert.match(bad.stderr, /stages\.1\.accumulation: 2 rows \(batch_size\) cannot be done in 3/);
    await Deno.writeTextFile(join(dir, "bad.yaml"), tinyYaml + stages.replace("30 steps", "20%"));
    const order = await attempt(dir, "pretrain", "bad.yaml");
    assert.match(
      order.stderr,
      /^error: bad\.yaml:19:13: stages\.1\.from: this is before the stage/,
    );
  }));
