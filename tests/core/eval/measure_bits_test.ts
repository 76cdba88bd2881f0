import assert from "node:assert/strict";
import { join } from "node:path";
import { type Batch, ignoredTarget } from "../../../core/data/batches.ts";
import { openDevice } from "../../../core/device/mod.ts";
import { openLossMeter } from "../../../core/eval/loss_meter.ts";
import { type BitsJob, measureBits } from "../../../core/eval/measure_bits.ts";
import { openAny, type OpenedModel } from "../../../core/open/mod.ts";
import { withTempDir } from "../../support.ts";
import { makeData, tinyConfig, train } from "../train/tiny_run.ts";

const job: Omit<BitsJob, "path"> = { counting: "once" };

/** Targets one at a time, each in a row of its own behind its window's tokens. */
function rowOf(tokens: readonly number[], length: number): Batch {
  const inputs = tokens.slice(0, -1), at = inputs.length - 1;
  const filled = (value: number) => new Int32Array(length).fill(value);
  const batch = {
    rows: 1,
    length,
    ids: filled(7), // whatever stands behind: nothing sees it
    targets: filled(ignoredTarget),
    segmentIds: filled(0),
    positions: filled(0),
  };
  batch.ids.set(inputs);
  batch.targets[at] = tokens[at + 1];
  batch.segmentIds.fill(1, 0, inputs.length);
  inputs.forEach((_, i) => batch.positions[i] = i);
  return batch;
}

Deno.test("bits per byte: a model's equal a loop over its targets, whatever the rows", () =>
  withTempDir(async (dir) => {
    const data = await makeData(dir), run = join(dir, "run");
    const [measured] = (await train(tinyConfig(data, { sequence_length: 12 }), { run }))
      .filter((event) => event.kind === "validation");
    using opened: OpenedModel = await openAny(run);
    await using device = await openDevice({ device: "cpu", blas: "off", threads: 1 });
    const path = join(dir, "text.txt"), lines = ["a small line of text", "é", "and another one"];
    await Deno.writeTextFile(path, lines.join("\n"));
    const same = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-6, `${a} ${b}`);

    await assert.rejects(
      measureBits(opened, device, { ...job, path: data, separator: "\n" }),
      /--document-separator is for texts/,
    );
    await assert.rejects(
      measureBits(opened, device, { ...job, path, split: "train" }),
      /--split is for token shards/,
    );
    const plain = await measureBits(opened, device, { ...job, path: data });
    same(plain.bits_per_byte, measured.bitsPerByte);
    assert.equal(plain.targets, measured.targets);

    const stride = 5, end = opened.tokenizer.endOfText!, length = 12, documents = [];
    for (const line of lines) documents.push([end, ...opened.tokenizer.encode(line), end]);
    using meter = await openLossMeter({ ...opened, weights: opened.file }, device, {
      rows: 1,
      length,
      segments: true,
    });
    let nats = 0;
    const rows = documents.flatMap((tokens) =>
      tokens.slice(1).map((_, i) => {
        const to = i < length ? length : length + stride * Math.ceil((i + 1 - length) / stride);
        const from = Math.max(0, Math.min(to, tokens.length - 1) - length);
        return rowOf(tokens.slice(from, i + 2), length);
      })
    );
    for await (const { losses } of meter.score(rows)) {
      for (let i = 0; i < losses.length; i++) nats += losses[i];
    }
    const bytes = new TextEncoder().encode(lines.join("")).length;
    for (const rows of [1, 3]) {
      const found = await measureBits(opened, device, {
        ...job,
        path,
        separator: "\n",
        stride,
        rows,
      });
      same(found.bits_per_byte, nats / Math.LN2 / bytes);
      assert.equal(found.bytes, bytes);
      assert.equal(found.targets, documents.flat().length - lines.length);
    }
  }));
