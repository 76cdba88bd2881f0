/**
 * Whole training updates on WebGPU against the cpu device: forward, backward, clipping and AdamW in
 * one plan.
 *
 * @module
 */

import assert from "node:assert/strict";
import { openCpu } from "../../core/device/cpu/device.ts";
import type { Device } from "../../core/device/types.ts";
import { openWebgpu } from "../../core/device/webgpu/mod.ts";
import { sizeOf } from "../../core/graph/mod.ts";
import { initialValues, type Model, namedParams } from "../../core/model/mod.ts";
import { bindOptimizer, evenClock, optimizerConfig, scalarsOf } from "../../core/optim/mod.ts";
import { planGraph } from "../../core/plan/mod.ts";
import { traceUpdate } from "../../core/train/programs.ts";
import { firstTold } from "../core/model/steps.ts";
import { tinyModel, variants, vocab } from "../core/model/tiny.ts";
import { webgpuTest } from "../support.ts";

const shape = { rows: 2, length: 7, segments: true };
const tokens = shape.rows * shape.length;
const optimizer = optimizerConfig.parse({
  kind: "adamw",
  // Steps so small that what rounding does to one update is not blown up by those after it.
  learning_rate: { kind: "constant", peak: 1e-3 },
  // Some gradients are nothing but rounding (a factor that the last norm takes away again): they must not become steps.
  eps: 1e-3,
});

const scalarsAt = scalarsOf(optimizer, evenClock(9));

/** Losses and gradient norms of the first updates on a device, all submitted before any is read. */
async function firstUpdates(device: Device, model: Model, updates: number) {
  const plan = planGraph(
    traceUpdate(model, bindOptimizer(optimizer, namedParams(model.params)), shape),
    device.target,
  );
  using state = device.createState(plan.state);
  for (const param of namedParams(model.params)) {
    state.write(`params.${param.path}`, initialValues(param, 7).map((x) => 4 * x));
  }
  state.write("healthy", [1]);
  using run = await device.compile(plan, state);
  for (let step = 1; step <= updates; step++) {
    const ids = Int32Array.from({ length: tokens }, (_, i) => (i * i + step) % vocab);
    run.run({
      "rows.ids": ids,
      "rows.targets": ids.map((id, i) => i % 5 === 4 ? -100 : (id + 1) % vocab),
      "rows.positions": ids.map((_, i) => i % shape.length),
      "rows.segment_ids": ids.map((_, i) => i >> 2),
      ...firstTold(model, shape),
      hyper: scalarsAt(step - 1).hyper,
      count: tokens,
      max_norm: 0.5,
    });
  }
  const results = (await run.outputs()).flatMap(({ loss_sum, norm, healthy }) => [
    loss_sum[0],
    norm[0],
    healthy[0],
  ]);
  const sums = await Promise.all(plan.state.map(async (entry) => {
    const values = Array.from(await state.read(entry.name));
    assert.equal(values.length, sizeOf(entry.shape));
    return values.reduce((sum, x) => sum + Math.abs(x), 0) / values.length;
  }));
  return { results, sums };
}

webgpuTest("webgpu: five updates of every kind of model are those of the cpu device", async (t) => {
  await using gpu = await openWebgpu();
  await using cpu = await openCpu({ threads: 1, blas: "off" });
  for (const [name, config] of Object.entries(variants)) {
    await t.step(name, async () => {
      const model = tinyModel(config);
      const actual = await firstUpdates(gpu, model, 5),
        expected = await firstUpdates(cpu, model, 5);
      assert.equal(expected.results.length, 15);
      // f32 sums in another order, through five updates.
      actual.results.forEach((x, i) => {
        const wanted = expected.results[i];
        assert.ok(
          Math.abs(x - wanted) < 2e-3 * Math.max(1, Math.abs(wanted)),
          `${i}: ${x}, not ${wanted}`,
        );
      });
      actual.sums.forEach((x, i) => assert.ok(Math.abs(x - expected.sums[i]) < 2e-3));
    });
  }
});
