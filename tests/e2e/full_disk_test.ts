import assert from "node:assert/strict";
import { join } from "node:path";
import { makeCorpus } from "../../core/data/corpus.ts";
import { checkpointBytes } from "../core/train/tiny_run.ts";
import { attempt, makeProject, run } from "../cli/tiny_project.ts";
import { smallDiskTest, takeRoom } from "../support_disk.ts";

const namesIn = (folder: string) => Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
const linesOf = async (run: string) =>
  (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n")
    .map((line) => JSON.parse(line)).map(({ tokens_per_second: _, ...record }) => record);
const often = ["steps=6", "log_every=1", "checkpoint={every: 1, keep: 0}"].flatMap((setting) => [
  "--set",
  setting,
]);

// pytorch-lightning 688, Automodel PR 3261: the other way for a save to break off.
smallDiskTest(
  "replay: Automodel 3261: a full disk leaves the checkpoint before it, and with room the run goes on bit for bit",
  1024,
  async (disk, dir) => {
    await makeProject(dir);
    const train = ["pretrain", "tiny.yaml", "--resume", "auto", ...often, "--out"];
    await run(dir, ...train, "whole");
    const folder = join(disk, "run"), giveBack = takeRoom(disk, 300); // three of 76 KiB, not four
    const full = await attempt(dir, ...train, folder);
    assert.equal(full.code, 1, full.stderr);
    const place =
      /^error: .*\/run\/checkpoints\/step-4\S*: the disk is full\nhint: free some space; .*; then go on: quern pretrain --resume /m;
    assert.match(full.stderr, place);
    assert.match(full.stderr, /warning: the run writes up to/);
    assert.deepEqual(namesIn(join(folder, "checkpoints")), [
      "latest",
      "step-1",
      "step-2",
      "step-3",
    ]);
    assert.equal(await Deno.readTextFile(join(folder, "checkpoints/latest")), "step-3\n");
    assert.ok(!namesIn(folder).includes(".lock"));
    // nothing is better by then: the same message, and no less than before
    assert.equal((await attempt(dir, ...train, folder)).code, 1);
    giveBack();
    const { stderr } = await run(dir, ...train, folder);
    assert.match(stderr, /going on from step 3 of 6/);
    for (const step of [3, 6]) {
      assert.deepEqual(
        await checkpointBytes(folder, step),
        await checkpointBytes(join(dir, "whole"), step),
      );
    }
    assert.deepEqual(await linesOf(folder), await linesOf(join(dir, "whole")));
  },
);

smallDiskTest(
  "full disk: metrics stay whole lines, and a run without a checkpoint starts over",
  256,
  async (disk, dir) => {
    await makeProject(dir);
    const settings = ["steps=200", "log_every=1", "checkpoint.every=0", "batch_size=1"];
    const train = [
      "pretrain",
      "tiny.yaml",
      "--resume",
      "auto",
      ...settings.flatMap((setting) => ["--set", setting]),
      "--out",
    ];
    const folder = join(disk, "run"), giveBack = takeRoom(disk, 28); // seven files' first pages
    const full = await attempt(dir, ...train, folder);
    assert.equal(full.code, 1, full.stderr);
    assert.match(
      full.stderr,
      /^error: .*\/run\/metrics\.jsonl: the disk is full\nhint: free some /m,
    );
    const lines = await linesOf(folder);
    assert.deepEqual(lines.map(({ step }) => step), lines.map((_, i) => i + 1));
    assert.ok(lines.length > 10 && lines.length < 200, `${lines.length} lines`);
    giveBack();
    const { stderr } = await run(dir, ...train, folder);
    assert.match(stderr, /it was begun and has no checkpoint; started over/);
    assert.deepEqual((await linesOf(folder)).slice(0, lines.length), lines);
  },
);

smallDiskTest(
  "full disk: tokenize says so and leaves nothing half done",
  128,
  async (disk, dir) => {
    const { documents } = makeCorpus({ seed: 1, bytes: 200_000 });
    await Deno.writeTextFile(join(dir, "corpus.txt"), documents.join("\n"));
    const out = join(disk, "data");
    const { code, stderr } = await attempt(dir, "tokenize", "corpus.txt", "--out", out);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /^error: .*\/data\S*: the disk is full\nhint: free some space; /m);
    assert.deepEqual(namesIn(disk), []);
  },
);
