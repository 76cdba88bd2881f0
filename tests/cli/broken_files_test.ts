import assert from "node:assert/strict";
import { join } from "node:path";
import { startQuern, withTempDir } from "../support.ts";
import { attempt, cpuOptions, makeProject, run, startTraining } from "./tiny_project.ts";

const onUnix = { ignore: Deno.build.os === "windows" };
const endless = ["tiny.yaml", "--set", "steps=1000000", "--set", "checkpoint.every=20"];

/** What a process that must fail said at its end. */
async function failureOf(child: Deno.ChildProcess): Promise<string> {
  const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assert.equal(code, 1, stderr);
  return stderr;
}

Deno.test(
  "pretrain: a shard that is cut while it is read is named; the run goes on when it is whole",
  onUnix,
  () =>
    withTempDir(async (dir) => {
      await makeProject(dir);
      const shard = join(dir, "data/train-00000.bin"), whole = await Deno.readFile(shard);
      const child = await startTraining(dir, endless, "checkpoint");
      await Deno.truncate(shard, 1000);
      assert.match(
        await failureOf(child),
        /^error: data\/train-00000\.bin: it became shorter while it was read\nhint: the data is damaged/m,
      );
      const cut = await attempt(dir, "pretrain", "--resume", "runs/tiny");
      assert.match(cut.stderr, /train-00000\.bin: has 1000 bytes, the index says \d+\nhint: /);
      assert.equal(cut.code, 1);
      await Deno.writeFile(shard, whole);
      // one that is removed stays open
      const again = await startTraining(dir, ["--resume", "runs/tiny"], "checkpoint");
      await Deno.remove(shard);
      again.kill("SIGINT");
      assert.equal((await again.status).code, 130);
      await again.stderr.cancel();
      const gone = await attempt(dir, "pretrain", "--resume", "runs/tiny");
      assert.match(gone.stderr, /data\/train-00000\.bin: there is no such file or folder/);
      assert.equal(gone.code, 1);
    }),
);

Deno.test(
  "pretrain: a run's folder that vanishes is said, and no husk of it appears",
  onUnix,
  () =>
    withTempDir(async (dir) => {
      await makeProject(dir);
      for (const every of ["log_every=1", "log_every=1000000"]) {
        const child = await startTraining(dir, [...endless, "--set", every], "checkpoint");
        await Deno.rename(join(dir, "runs/tiny"), join(dir, "moved"));
        assert.match(await failureOf(child), /^error: runs\/tiny: the run's folder vanished/m);
        assert.deepEqual([...Deno.readDirSync(join(dir, "runs"))], []);
        await Deno.remove(join(dir, "moved"), { recursive: true });
      }
    }),
);

Deno.test(
  "pretrain --resume auto: of two at once one trains, the other says who does",
  onUnix,
  () =>
    withTempDir(async (dir) => {
      await makeProject(dir);
      const both = (steps: number) =>
        Promise.all([1, 2].map(async () => {
          const args = ["pretrain", "tiny.yaml", "--resume", "auto", "--set", `steps=${steps}`];
          const { code, stderr } = await startQuern([...args, ...cpuOptions], { cwd: dir })
            .output();
          return { code, stderr: new TextDecoder().decode(stderr) };
        }));
      for (const steps of [300, 600]) { // one that begins, one that goes on
        const ends = (await both(steps)).toSorted((a, b) => a.code - b.code);
        assert.deepEqual(ends.map(({ code }) => code), [0, 1], ends.map((e) => e.stderr).join());
        assert.match(
          ends[1].stderr,
          /^error: runs\/tiny: another process works in it: process \d+ on/m,
        );
      }
      const metrics = await Deno.readTextFile(join(dir, "runs/tiny/metrics.jsonl"));
      const steps = metrics.trimEnd().split("\n").map((line) => JSON.parse(line))
        .flatMap(({ loss, step }) => loss === undefined ? [] : [step]);
      assert.deepEqual(steps, Array.from({ length: 120 }, (_, i) => 5 * (i + 1)));
    }),
);

Deno.test("pretrain: a folder where a file is expected is said in one line with its place", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await run(dir, "pretrain", "tiny.yaml", "--set", "steps=10");
    const checkpoint = "checkpoints/step-10", another = /damaged; use another: .*step-5$/m;
    for (
      const [file, hint] of [
        [`${checkpoint}/state.json`, another],
        [`${checkpoint}/model.safetensors`, another],
        ["metrics.jsonl", /$/],
        ["checkpoints/latest", /$/],
      ] as const
    ) {
      const path = join(dir, "runs/tiny", file);
      await Deno.rename(path, `${path}.aside`);
      await Deno.mkdir(path);
      const { code, stderr } = await attempt(
        dir,
        "pretrain",
        "tiny.yaml",
        "--resume",
        "auto",
        "--set",
        "steps=11",
      );
      assert.equal(code, 1);
      assert.ok(stderr.includes(`${join("runs/tiny", file)}: this is a folder, a file is`), stderr);
      assert.match(stderr, hint);
      await Deno.remove(path);
      await Deno.rename(`${path}.aside`, path);
    }
    await run(dir, "pretrain", "--resume", "runs/tiny", "--set", "steps=11");
  }));
