/** The small siblings of the published models, tuned on a few conversations until they know them by heart. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { openDevice } from "../../core/device/mod.ts";
import { openChat, openModel } from "../../core/generate/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { openChatTemplate } from "../../core/text/chat/mod.ts";
import { pretrainConfig } from "../../core/train/mod.ts";
import { makeBase, tinyTuning, tune, writePairs } from "../core/sft/tiny_sft.ts";
import { root, withTempDir } from "../support.ts";

/** Twenty questions; answers of one token and more, some of which begin others. */
const pairs = Array.from({ length: 20 }, (_, i) => {
  const answers = ["0", "01", "!", "\nab", "é", "yes", "no", "noo"];
  return [String.fromCharCode(97 + i), `${answers[i % 8]}${i < 8 ? "" : i % 3}`] as const;
});

// mlabonne/llm-course 33, trl 734, axolotl PR 3756: the model never learned to stop.
const models = [
  { name: "polyglu-tiny", steps: 50, peak: 0.005 },
  // about 1 / √hidden_size: no pretraining was there to make up for the usual 0.02
  { name: "veronica-tiny", steps: 55, peak: 0.006, changes: { initializer_range: 0.1 } },
  { name: "neollm-tiny", steps: 45, peak: 0.005 },
  { name: "recycled-core-tiny", steps: 55, peak: 0.012 },
];
for (const { name, steps, peak, changes = {} } of models) {
  Deno.test(`replay: llm-course 33: ${name} answers twenty conversations that it learned, and stops`, () =>
    withTempDir(async (dir) => {
      const { model } = await loadConfig(pretrainConfig, `${root}configs/${name}.yaml`);
      const base = await makeBase(dir, { model: { ...model, ...changes }, steps: 1 });
      const run = join(dir, "run");
      const path = await writePairs(join(dir, "chat.jsonl"), pairs);
      const config = tinyTuning(base, path, {
        data: { validation: { fraction: 0 } },
        batch_size: 20,
        steps,
        optimizer: {
          kind: "adamw",
          learning_rate: { kind: "linear", peak, end: 0, warmup: 5 },
          beta2: 0.98,
          weight_decay: 0,
        },
      });
      const on = { device: "cpu", blas: "off", threads: 2 } as const; // a BLAS has other roundings
      await tune(config, { run, on });
      await using device = await openDevice(on);
      using open = await openModel(run, device);
      const template = await openChatTemplate(run);
      for (const [question, answer] of pairs) {
        using chat = openChat({ ...open, template });
        const sampling = { temperature: 0, topK: 0, topP: 1, seed: 1 };
        for await (const event of chat.say(question, { maxTokens: 8, sampling })) {
          if (event.kind !== "answer") continue;
          assert.deepEqual([event.content, event.reason], [answer, "end_of_turn"], question);
        }
      }
    }));
}
