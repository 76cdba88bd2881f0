import assert from "node:assert/strict";
import { join } from "node:path";
import { checkpointBytes } from "../core/train/tiny_run.ts";
import { quern, withTempDir } from "../support.ts";
import { attempt, cpuOptions, makeProject, run, startTraining } from "./tiny_project.ts";

const auto = ["pretrain", "tiny.yaml", "--resume", "auto"];
const steps = (n: number) => ["--set", `steps=${n}`];

Deno.test("pretrain --resume auto: begins, goes on, and says when nothing is left, by one line", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const began = await run(dir, ...auto, "--out", "mine", ...steps(4));
    assert.match(began.stderr, /^mine: training 4 steps on/m);
    const wentOn = await run(dir, ...auto, "--out", "mine", ...steps(6));
    assert.match(wentOn.stderr, /^mine: going on from step 4 of 6 steps on/m);
    const bare = await run(dir, "pretrain", "--out", "mine", "--resume", "auto");
    assert.match(bare.stdout, /^mine: finished before: 6 steps are done/);

    // the shell's seed is for new runs; the config's must be the run's
    const env = { QUERN_SEED: "9" };
    const more = ["--out", "mine", ...steps(7)];
    const shell = await quern([...auto, ...more, ...cpuOptions], { cwd: dir, env });
    assert.equal(shell.code, 0, shell.stderr);
    // what the config leaves to the device stays what it was when the run began
    await run(dir, ...auto, "--out", "mine", ...steps(8), "--set", "batch_size=auto");
    assert.match(await Deno.readTextFile(join(dir, "mine/config.yaml")), /^batch_size: 4$/m);
    const other = await attempt(dir, ...auto, ...more, "--seed", "9");
    assert.equal(other.code, 2);
    assert.match(other.stderr, /^error: mine: seed cannot change within a run: it is 0, not 9$/m);
    const model = await attempt(dir, ...auto, ...more, "--set", "model.hidden_size=24");
    assert.match(model.stderr, /^error: mine: model cannot change within a run$/m);

    await Deno.mkdir(join(dir, "foreign"));
    await Deno.writeTextFile(join(dir, "foreign/notes"), "");
    const foreign = await attempt(dir, ...auto, "--out", "foreign");
    assert.equal(foreign.code, 2);
    assert.match(foreign.stderr, /foreign: it exists and is no run folder/);
    assert.deepEqual([...Deno.readDirSync(join(dir, "foreign"))].map((e) => e.name), ["notes"]);
  }));

Deno.test("pretrain --resume auto: a run that was killed before or in its first save starts over", {
  ignore: Deno.build.os === "windows",
}, () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const whole = ["--set", "log_every=1", ...steps(6)];
    await run(dir, "pretrain", "tiny.yaml", "--out", "whole", ...whole);
    const never = ["--set", "checkpoint.every=0", ...steps(1_000_000)];
    const child = await startTraining(dir, ["tiny.yaml", "--set", "log_every=1", ...never], "step");
    const early = await attempt(dir, ...auto, ...whole);
    assert.equal(early.code, 1);
    assert.match(early.stderr, new RegExp(`another process works in it: process ${child.pid} on`));
    const anew = await attempt(dir, "pretrain", "tiny.yaml");
    assert.match(anew.stderr, new RegExp(`another process works in it: process ${child.pid} on`));
    child.kill("SIGKILL");
    await child.status;
    await child.stderr.cancel();
    const checkpoints = join(dir, "runs/tiny/checkpoints");
    await Deno.mkdir(join(checkpoints, ".step-5.partial-4194305-ab"));
    await Deno.mkdir(join(dir, "runs/.tiny.partial-4194305-cd"));
    const { stderr } = await run(dir, ...auto, ...whole);
    assert.match(stderr, /^runs\/tiny: it was begun and has no checkpoint; started over$/m);
    assert.match(stderr, /removed what a stopped process left: \.step-5/);
    const tiny = join(dir, "runs/tiny");
    assert.deepEqual(await checkpointBytes(tiny, 6), await checkpointBytes(join(dir, "whole"), 6));
    const lines = (await Deno.readTextFile(join(tiny, "metrics.jsonl"))).trimEnd().split("\n");
    assert.deepEqual(lines.map((line) => JSON.parse(line).step), [1, 2, 3, 4, 5, 6, 6]);

    // a kill between the first checkpoint and the pointer to it
    await Deno.remove(join(checkpoints, "step-6"), { recursive: true });
    await Deno.remove(join(checkpoints, "latest"));
    const again = await run(dir, ...auto, ...whole);
    assert.match(again.stderr, /^runs\/tiny: going on from step 5 of 6/m);
    assert.deepEqual(await checkpointBytes(tiny, 6), await checkpointBytes(join(dir, "whole"), 6));
    await run(dir, "pretrain", "tiny.yaml", "--out", "runs/new", ...steps(1));
  }));

Deno.test("generate --checkpoint: the best, the latest, one by its step", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const keep = ["--set", "checkpoint.keep_best=1", "--set", "checkpoint.keep=0", ...steps(10)];
    await run(dir, "pretrain", "tiny.yaml", ...keep);
    const text = async (...args: string[]) =>
      (await run(dir, "generate", ...args, "What", "--seed", "1", "--max-tokens", "20")).stdout;
    const folder = "runs/tiny/checkpoints";
    const best = (await Deno.readTextFile(join(dir, folder, "best"))).trim();
    assert.equal(await text("runs/tiny", "--checkpoint", "best"), await text(`${folder}/${best}`));
    const five = await text("runs/tiny", "--checkpoint", "step-5");
    assert.equal(five, await text(`${folder}/step-5`));
    assert.notEqual(five, await text("runs/tiny", "--checkpoint", "latest"));
    const none = await attempt(dir, "generate", "runs/tiny", "--checkpoint", "step-7", "What");
    assert.equal(none.code, 1);
    assert.match(
      none.stderr,
      /runs\/tiny: it has no checkpoint step-7\nhint: there are step-5, st/,
    );
  }));

Deno.test("pretrain --resume auto: goes on from an older checkpoint where the newest is damaged", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const whole = ["--set", "checkpoint.keep=0", ...steps(10)];
    await run(dir, "pretrain", "tiny.yaml", ...whole);
    const tiny = join(dir, "runs/tiny"), checkpoints = join(tiny, "checkpoints");
    const before = await checkpointBytes(tiny, 10), damaged = join(checkpoints, "step-10");
    await Deno.writeTextFile(join(damaged, "model.safetensors"), "not whole");
    const strict = await attempt(dir, "pretrain", "--resume", "runs/tiny", ...steps(12));
    assert.equal(strict.code, 1);
    assert.match(strict.stderr, /hint: the checkpoint is damaged; use another: \S*step-5$/m);
    const { stderr } = await run(dir, ...auto, ...whole);
    assert.match(
      stderr,
      /^runs\/tiny\/checkpoints\/step-10 is damaged: model\.safetensors: has 9 bytes, .*; kept as \S*step-10\.damaged$/m,
    );
    assert.match(stderr, /^runs\/tiny: going on from step 5 of 10/m);
    assert.deepEqual(await checkpointBytes(tiny, 10), before);
    const kept = join(checkpoints, "step-10.damaged/model.safetensors");
    assert.equal(await Deno.readTextFile(kept), "not whole");
    // with nothing older that is whole, nothing is touched
    for (const step of [5, 10]) {
      await Deno.writeTextFile(join(checkpoints, `step-${step}/state.json`), "{");
    }
    const none = await attempt(dir, ...auto, ...whole);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /step-10\/state\.json: not JSON/);
    assert.ok((await Deno.stat(damaged)).isDirectory);
  }));
