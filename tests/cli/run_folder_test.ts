import assert from "node:assert/strict";
import { join } from "node:path";
import { quern, withTempDir } from "../support.ts";
import { attempt, cpuOptions, makeProject, run, startTraining } from "./tiny_project.ts";

const endless = ["tiny.yaml", "--set", "steps=1000000", "--set", "checkpoint.every=20"];
const metricsOf = (dir: string) => Deno.readTextFile(join(dir, "runs/tiny/metrics.jsonl"));

Deno.test("pretrain: two processes do not train one run; a lock that a kill left is taken over", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const child = await startTraining(dir, endless, "checkpoint");
    const second = await attempt(dir, "pretrain", "--resume", "runs/tiny");
    assert.equal(second.code, 1);
    assert.match(
      second.stderr,
      new RegExp(`^error: runs/tiny: another process works in it: process ${child.pid} on .*`, "m"),
    );
    child.kill("SIGKILL");
    await child.status;
    await child.stderr.cancel();
    const resume = ["pretrain", "--resume", "runs/tiny", "--set"];
    const again = await startTraining(dir, ["--resume", "runs/tiny"], "step");
    again.kill("SIGINT");
    const { code } = await again.status;
    const [, step] = (await new Response(again.stderr).text()).match(/after step (\d+)/)!;
    assert.equal(code, 130);
    assert.ok(!await Deno.stat(join(dir, "runs/tiny/.lock")).catch(() => undefined));
    await run(dir, ...resume, `steps=${Number(step) + 1}`);
    await Deno.writeTextFile(
      join(dir, "runs/tiny/.lock"),
      JSON.stringify({ pid: child.pid, host: Deno.hostname(), since: "before" }),
    );
    const third = await run(dir, ...resume, `steps=${Number(step) + 2}`);
    assert.match(third.stderr, new RegExp(`process ${child.pid} was stopped .*; taken over`));
  }));

Deno.test("pretrain: a second Ctrl-C and an error leave no lock", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const child = await startTraining(dir, [...endless, "--set", "batch_size=512"], "step");
    child.kill("SIGINT");
    child.kill("SIGTERM");
    assert.equal((await child.status).code, 130);
    await child.stderr.cancel();
    const explosive = ["--set", "optimizer.learning_rate=3.0e+38", "--out", "bad"];
    assert.equal((await attempt(dir, "pretrain", "tiny.yaml", ...explosive)).code, 1);
    for (const folder of ["runs/tiny", "bad"]) {
      assert.ok(![...Deno.readDirSync(join(dir, folder))].some(({ name }) => name === ".lock"));
    }
  }));

Deno.test("pretrain: a run goes on from anywhere, though data.path was relative", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=2");
    await Deno.mkdir(join(dir, "elsewhere"));
    const { stderr } = await run(
      join(dir, "elsewhere"),
      "pretrain",
      "--resume",
      join(dir, "runs/tiny"),
      "--set",
      "steps=3",
    );
    assert.match(stderr, /data\.path data is not here; taken from where it was: .*[\\/]data$/m);
    await run(dir, "pretrain", "--resume", "runs/tiny", "--set", "steps=4"); // the relative path stays
    await Deno.rename(join(dir, "data"), join(dir, "moved"));
    const gone = await attempt(dir, "pretrain", "--resume", "runs/tiny", "--set", "steps=5");
    assert.match(gone.stderr, /^error: data: there is no such folder/m);
    const moved = ["--set", "steps=5", "--set", "data.path=moved"];
    await run(dir, "pretrain", "--resume", "runs/tiny", ...moved);
  }));

Deno.test("pretrain: a finished run says so and stays as it is; fewer steps than done are refused", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=2");
    const before = await metricsOf(dir);
    const { stdout, stderr } = await run(dir, "pretrain", "--resume", "runs/tiny");
    assert.match(stdout, /^runs\/tiny: finished before: 2 steps are done; nothing was changed$/m);
    assert.match(stderr, /quern pretrain --resume runs\/tiny --set steps=4$/m);
    const less = await attempt(dir, "pretrain", "--resume", "runs/tiny", "--set", "steps=1");
    assert.equal(less.code, 2);
    assert.match(less.stderr, /2 steps are done already, more than steps: 1/);
    assert.equal(await metricsOf(dir), before);
    assert.match(await Deno.readTextFile(join(dir, "runs/tiny/config.yaml")), /^steps: 2$/m);
  }));

Deno.test("pretrain: what a process left that was killed in its first save is removed", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=1");
    const checkpoints = join(dir, "runs/tiny/checkpoints");
    await Deno.remove(checkpoints, { recursive: true });
    await Deno.mkdir(join(checkpoints, ".step-5.partial-4194305-ab"), { recursive: true });
    const { stderr } = await attempt(dir, "pretrain", "--resume", "runs/tiny");
    assert.match(
      stderr,
      /has no checkpoint yet; removed what a stopped process left: \.step-5.*\nhint: .*resume auto/,
    );
    assert.deepEqual([...Deno.readDirSync(checkpoints)], []);
  }));

Deno.test("pretrain: seeds that contradict each other are refused, hints can be pasted", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const two = await attempt(dir, "pretrain", "tiny.yaml", "--seed", "4", "--set", "seed=5");
    assert.equal(two.code, 2);
    assert.match(two.stderr, /two seeds: --seed 4 and --set seed=5/);
    const args = [
      "pretrain",
      "tiny.yaml",
      "--out",
      "in t/h",
      "--set",
      "steps=2",
      "--set",
      "seed=5",
    ];
    const { stderr } = await quern([...args, ...cpuOptions], {
      cwd: dir,
      env: { QUERN_SEED: "4" },
    });
    assert.match(stderr, /note: the learning rate never reaches its peak/);
    assert.match(await Deno.readTextFile(join(dir, "in t/h/config.yaml")), /^seed: 5$/m);
    const again = await attempt(dir, "pretrain", "tiny.yaml", "--out", "in t/h");
    if (Deno.build.os !== "windows") assert.match(again.stderr, /--resume 'in t\/h'/);
  }));

Deno.test("pretrain: an empty folder takes a run; any other is refused before a word of the run", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await Deno.mkdir(join(dir, "run"));
    const train = ["pretrain", "tiny.yaml", "--set", "steps=1", "--out"];
    assert.match((await run(dir, ...train, "run")).stderr, /^model\.vocab_size /m);
    const again = await attempt(dir, ...train, "run");
    assert.match(again.stderr, /^error: run: it exists already\nhint: .*--resume run;.*\n$/);
    await Deno.mkdir(join(dir, "other/inside"), { recursive: true });
    const other = await attempt(dir, ...train, "other");
    assert.match(other.stderr, /^error: other: it exists already\nhint: choose another --out\n$/);
  }));

Deno.test("pretrain: a place where the system lets nothing be written is said so", {
  ignore: Deno.build.os !== "linux",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const { code, stderr } = await attempt(dir, "pretrain", "tiny.yaml", "--out", "/proc/x");
    assert.equal(code, 1);
    assert.match(stderr, /^error: \/proc\/x: nothing can be written here\nhint: choose another/m);
  }));
