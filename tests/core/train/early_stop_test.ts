/** Runs that end when their validation loss falls no more, and parameters that are never trained. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors } from "../../../core/io/safetensors.ts";
import type { TrainEvent } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, lossesOf, makeData, tinyConfig, train } from "./tiny_run.ts";

// so small a rate changes no weight: no measurement is better than the first
const still = { kind: "adamw", learning_rate: { kind: "constant", peak: 1e-30 }, weight_decay: 0 };

const measured = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => event.kind === "validation" ? [event.step] : []);

Deno.test("early_stop: a run ends after so many measurements that are no better, also when it goes on in between", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    const config = tinyConfig(data, {
      steps: 30,
      optimizer: still,
      validation: { every: 2, max_tokens: 100 },
      early_stop: { patience: 3 },
    });
    const run = join(dir, "whole"), events = await train(config, { run });
    assert.deepEqual(measured(events), [2, 4, 6, 8]); // the first is the best; the end measures nothing again
    assert.deepEqual(events.at(-1), { kind: "end", step: 8, reason: "early_stop" });

    const stopped = join(dir, "stopped");
    const first = await train(config, { run: stopped, stopAfter: 5 });
    const second = await train(config, { run: stopped, resume: true });
    assert.deepEqual([...measured(first), ...measured(second)], [2, 4, 6, 8]);
    assert.deepEqual(await checkpointBytes(stopped, 8), await checkpointBytes(run, 8));

    const again = await train(config, { run, resume: true });
    assert.deepEqual(again.map(({ kind }) => kind), ["end"]);
    const longer = await train({ ...config, early_stop: { patience: 4 } }, { run, resume: true });
    assert.deepEqual(measured(longer), [10]);
  }));

Deno.test("early_stop: a loss that falls goes on; min_delta says what falls", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    const config = tinyConfig(data, { validation: { every: 3, max_tokens: 100 } });
    const patient = await train({ ...config, early_stop: { patience: 1 } }, {
      run: join(dir, "patient"),
    });
    assert.deepEqual(measured(patient), [3, 6, 9, 12]);
    const early_stop = { patience: 1, min_delta: 9 };
    const strict = await train({ ...config, early_stop }, { run: join(dir, "strict") });
    assert.deepEqual(measured(strict), [3, 6]);
  }));

Deno.test("early_stop: without anything to measure, or any measurement, it is refused", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000, 0), early_stop = { patience: 1 };
    await assert.rejects(
      train(tinyConfig(data, { early_stop, validation: { every: 2 } }), { run: join(dir, "run") }),
      /nobody knows when the loss falls no more/,
    );
    await assert.rejects(
      train(tinyConfig(data, { early_stop }), { run: join(dir, "run") }),
      /measured at the end only/,
    );
  }));

Deno.test("freeze: what always rests keeps its weights, has no moments, and is no part of the norm, in parts, too", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    const frozen = ["layers.*.mlp", "input.embedding"];
    const config = (accumulation: number) =>
      tinyConfig(data, {
        accumulation,
        steps: 3,
        optimizer: { kind: "adamw", learning_rate: 0.01, freeze: [{ params: frozen }] },
        checkpoint: { every: 1, keep: 0 },
      });
    const runs = [1, 4].map((parts) => join(dir, `by${parts}`));
    const [whole, parted] = [
      await train(config(1), { run: runs[0] }),
      await train(config(4), { run: runs[1] }),
    ].map(lossesOf);
    for (const [step, loss] of whole) {
      assert.ok(Math.abs(parted.get(step)! / loss - 1) < 1e-5, `step ${step}`);
    }
    const thawed = { kind: "adamw", learning_rate: 0.01 };
    await assert.rejects(
      train({ ...config(1), steps: 4, optimizer: thawed }, { run: runs[0], resume: true }),
      /what is frozen for good cannot change/,
    );
    for (const run of runs) {
      const open = (step: number, file: string) =>
        openSafetensors(join(run, "checkpoints", `step-${step}`, `${file}.safetensors`));
      using first = await open(1, "model"), last = await open(3, "model");
      using optimizer = await open(3, "optimizer");
      for (const name of first.tensors.keys()) {
        const rests = /^layers\.\d+\.mlp\.|^input\.embedding$/.test(name);
        const isSame = first.read(name).every((x, i) => x === last.read(name)[i]);
        assert.equal(isSame, rests, name);
        assert.equal(optimizer.tensors.has(`m.${name}`), !rests, name);
      }
    }
  }));
