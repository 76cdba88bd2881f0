/**
 * What a trainer makes of rows whose documents, masks and lengths are made by hand.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { type Batch, ignoredTarget } from "../../../core/data/batches.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { evenClock, type OptimizerScalars, scalarsOf } from "../../../core/optim/mod.ts";
import { pretrainConfig, resolveConfig, Trainer, trainingOf } from "../../../core/train/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, stepsOf, tinyConfig, train } from "./tiny_run.ts";

const length = 12, vocab = 64;

/** Rows of documents one after the other, padded at the end; `isTaught` says which targets count. */
function batchOf(
  rows: readonly (readonly (readonly number[])[])[],
  isTaught: (row: number, t: number) => boolean = () => true,
): Batch {
  const place =
    (pick: (document: readonly number[], t: number, segment: number) => number) =>
    (filling: number) =>
      Int32Array.from(rows.flatMap((documents) => {
        const row = documents.flatMap((document, i) =>
          document.slice(1).map((_, t) => pick(document, t, i + 1))
        );
        return [...row, ...Array(length - row.length).fill(filling)];
      }));
  const targets = place((document, t) => document[t + 1])(ignoredTarget);
  return {
    rows: rows.length,
    length,
    ids: place((document, t) => document[t])(0),
    targets: targets.map((target, i) =>
      isTaught(Math.floor(i / length), i % length) ? target : ignoredTarget
    ),
    segmentIds: place((_, __, segment) => segment)(0),
    positions: place((_, t) => t)(0),
  };
}

/** A trainer with first weights that matter, for `accumulation` parts of `rows` rows. */
async function withTrainer<T>(
  { rows, accumulation }: { rows: number; accumulation: number },
  use: (trainer: Trainer, scalars: OptimizerScalars) => Promise<T>,
): Promise<T> {
  const config = resolveConfig(
    pretrainConfig.parse(
      tinyConfig("none", {
        sequence_length: length,
        batch_size: rows * accumulation,
        accumulation,
      }),
    ),
    vocab,
  );
  await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
  using trainer = await Trainer.create(trainingOf(config), device, 4);
  trainer.initialize(7);
  return await use(trainer, scalarsOf(config.optimizer, evenClock(9))(1));
}

const document = (seed: number, size: number) =>
  Array.from({ length: size }, (_, i) => (seed * 31 + i * i * 7 + 3 * i) % vocab);

// nanoVLM PR 204, trl 805: packed documents saw each other. Here through what training itself plans.
Deno.test("replay: huggingface/nanoVLM PR 204: training packs documents that do not see each other", () =>
  withTrainer({ rows: 1, accumulation: 1 }, async (trainer) => {
    const [a, b, other] = [document(1, 7), document(2, 7), document(3, 7)];
    const sum = async (...documents: number[][]) => {
      const { loss, targets } = await trainer.measure([batchOf([documents])]);
      return loss * targets;
    };
    const alone = [await sum(a), await sum(b), await sum(other)];
    // single precision on losses of some 25 nats
    assert.ok(Math.abs(await sum(a, b) - (alone[0] + alone[1])) < 1e-4);
    assert.ok(Math.abs(await sum(other, b) - (alone[2] + alone[1])) < 1e-4);
    assert.ok(Math.abs(alone[0] - alone[2]) > 1e-3);
  }));

// transformers 35203, 37766; axolotl 1100, 3196; trl 2175: means of means. Pretraining fills its
// rows, so only rows made by hand have numbers of targets that differ.
Deno.test("replay: transformers 37766: 8×1, 4×2 and 1×8 are one update where masks are uneven", async () => {
  const documents = Array.from({ length: 8 }, (_, i) => document(i, 1 + length));
  // 0, 1, 2, … targets of a row; and the first has none at all
  const isTaught = (row: number, t: number) => t < row * row / 4;
  const runs = await Promise.all([1, 2, 8].map((accumulation) => {
    const rows = 8 / accumulation;
    const parts = Array.from({ length: accumulation }, (_, part) =>
      batchOf(
        documents.slice(part * rows, (part + 1) * rows).map((document) => [document]),
        (row, t) => isTaught(part * rows + row, t),
      ));
    return withTrainer({ rows, accumulation }, async (trainer, scalars) => {
      for (let step = 0; step < 3; step++) trainer.update(parts, scalars);
      const tensors = trainer.tensors().optimizer;
      const moments = await Promise.all(
        tensors.map(async ({ data }) => Array.from(await data() as Float32Array)),
      );
      return { results: await trainer.results(), moments };
    });
  }));
  const [whole, ...others] = runs;
  for (const { results, moments } of others) {
    results.forEach(({ lossSum, norm }, i) => {
      assert.ok(Math.abs(lossSum / whole.results[i].lossSum - 1) < 1e-5);
      assert.ok(Math.abs(norm / whole.results[i].norm - 1) < 1e-4);
    });
    // what is kept of the gradients themselves: sums in another order, in single precision
    moments.forEach((moment, i) => {
      const expected = whole.moments[i];
      const size = Math.max(...expected.map(Math.abs));
      moment.forEach((x, j) => assert.ok(Math.abs(x - expected[j]) < 1e-4 * size));
    });
  }
  assert.ok(whole.results.every(({ norm }) => norm > 0));
});

// nanochat PR 811: conversations longer than a row filled the buffer: all-padding rows, NaN, no end.
Deno.test("replay: nanochat 811: training on documents many times as long as its rows", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir, 3000), steps = 120; // some 2,700 tokens: several epochs
    const config = tinyConfig(data, { sequence_length: 4, steps, log_every: 10 });
    const found = stepsOf(await train(config, { run: join(dir, "run") }));
    assert.equal(found.at(-1)!.tokens, steps * 8 * 4); // every place taught
    assert.ok(found.every(({ loss, norm }) => Number.isFinite(loss) && norm > 0));
    assert.ok(found.at(-1)!.loss < found[0].loss);
  }));
