/**
 * The small siblings of the published models, as they stand in `configs/`: what they must be able to do whatever their
 * numbers are. That each reaches the loss that its first lines state is for `deno task bench tiny`.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { interpret, sizeOf, type Tensor } from "../../core/graph/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import { buildModel, completeModel, type Model } from "../../core/model/mod.ts";
import { pretrainConfig } from "../../core/train/mod.ts";
import { rowsOf, toldModel, Values, weights } from "../core/model/tiny.ts";
import { checkpointBytes, makeData, stepsOf, train } from "../core/train/tiny_run.ts";
import { root, withTempDir } from "../support.ts";
import { checkClose } from "../vectors.ts";

const names = ["polyglu-tiny", "veronica-tiny", "neollm-tiny", "recycled-core-tiny"];
const fileOf = (name: string) => `${root}configs/${name}.yaml`;

async function modelOf(name: string, values: Values): Promise<Model> {
  const { model } = await loadConfig(pretrainConfig, fileOf(name));
  const sizes = { vocab_size: 11, max_position_embeddings: 16 };
  return toldModel(buildModel(completeModel({ ...model, ...sizes }, sizes)), values);
}

/** In double precision, so that wide layers need no wide tolerance. */
const run = (values: Values, outputs: readonly Tensor[]) =>
  interpret(outputs, values.map, { precision: "f64" });

const text = [3, 1, 4, 1, 5, 9, 2, 6, 5];

for (const name of names) {
  Deno.test(`${name}: apply equals prefill and steps in chunks of 1, 3 and 7`, async () => {
    const values = new Values(), model = await modelOf(name, values);
    const params = weights(model, values);
    const outputs = [1, 3, 7].map((chunk) => {
      let state = values.tree(
        model.state({ batch: 1, capacity: 10 }),
        ({ shape }) => new Float32Array(sizeOf(shape)).fill(NaN),
      ) as ReturnType<typeof model.step>["state"];
      const hidden: Tensor[] = [];
      for (let at = 0; at < text.length; at += chunk) {
        const ids = values.integers([text.slice(at, at + chunk)]);
        const stepped = model.step(params, { ids, start: values.vector([at]) }, state);
        hidden.push(stepped.hidden);
        state = stepped.state;
      }
      return hidden;
    });
    const whole = model.apply(params, rowsOf(values, [text])).hidden;
    const [expected, ...found] = run(values, [whole, ...outputs.flat()]);
    for (const parts of outputs) {
      const hidden = parts.flatMap(() => Array.from(found.shift()!));
      checkClose(`${name}, ${parts.length} calls`, hidden, expected, 1e-9, 1e-9);
    }
  });

  Deno.test(`${name}: a packed row's second document is what it is alone`, async () => {
    const values = new Values(), model = await modelOf(name, values);
    const params = weights(model, values);
    const packed = model.apply(params, {
      ids: values.integers([[3, 1, 4, 5, 9, 2]]),
      positions: values.integers([[0, 1, 2, 0, 1, 2]]),
      segment_ids: values.integers([[1, 1, 1, 2, 2, 2]]),
    });
    const alone = model.apply(params, rowsOf(values, [[5, 9, 2]]));
    const [both, second] = run(values, [packed.hidden, alone.hidden]);
    checkClose(name, both.slice(second.length), second, 1e-9, 1e-9);
  });

  Deno.test(`${name}: two trainings write the same bytes, and the loss falls`, () =>
    withTempDir(async (dir) => {
      const overrides = [
        `data.path=${await makeData(dir)}`,
        "data.packing=documents",
        "steps=10",
        "batch_size=4",
        "sequence_length=32",
        "log_every=1",
        "validation.every=0",
        "checkpoint.every=0",
      ];
      const config = await loadConfig(pretrainConfig, fileOf(name), overrides);
      const [first, second] = [join(dir, "first"), join(dir, "second")];
      const losses = stepsOf(await train(config, { run: first })).map(({ loss }) => loss);
      await train(config, { run: second });
      assert.deepEqual(await checkpointBytes(first, 10), await checkpointBytes(second, 10));
      assert.ok(losses.every(Number.isFinite) && losses[9] < losses[0] - 0.1, `${losses}`);
    }));
}
