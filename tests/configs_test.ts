import assert from "node:assert/strict";
import { assumedLimits, webgpuTarget } from "../core/device/webgpu/mod.ts";
import { loadConfig } from "../core/io/config.ts";
import { dryRun, pretrainConfig, resolveConfig } from "../core/train/mod.ts";
import { root } from "./support.ts";

for (const { name } of Deno.readDirSync(`${root}configs`)) {
  Deno.test(`configs: ${name} is understood, and its run can be planned`, async () => {
    const config = await loadConfig(pretrainConfig, `${root}configs/${name}`);
    const found = dryRun(
      resolveConfig(config, config.model.vocab_size ?? 65),
      webgpuTarget(assumedLimits),
    );
    assert.ok(found.params > 0 && found.totalBytes > 0 && found.flopsPerToken > 0);
  });
}

Deno.test("configs: the recipe for tiny Shakespeare has nanoGPT's size, about 0.8 million", async () => {
  const config = await loadConfig(pretrainConfig, `${root}configs/shakespeare-char.yaml`);
  const { params } = dryRun(resolveConfig(config, 65), webgpuTarget(assumedLimits));
  assert.ok(Math.abs(params / 800_000 - 1) < 0.02, `${params}`);
});
