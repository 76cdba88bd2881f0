import assert from "node:assert/strict";
import { join } from "node:path";
import { openDevice } from "../../../core/device/mod.ts";
import {
  newRun,
  openData,
  pretrain,
  pretrainConfig,
  resolveConfig,
} from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig } from "./tiny_run.ts";

// ekzhang/jax-js 81: memory grew with the steps, and nobody could say which array leaked.
Deno.test("replay: jax-js 81: 1,000 steps with measuring and saving leave device and process memory flat", () =>
  withTempDir(async (dir) => {
    const path = await makeData(dir, 3000);
    const config = pretrainConfig.parse(tinyConfig(path, {
      steps: 1000,
      sequence_length: 16,
      batch_size: 2,
      log_every: 50,
      validation: { every: 100 },
      checkpoint: { every: 250, keep: 1 },
    }));
    using data = await openData(config.data);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const resolved = resolveConfig(config, data.vocabSize);
    const used = new Set<number>(), resident: number[] = [];
    const run = join(dir, "run");
    for await (
      const event of pretrain({
        config: resolved,
        data,
        device,
        beginning: newRun(run),
        session: { version: "test", command: [] },
        signal: undefined,
      })
    ) {
      if (event.kind !== "step" && event.kind !== "start") continue;
      used.add(device.usedBytes());
      resident.push(Deno.memoryUsage().rss);
    }
    assert.equal(used.size, 1, `device bytes: ${[...used]}`);
    const growth = resident.at(-1)! - resident[Math.floor(resident.length / 2)];
    assert.ok(growth < 64 * 2 ** 20, `the process grew by ${growth} bytes over the last 500 steps`);
    assert.ok(device.usedBytes() < [...used][0] / 2, "training gives its memory back");
  }));
