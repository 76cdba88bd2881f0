import assert from "node:assert/strict";
import { join } from "node:path";
import { openShards } from "../../../core/data/shard_reader.ts";
import { evenClock, scalarsOf } from "../../../core/optim/mod.ts";
import { type DeviceOptions, openDevice } from "../../../core/device/mod.ts";
import { generate, openModel } from "../../../core/generate/mod.ts";
import { leavesOf } from "../../../core/graph/mod.ts";
import { pretrainConfig, resolveConfig, Trainer, trainingOf } from "../../../core/train/mod.ts";
import { firstCursor, nextBatch } from "../../../core/data/batches.ts";
import { traceAccumulate } from "../../../core/train/programs.ts";
import { initialValues, namedParams } from "../../../core/model/mod.ts";
import { planGraph } from "../../../core/plan/mod.ts";
import { webgpuTest, withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "./tiny_run.ts";

const model = {
  hidden_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  num_key_value_heads: 1,
  intermediate_size: 72,
  qk_norm: true,
};

const cpu: DeviceOptions = { device: "cpu", blas: "off", threads: 1 };
const gpu: DeviceOptions = { device: "webgpu" };

webgpuTest(
  "devices: a model's loss and all its gradients agree within 1e-4",
  () =>
    withTempDir(async (dir) => {
      const path = await makeData(dir, 3000);
      using data = await openShards(path);
      const config = resolveConfig(
        pretrainConfig.parse(tinyConfig(path, { model, sequence_length: 37, batch_size: 3 })),
        data.index.vocab_size,
      );
      const { model: built, optimizer, stages: [{ shapes: [shape] }] } = trainingOf(config);
      const params = namedParams(built.params);
      const source = { split: data.splits.train, rows: 3, length: 37, seed: 1 };
      const { batch } = nextBatch(source, firstCursor("documents"));
      const gradientsOn = async (options: DeviceOptions) => {
        await using device = await openDevice(options);
        const plan = planGraph(traceAccumulate(built, optimizer, shape), device.target);
        using state = device.createState(plan.state);
        for (const param of params) state.write(`params.${param.path}`, initialValues(param, 2));
        using executable = await device.compile(plan, state, { ring: 1 });
        executable.run({
          "rows.ids": batch.ids,
          "rows.targets": batch.targets,
          "rows.positions": batch.positions,
          "rows.segment_ids": batch.segmentIds,
          keep: 0,
        });
        const names = ["loss_sum", ...params.map((param) => `grads.${param.path}`)];
        return await Promise.all(
          names.map(async (name) => ({ name, values: await state.read(name) })),
        );
      };
      const [expected, found] = [await gradientsOn(cpu), await gradientsOn(gpu)];
      assert.equal(expected.length, leavesOf(built.params).length + 1);
      expected.forEach(({ name, values }, i) => {
        const largest = Math.max(...Array.from(values, Math.abs));
        assert.ok(largest > 0, name);
        values.forEach((x, j) => {
          const off = Math.abs(x - found[i].values[j]);
          assert.ok(off <= 1e-4 * largest, `${name}[${j}]: ${x} and ${found[i].values[j]}`);
        });
      });
    }),
);

webgpuTest(
  "devices: the likeliest text is the same",
  () =>
    withTempDir(async (dir) => {
      const path = await makeData(dir), run = join(dir, "run");
      await train(tinyConfig(path, { model, steps: 40, log_every: 40, accumulation: 2 }), { run });
      const on = async (options: DeviceOptions) => {
        await using device = await openDevice(options);
        using open = await openModel(run, device);
        const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
        const ids: number[] = [];
        for await (const event of generate(open, "What is 3", { maxTokens: 20, sampling })) {
          if (event.kind === "token") ids.push(event.id);
        }
        return ids;
      };
      const ids = await on(cpu);
      assert.ok(ids.length > 0);
      assert.deepEqual(await on(gpu), ids);
    }),
);

webgpuTest(
  "devices: training on a GPU goes on bit for bit, and stops at what is not finite",
  () =>
    withTempDir(async (dir) => {
      const path = await makeData(dir);
      using data = await openShards(path);
      const config = resolveConfig(
        pretrainConfig.parse(tinyConfig(path, { model, accumulation: 2 })),
        data.index.vocab_size,
      );
      await using device = await openDevice(gpu);
      const source = { split: data.splits.train, rows: 4, length: 32, seed: 1 };
      const updated = async (learning_rate: number) => {
        const optimizer = { ...config.optimizer, learning_rate };
        using trainer = await Trainer.create(trainingOf(config), device, 8);
        trainer.initialize(1);
        let cursor = firstCursor("documents");
        for (let step = 0; step < 3; step++) {
          const parts = [0, 1].map(() => {
            const next = nextBatch(source, cursor);
            cursor = next.cursor;
            return next.batch;
          });
          trainer.update(parts, scalarsOf(optimizer, evenClock(9))(0));
        }
        return {
          results: await trainer.results(),
          bad: await trainer.firstBadTensor([nextBatch(source, cursor).batch]),
        };
      };
      const [first, second] = [await updated(0.01), await updated(0.01)];
      assert.deepEqual(second, first);
      assert.equal(first.bad, undefined);
      const exploded = await updated(3e38);
      assert.deepEqual(exploded.results.map(({ isHealthy }) => isHealthy), [true, false, false]);
      assert.match(exploded.bad ?? "", /^(parameter|\w+ at) /);
    }),
);
