import assert from "node:assert/strict";
import { join } from "node:path";
import { parseBytes } from "../../cli/options.ts";
import { quern, root, withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

const llama = `${root}configs/llama-5m.yaml`;
/** No adapter is found with these. */
const noGpu = { DENO_WEBGPU_BACKEND: Deno.build.os === "windows" ? "metal" : "dx12" };

Deno.test("pretrain --dry-run --memory: says whether a card that is not here can hold the run, and what fits it", () =>
  withTempDir(async (cwd) => {
    const dry = (...args: string[]) =>
      quern(["pretrain", llama, "--dry-run", "--device", "webgpu", ...args], { cwd, env: noGpu });
    const unknown = await dry("--json");
    const { fits, device_bytes, limits_of } = JSON.parse(unknown.stdout);
    assert.deepEqual([fits, device_bytes, limits_of], [null, null, "assumed"]);
    const large = await dry("--memory", "24GB", "--json");
    assert.equal(large.code, 0, large.stderr);
    const found = JSON.parse(large.stdout);
    assert.deepEqual([found.fits, found.device_bytes], [true, 24e9]);

    const small = await dry("--memory", "200MiB", "--json");
    assert.equal(small.code, 4);
    assert.equal(JSON.parse(small.stdout).fits, false);
    const [, rows] = small.stderr.match(
      /^error: the run needs 3.. MiB, and 190 MiB may be used of 200 MiB, as --memory says\nhint: use batch_size (\d) or less/,
    )!;
    const smaller = await dry("--memory", "200MiB", "--set", `batch_size=${rows}`);
    assert.equal(smaller.code, 0, smaller.stderr);
    assert.match(smaller.stdout, /^memory on webgpu +1\d\d MiB {2}of 200 MiB, as --memory says$/m);

    const auto = ["--set", "batch_size=auto"], nobody = await dry(...auto);
    assert.equal(nobody.code, 2);
    assert.match(nobody.stderr, /no device is here to say what does\nhint: .*--memory 24GB/);
    const fitted = await dry(...auto, "--memory", "1GiB");
    assert.match(
      fitted.stdout,
      /^batch_size (8|16|24|32|40) = the most rows, in eights, that fit 1 GiB, as --memory says$/m,
    );
    const wrong = await dry("--memory=24");
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /Not a size such as 24GB or 22\.5GiB/);
  }));

Deno.test("--memory: sizes in powers of 1000 and of 1024, and nothing else", () => {
  assert.equal(parseBytes("24GB"), 24e9);
  assert.equal(parseBytes("22.5GiB"), 22.5 * 2 ** 30);
  assert.equal(parseBytes("512 MB"), 512e6);
  assert.equal(parseBytes("1.5KiB"), 1536);
  assert.equal(parseBytes("1TB"), 1e12);
  for (const wrong of ["", "24", "24gb", "GB", "0GB", "-1GB", "1e3MB", "24GB!", "1.2.3GB", "24B"]) {
    assert.throws(() => parseBytes(wrong), /Not a (size|number)/, wrong);
  }
});

Deno.test("pretrain --dry-run: estimates the time on a device that is here, and on no other", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const { stdout } = await run(dir, "pretrain", "tiny.yaml", "--dry-run");
    assert.match(stdout, /^time, estimated +\d.* updates \d.*, validation \d.*, saving \d/m);
    assert.match(stdout, /^ {2}an update +\d.* tokens\/s, .*each timed now on cpu, 1 thread$/m);
    const { stdout: json } = await run(dir, "pretrain", "tiny.yaml", "--dry-run", "--json");
    const found = JSON.parse(json);
    assert.ok(found.timed_share > 0.5 && found.timed_on === "cpu, 1 thread");
    assert.equal(found.time_is_uncertain, found.time_doubt !== null);
    assert.equal(found.updates_seconds, 20 * found.seconds_per_update);
    assert.ok(found.run_seconds > found.updates_seconds && found.saving_seconds > 0);
    const gpu = ["pretrain", "tiny.yaml", "--dry-run", "--device", "webgpu"];
    const elsewhere = await quern(gpu, { cwd: dir, env: noGpu });
    assert.match(
      elsewhere.stdout,
      /^time, estimated +\S.* where 10 TFLOP\/s are reached, for want of a device to be timed/m,
    );
  }));

Deno.test("pretrain: --memory bounds a run; the batch that the refusal names then trains; auto stays in the run's config", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const given = ["tiny.yaml", "--memory", "1MB", "--set", "steps=1"];
    const large = ["--set", "batch_size=64"];
    for (const kind of [["--dry-run"], []]) {
      const { code, stderr } = await attempt(dir, "pretrain", ...given, ...large, ...kind);
      assert.equal(code, 4, stderr);
      assert.match(stderr, /may be used of 977 KiB, as --memory says\nhint: use batch_size \d+/);
    }
    const { stderr } = await attempt(dir, "pretrain", ...given, ...large);
    const [, rows, parts] = stderr.match(/batch_size (\d+) or less, or accumulation (\d+)/)!;
    const more = await attempt(
      dir,
      "pretrain",
      ...given,
      "--set",
      `batch_size=${Number(rows) + 1}`,
    );
    assert.equal(more.code, 4);
    await run(dir, "pretrain", ...given, "--set", `batch_size=${rows}`, "--out", "rows");
    await run(
      dir,
      "pretrain",
      ...given,
      ...large,
      "--set",
      `accumulation=${parts}`,
      "--out",
      "parts",
    );

    const auto = ["tiny.yaml", "--memory", "1MB", "--set", "batch_size=auto", "--out", "fitted"];
    const trained = await run(dir, "pretrain", ...auto, "--set", "steps=2");
    const [, size] = trained.stderr.match(
      /^batch_size (\d+) = the most rows, in eights, that fit/m,
    )!;
    assert.ok(Number(size) <= Number(rows) && Number(size) + 8 > Number(rows), `${size}, ${rows}`);
    const written = await Deno.readTextFile(join(dir, "fitted/config.yaml"));
    assert.match(written, new RegExp(`^batch_size: ${size}$`, "m"));
    const resumed = await run(dir, "pretrain", "--resume", "fitted", "--set", "steps=3");
    assert.doesNotMatch(resumed.stderr, /^batch_size/m);
    const after = await Deno.readTextFile(join(dir, "fitted/config.yaml"));
    assert.match(after, new RegExp(`^batch_size: ${size}$`, "m"));
    assert.match(after, /^steps: 3$/m);
  }));

Deno.test("pretrain: sizes that are auto without --memory fit what is free, and no more than the data", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const { stdout } = await run(
      dir,
      "pretrain",
      "tiny.yaml",
      "--dry-run",
      "--set",
      "batch_size=auto",
    );
    const [, rows] = stdout.match(/^batch_size (\d+) = the most rows, in eights, that fit \d/m)!;
    const { splits } = JSON.parse(await Deno.readTextFile(join(dir, "data/index.json")));
    const all = Math.ceil(splits.train.tokens / 32);
    assert.ok(Number(rows) <= all && Number(rows) > all - 8, `${rows} of ${all}`);
    const parts = await run(dir, "pretrain", "tiny.yaml", "--set", "accumulation=auto");
    assert.match(parts.stderr, /^accumulation 1 = the fewest equal parts that fit \d/m);
  }));

Deno.test("pretrain: a disk that cannot hold the checkpoints is said before the run, and the dry run refuses", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const all = ["--set", "checkpoint={every: 1, keep: 0}", "--set", "steps=1000000000000"];
    const dry = await attempt(dir, "pretrain", "tiny.yaml", "--dry-run", "--json", ...all);
    assert.equal(dry.code, 1);
    const { disk_bytes, disk_free_bytes, checkpoints } = JSON.parse(dry.stdout);
    assert.equal(checkpoints, 1e12);
    assert.ok(disk_bytes > disk_free_bytes && disk_free_bytes > 0);
    const said = /the run writes up to .* TiB, of which 1,000,000,000,000 checkpoints, and .* free/;
    assert.match(dry.stderr, said);
    const real = await run(dir, "pretrain", "tiny.yaml", ...all, "--set", "max_minutes=0.001");
    assert.match(real.stderr, new RegExp(`^warning: ${said.source}`, "m"));
    const two = await run(dir, "pretrain", "tiny.yaml", "--dry-run", "--json");
    assert.equal(JSON.parse(two.stdout).checkpoints, 3);
  }));

Deno.test("pretrain: a vocabulary far beyond the tokenizer's is noted", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    const noted = /^note: model\.vocab_size is 5,000, but the data's tokenizer has 257: /m;
    const dry = ["pretrain", "tiny.yaml", "--dry-run", "--set"];
    assert.match((await run(dir, ...dry, "model.vocab_size=5000")).stdout, noted);
    assert.doesNotMatch((await run(dir, ...dry, "model.vocab_size=512")).stdout, /tokenizer has/);
  }));
