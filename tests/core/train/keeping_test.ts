import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import {
  checkpointName,
  keepCheckpoints,
  namedCheckpoint,
  saveCheckpoint,
} from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "./tiny_run.ts";

const namesIn = (run: string) =>
  Array.from(Deno.readDirSync(join(run, "checkpoints")), ({ name }) => name).sort();

/** Saves a checkpoint of no tensors with the validation loss, if any. */
const save = (run: string, step: number, loss?: number) =>
  saveCheckpoint(run, {
    step,
    tokens: step,
    cursor: { packing: "windows", window: step },
    ...(loss !== undefined && { validation_loss: loss }),
    data_sha256: "d",
    tokenizer_sha256: "t",
  }, { model: [], optimizer: [] });

Deno.test("checkpoints: the newest stay, and the best, and `best` names the best of all", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 0, max: 2 }),
      (losses, keep, keep_best) =>
        withTempDir(async (run) => {
          for (const [i, loss] of losses.entries()) {
            await save(run, i + 1, loss);
            await keepCheckpoints(run, i + 1, { keep, keep_best });
          }
          // lowest first; of equal ones the later
          const ranked = losses.flatMap((loss, i) =>
            loss === undefined ? [] : [{ loss, at: i + 1 }]
          )
            .sort((a, b) => a.loss - b.loss || b.at - a.at).map(({ at }) => at);
          const best = ranked.slice(0, keep_best);
          const steps = losses.map((_, i) => i + 1);
          const kept = new Set([...best, ...steps.slice(keep === 0 ? 0 : -keep)]);
          const files = ["latest", ...(best.length > 0 ? ["best"] : [])];
          assert.deepEqual(namesIn(run), [...[...kept].map(checkpointName), ...files].sort());
          if (best.length === 0) return;
          const named = await namedCheckpoint(run, "best");
          assert.equal(named, join(run, "checkpoints", checkpointName(best[0])));
        }),
    ),
    { numRuns: 12 },
  ));

Deno.test("checkpoints: a run that was taken back to an early step does not lose what it saves then", () =>
  withTempDir(async (run) => {
    for (const step of [5, 15, 20]) await save(run, step, 20 - step);
    await save(run, 6, 9);
    await keepCheckpoints(run, 6, { keep: 1, keep_best: 1 });
    assert.deepEqual(namesIn(run), ["best", "latest", "step-15", "step-20", "step-6"]);
    assert.match(await namedCheckpoint(run, "best"), /step-6$/);
  }));

Deno.test("checkpoints: a damaged old one is none of the best; names that are not there say which are", () =>
  withTempDir(async (run) => {
    await save(run, 1, 1);
    await save(run, 2, 2);
    await Deno.writeTextFile(join(run, "checkpoints/step-1/state.json"), "{");
    await keepCheckpoints(run, 2, { keep: 0, keep_best: 1 });
    assert.match(await namedCheckpoint(run, "best"), /step-2$/);
    assert.match(await namedCheckpoint(run, "latest"), /step-2$/);
    await assert.rejects(namedCheckpoint(run, "step-7"), {
      message: "it has no checkpoint step-7",
      hint: "there are step-1, step-2",
    });
    await keepCheckpoints(run, 2, { keep: 0, keep_best: 0 });
    await assert.rejects(namedCheckpoint(run, "best"), { hint: /keep_best: 1/ });
  }));

Deno.test("pretrain: keep_best measures before each save, and what is best is known after going on", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    // a rate that destroys what the first steps learned: the best is not the newest
    const optimizer = {
      kind: "adamw",
      learning_rate: { kind: "linear", peak: 0.01, end: 3 },
    };
    const checkpoint = { every: 3, keep: 1, keep_best: 1 };
    const config = tinyConfig(data, { steps: 9, optimizer, checkpoint });
    await train(config, { run, stopAfter: 4 });
    const lines = async () =>
      (await Deno.readTextFile(join(run, "metrics.jsonl"))).trimEnd().split("\n")
        .map((line) => JSON.parse(line)).filter(({ validation_loss }) => validation_loss);
    assert.deepEqual((await lines()).map(({ step }) => step), [3]); // an interrupted run only saves
    await train(config, { run, resume: true });
    const measured = await lines();
    assert.deepEqual(measured.map(({ step }) => step), [3, 6, 9]);
    const [best] = measured.toSorted((a, b) => a.validation_loss - b.validation_loss);
    assert.ok(best.step < 9, `the last of ${JSON.stringify(measured)} is the best`);
    const name = checkpointName(best.step);
    assert.deepEqual(namesIn(run), ["best", "latest", name, "step-9"].sort());
    const state = JSON.parse(await Deno.readTextFile(join(run, "checkpoints", name, "state.json")));
    assert.equal(state.validation_loss, best.validation_loss);
  }));

Deno.test("pretrain: keep_best is refused where nothing is held out", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000, 0), run = join(dir, "run");
    const config = tinyConfig(data, { checkpoint: { keep_best: 1 } });
    await assert.rejects(train(config, { run }), { where: "checkpoint.keep_best" });
    assert.ok(!await Deno.stat(run).catch(() => undefined));
  }));
