import assert from "node:assert/strict";
import { join } from "node:path";
import { openDevice } from "../../../core/device/mod.ts";
import { generate, openModel } from "../../../core/generate/mod.ts";
import {
  dryRun,
  pretrainConfig,
  resolveConfig,
  samplingPlans,
  Trainer,
  trainingOf,
} from "../../../core/train/mod.ts";
import { webgpuTest, withTempDir } from "../../support.ts";
import { checkpointBytes, makeData, tinyConfig, train } from "./tiny_run.ts";

const samples = {
  every: 3,
  prompts: ["What is", ""],
  max_tokens: 12,
  top_k: 50,
  penalty: { repetition: 1.2 },
};
const linesOf = async (run: string) =>
  (await Deno.readTextFile(join(run, "samples.jsonl"))).trimEnd().split("\n")
    .map((line) => JSON.parse(line));

Deno.test("samples: training comes to the same bits with and without them, in parts, too", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir);
    for (const accumulation of [1, 2]) {
      const config = tinyConfig(data, { steps: 8, accumulation });
      const [plain, told] = [join(dir, `plain${accumulation}`), join(dir, `told${accumulation}`)];
      await train(config, { run: plain });
      const events = await train({ ...config, samples }, { run: told });
      assert.deepEqual(await checkpointBytes(told, 8), await checkpointBytes(plain, 8));
      const made = events.filter(({ kind }) => kind === "sample");
      assert.deepEqual(made.map((event) => "step" in event && event.step), [3, 3, 6, 6, 8, 8]);
      assert.deepEqual(await linesOf(told), made.map(({ kind: _, ...record }) => record));
      assert.ok(!await Deno.stat(join(plain, "samples.jsonl")).catch(() => undefined));
    }
  }));

webgpuTest(
  "samples: training on a GPU comes to the same bits, too",
  () =>
    withTempDir(async (dir) => {
      const data = await makeData(dir, 3000), on = { device: "webgpu" } as const;
      const config = tinyConfig(data, { steps: 3, batch_size: 2 });
      await train(config, { run: join(dir, "plain"), on });
      const told = { ...config, samples: { every: 1, max_tokens: 4 } };
      const events = await train(told, { run: join(dir, "told"), on });
      assert.equal(events.filter(({ kind }) => kind === "sample").length, 3);
      assert.deepEqual(
        await checkpointBytes(join(dir, "told"), 3),
        await checkpointBytes(join(dir, "plain"), 3),
      );
    }),
);

Deno.test("samples: a checkpoint gives the same text with a sample's seed", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    const keep = { every: 3, keep: 0 };
    await train(tinyConfig(data, { steps: 6, checkpoint: keep, samples }), { run });
    const lines = await linesOf(run);
    assert.equal(new Set(lines.map(({ seed }) => seed)).size, lines.length);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    for (const { step, prompt, text, seed, reason, tokens } of lines) {
      const path = join(run, "checkpoints", `step-${step}`);
      using model = await openModel(path, device, { penalties: "counted" });
      const penalties = { repetition: 1.2, presence: 0, frequency: 0 };
      const sampling = { temperature: 0.8, topK: 50, topP: 1, seed, penalties };
      let again = "";
      for await (const event of generate(model, prompt, { maxTokens: 12, sampling })) {
        again += event.text;
        if (event.kind === "end") assert.deepEqual([event.reason, event.tokens], [reason, tokens]);
      }
      assert.equal(again, text);
    }
  }));

Deno.test("samples: a run that was stopped and goes on tells what one that was not tells", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), checkpoint = { every: 4, keep: 0 };
    const config = tinyConfig(data, { steps: 9, checkpoint, samples });
    const [whole, stopped] = [join(dir, "whole"), join(dir, "stopped")];
    await train(config, { run: whole });
    await train(config, { run: stopped });
    // as if a kill had come after the samples of step 6, half a line included
    const folder = join(stopped, "checkpoints");
    for (const step of [8, 9]) await Deno.remove(join(folder, `step-${step}`), { recursive: true });
    await Deno.writeTextFile(join(folder, "latest"), "step-4\n");
    await Deno.writeTextFile(join(stopped, "samples.jsonl"), '{"step":6,"text":"}', {
      append: true,
    });
    await train(config, { run: stopped, resume: true });
    assert.deepEqual(await linesOf(stopped), await linesOf(whole));
  }));

Deno.test("samples: prompts that cannot be read are refused before a run folder is made", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), run = join(dir, "run");
    const long = { every: 1, prompts: ["ok", "x".repeat(40)] };
    await assert.rejects(train(tinyConfig(data, { samples: long }), { run }), {
      message: /41 tokens, but the model's context ends at 32/,
      where: "samples.prompts[1]",
    });
    assert.ok(!await Deno.stat(run).catch(() => undefined));
  }));

Deno.test("samples: the dry run counts their memory as the device does", async () => {
  const given = tinyConfig("none", { samples: { every: 1 }, sequence_length: 1024, batch_size: 1 });
  const config = resolveConfig(pretrainConfig.parse(given), 257);
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  const { target } = device, training = trainingOf(config);
  const plain = resolveConfig(pretrainConfig.parse({ ...given, samples: { every: 0 } }), 257);
  const expected = dryRun(config, target).totalBytes - dryRun(plain, target).totalBytes;
  const used = async (others: ReturnType<typeof samplingPlans>) => {
    using trainer = await Trainer.create(training, device, 2, { others });
    using stack = new DisposableStack();
    for (const plan of others) stack.use(await device.compile(plan, trainer.state, { ring: 1 }));
    return device.usedBytes();
  };
  const plans = samplingPlans(config, training.model, target);
  const ratio = (await used(plans) - await used([])) / expected;
  assert.ok(Math.abs(ratio - 1) < 0.05, `${ratio} of ${expected}`);
});
