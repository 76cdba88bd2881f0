/** Run folders as training leaves them, of any length. */

import { join } from "node:path";
import { stringify } from "yaml";

export interface RunShape {
  readonly steps: number;
  readonly hiddenSize?: number;
  /** A step has 100 tokens a row. */
  readonly rows?: number;
  /** What samples say. */
  readonly text?: string;
  /** What a source of the data is called. */
  readonly source?: string;
}

/** Writes a run with everything that a report shows. */
export async function writeRun(run: string, shape: RunShape): Promise<void> {
  const { steps, hiddenSize = 8, rows = 1, text = "To be, <b>or</b>", source = "math" } = shape;
  await Deno.mkdir(join(run, `checkpoints/step-${steps}`), { recursive: true });
  const write = (name: string, content: string) => Deno.writeTextFile(join(run, name), content);
  const records = Array.from({ length: steps }, (_, i) => i + 1).flatMap((step) => [
    {
      ...{ step, loss: 4 / step, norm: 1 / step, learning_rate: 0.001, tokens: 100 * rows * step },
      ...{ tokens_per_second: 1000 + step, tokens_by_source: { [source]: 100 * step } },
      ...{ "router.alpha": [0.01, 0.99], "router.entropy_norm": 0.9, tau: 1 },
      ...{ dynamic_routing_entropy: 1.2, "dynamic_routing_entropy.0": 1.1 },
      router_health: { min_share: "branch 0 gets 0.010 of the weight" },
    },
    {
      ...{ step, validation_loss: 2 / step, bits_per_byte: 3 / step },
      validation_by_source: { [source]: { validation_loss: 2 / step, bits_per_byte: 3 / step } },
    },
  ]);
  const last = { step: steps, weights: "ema", validation_loss: 0.5, bits_per_byte: 0.8 };
  await write(
    "metrics.jsonl",
    [...records, last].map((one) => `${JSON.stringify(one)}\n`).join(""),
  );
  const sample = { step: steps, prompt: "To ", text, reason: "max_tokens", tokens: 3, seed: 7 };
  await write(
    "samples.jsonl",
    `${JSON.stringify({ ...sample, step: 1 })}\n${JSON.stringify(sample)}\n`,
  );
  await write(
    "config.yaml",
    stringify({ model: { kind: "llama", hidden_size: hiddenSize }, steps }),
  );
  const manifest = {
    ...{ format: "quern-run", seed: 0, tokenizer: { kind: "character", sha256: "ab".repeat(32) } },
    data: {
      ...{ path: "data/mine", absolute_path: "/home/somebody/data", sha256: "cd".repeat(32) },
      held_out: 4,
    },
    sessions: [0, 2].map((from_step) => ({
      ...{ started: "2026-01-01T00:00:00.000Z", from_step, version: "0.1.0" },
      ...{ command: ["quern", "pretrain", "tiny"], device: { name: "an imagined device" } },
    })),
  };
  await write("manifest.json", JSON.stringify(manifest));
  const state = {
    step: steps,
    validation_loss: 2,
    files: { "model.safetensors": { bytes: 2048 } },
  };
  await write(`checkpoints/step-${steps}/state.json`, JSON.stringify(state));
}

/** Writes the metrics of 100,000 steps, whose loss has one spike. */
export async function writeLongRun(run: string): Promise<{ steps: number; spikeAt: number }> {
  const steps = 100_000, spikeAt = 54_321;
  const line = (step: number) =>
    `{"step":${step},"loss":${step === spikeAt ? 99 : 3 + (step % 7) / 10},"norm":${step % 11}}\n`;
  await Deno.mkdir(run);
  const lines = Array.from({ length: steps }, (_, i) => line(i + 1));
  await Deno.writeTextFile(join(run, "metrics.jsonl"), lines.join(""));
  return { steps, spikeAt };
}
