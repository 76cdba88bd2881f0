/**
 * Planning of a model of 600 million parameters (28 layers of 1,024, 151,669 ids): update and measurement traced,
 * differentiated, fused and placed, for both devices. The first of each is what a command waits for. Prints a line a
 * device; the goal is 5 s.
 */

import { cpuTarget } from "../../core/device/cpu/target.ts";
import { assumedLimits, webgpuTarget } from "../../core/device/webgpu/mod.ts";
import { dryRun, pretrainConfig, resolveConfig } from "../../core/train/mod.ts";

const config = resolveConfig(
  pretrainConfig.parse({
    model: {
      hidden_size: 1024,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      head_dim: 128,
      intermediate_size: 3072,
      qk_norm: true,
    },
    data: { path: "none" },
    sequence_length: 1024,
    batch_size: 1,
    steps: 1,
    optimizer: { kind: "adamw", learning_rate: 1e-3 },
  }),
  151_669,
);

const targets = [
  webgpuTarget(assumedLimits),
  cpuTarget({ threads: 2, relaxed: true, blas: false }),
];
for (const target of targets) {
  const times: number[] = [];
  let found;
  for (let round = 0; round < 3; round++) {
    const began = performance.now();
    found = dryRun(config, target);
    times.push(performance.now() - began);
  }
  const { params, stages: [{ dispatches }], totalBytes } = found!, [first, ...later] = times;
  console.log(
    `${target.kind}: ${(params / 1e6).toFixed(0)} M parameters, ${dispatches} dispatches, ` +
      `${(totalBytes / 2 ** 30).toFixed(1)} GiB: planned in ${first.toFixed(0)} ms, ` +
      `then ${Math.min(...later).toFixed(0)} ms`,
  );
}
