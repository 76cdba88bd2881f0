import assert from "node:assert/strict";
import { join } from "node:path";
import type { AverageKind } from "../../../core/optim/mod.ts";
import { openModelFile } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, stepsOf, tinyConfig, train } from "./tiny_run.ts";

/** All weights of a checkpoint, or an average of them, as one list. */
async function weightsOf(run: string, step: number, average?: AverageKind): Promise<number[]> {
  const { file } = await openModelFile(join(run, "checkpoints", `step-${step}`), average);
  using weights = file;
  return [...weights.tensors.keys()].flatMap((name) => [...weights.read(name) as Float32Array]);
}

const averages = { ema: { decay: 0.75 }, swa: { every: 3, below: 0.6 } };

Deno.test("averages: kept beside the weights, which they do not touch, and resumed to the bit", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const config = tinyConfig(data, { averages, checkpoint: { every: 1, keep: 0 } });
    const run = join(dir, "run"), plain = join(dir, "plain"), stopped = join(dir, "stopped");
    const parts = new Map<string, number[]>();
    const events = await train(config, {
      run,
      onMeasuring({ step, weights = "", part }) {
        const place = `${step} ${weights}`;
        parts.set(place, [...parts.get(place) ?? [], part]);
      },
    });
    await train({ ...config, averages: {} }, { run: plain });
    const weights = await Promise.all(
      Array.from({ length: 12 }, (_, i) => weightsOf(run, i + 1)),
    );
    assert.deepEqual(await weightsOf(plain, 12), weights[11]);

    // From update to update: the first average that is saved is of the first weights, which are not.
    const emas = await Promise.all(weights.map((_, i) => weightsOf(run, i + 1, "ema")));
    for (let step = 1; step < 12; step++) {
      emas[step].forEach((x, i) => {
        const expected = 0.75 * emas[step - 1][i] + 0.25 * weights[step][i];
        assert.ok(Math.abs(x - expected) < 1e-6, `step ${step + 1}: ${x} is not ${expected}`);
      });
    }
    // The rate is below 0.6 of its peak from update 7 on: snapshots after the 9th and the 12th.
    const swa = await weightsOf(run, 12, "swa");
    swa.forEach((x, i) => {
      assert.ok(Math.abs(x - (weights[8][i] + weights[11][i]) / 2) < 1e-6);
    });
    const measured = events.flatMap((e) => e.kind === "validation" ? [[e.step, e.weights]] : []);
    assert.deepEqual(measured, [[12, undefined], [12, "ema"], [12, "swa"]]);
    assert.deepEqual([...parts.keys()], ["12 ", "12 ema", "12 swa"]);
    for (const told of parts.values()) {
      assert.ok(told.length > 2 && told[0] === 0 && told.at(-1) === 1, `${told}`);
      assert.deepEqual(told, told.toSorted((a, b) => a - b));
    }

    await train(config, { run: stopped, stopAfter: 10 });
    await train(config, { run: stopped, resume: true });
    for (const kind of ["ema", "swa"] as const) {
      assert.deepEqual(await weightsOf(stopped, 12, kind), await weightsOf(run, 12, kind));
    }
  }));

Deno.test("averages: asked for later they begin with the weights of then; without any the error says so", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    const config = tinyConfig(data, { checkpoint: { every: 4, keep: 0 } });
    await train(config, { run, stopAfter: 5 });
    await assert.rejects(weightsOf(run, 4, "ema"), /the checkpoint has no ema of the weights/);
    await train({ ...config, averages: { ema: { decay: 0.5 } } }, { run, resume: true });
    assert.equal((await weightsOf(run, 12, "ema")).length, (await weightsOf(run, 12)).length);
  }));

Deno.test("loss: label smoothing and z-loss change what is trained, not what is measured at first", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const losses = async (loss: unknown, name: string) => {
      const config = tinyConfig(data, { loss, steps: 2, validation: { every: 1 } });
      const events = await train(config, { run: join(dir, name) });
      const validation = events.find((event) => event.kind === "validation")!.loss;
      return [...stepsOf(events).map(({ loss }) => loss), validation];
    };
    const plain = await losses({}, "plain");
    const smoothed = await losses({ label_smoothing: 0.1, z_loss: 1e-2 }, "smoothed");
    assert.ok(smoothed[0] > plain[0]); // z-loss adds the square of a log-sum-exp of about ln 256
    assert.notEqual(smoothed[2], plain[2]);
    assert.ok(Math.abs(smoothed[2] - plain[2]) < 0.05);
  }));
