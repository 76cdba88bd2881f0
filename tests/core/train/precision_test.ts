import assert from "node:assert/strict";
import { join } from "node:path";
import { withTempDir } from "../../support.ts";
import { checkpointBytes, lossesOf, makeData, stepsOf, tinyConfig, train } from "./tiny_run.ts";

const halves = (data: string, changes: Record<string, unknown> = {}) =>
  tinyConfig(data, { precision: "bf16", ...changes });

Deno.test("precision: a run in bf16 comes as far as one in f32", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    const last = async (precision: string) => {
      const config = tinyConfig(data, { precision, steps: 60 });
      const losses = [...lossesOf(await train(config, { run: join(dir, precision) })).values()];
      return { first: losses[0], end: losses.slice(-10).reduce((sum, x) => sum + x / 10, 0) };
    };
    const [whole, half] = [await last("f32"), await last("bf16")];
    assert.notEqual(half.end, whole.end);
    assert.ok(half.end < half.first - 2, `${half.first} → ${half.end}`);
    // Seeds differ by 6 % here, precisions by 0.1 % at most in four seeds; a bf16 is off by 0.4 %.
    assert.ok(Math.abs(half.end / whole.end - 1) < 2 ** -8, `${half.end} and ${whole.end}`);
  }));

Deno.test("precision: in bf16 seeds decide every bit, and a stopped run goes on with the same", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), whole = join(dir, "whole");
    const losses = lossesOf(await train(halves(data), { run: whole }));
    await train(halves(data), { run: join(dir, "again") });
    assert.deepEqual(
      await checkpointBytes(join(dir, "again"), 12),
      await checkpointBytes(whole, 12),
    );
    const run = join(dir, "stopped");
    const first = await train(halves(data), { run, stopAfter: 5 });
    const second = await train(halves(data), { run, resume: true });
    assert.deepEqual(new Map([...lossesOf(first), ...lossesOf(second)]), losses);
    assert.deepEqual(await checkpointBytes(run, 12), await checkpointBytes(whole, 12));
  }));

Deno.test("precision: a run begun in bf16 may go on in f32", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    await train(halves(data), { run, stopAfter: 5 });
    const rest = stepsOf(await train(tinyConfig(data), { run, resume: true }));
    const whole = lossesOf(await train(halves(data), { run: join(dir, "whole") }));
    for (const { step, loss } of rest) {
      const off = Math.abs(loss / whole.get(step)! - 1);
      assert.ok(off > 0 && off < 0.02, `step ${step}: ${loss}, not ${whole.get(step)}`);
    }
    assert.match(await Deno.readTextFile(join(run, "config.yaml")), /^precision: f32$/m);
  }));

Deno.test("precision: parts of an update add up in f32", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000);
    const [one, four] = await Promise.all([1, 4].map(async (accumulation) =>
      stepsOf(
        await train(halves(data, { accumulation, steps: 4 }), {
          run: join(dir, `${accumulation}`),
        }),
      )
    ));
    // Each row is rounded by itself, so parts round alike; sums of gradients are f32 both ways. Weights
    // that end up in another last place now and then round to another half.
    assert.ok(Math.abs(one[0].norm / four[0].norm - 1) < 1e-4, `${one[0].norm}, ${four[0].norm}`);
    one.forEach(({ loss }, i) => {
      const off = Math.abs(loss / four[i].loss - 1);
      assert.ok(off < (i === 0 ? 1e-5 : 2 ** -9), `step ${i + 1}: ${loss}, ${four[i].loss}`);
    });
  }));
