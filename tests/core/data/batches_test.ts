import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Batch,
  type BatchSource,
  countTargets,
  type Cursor,
  firstCursor,
  ignoredTarget,
  nextBatch,
  type Packing,
  packings,
  validationBatches,
} from "../../../core/data/batches.ts";
import { memorySplit } from "./support.ts";

const end = 99;

/** Documents of different tokens, each closed by the end-of-text token. */
function countingDocuments(lengths: readonly number[]): number[][] {
  let token = 100;
  return lengths.map((length) => [...Array.from({ length }, () => token++), end]);
}

/** The segments of some batches in order, as the tokens they teach: input → target. */
function segmentsOf(batches: readonly Batch[]): { inputs: number[]; targets: number[] }[] {
  const segments: { inputs: number[]; targets: number[] }[] = [];
  for (const { rows, length, ids, targets, segmentIds, positions } of batches) {
    for (let i = 0; i < rows * length; i++) {
      if (segmentIds[i] === 0) {
        assert.equal(targets[i], ignoredTarget);
        continue;
      }
      if (i % length === 0 || segmentIds[i] !== segmentIds[i - 1]) {
        segments.push({ inputs: [], targets: [] });
        assert.equal(segmentIds[i], i % length === 0 ? 1 : segmentIds[i - 1] + 1);
      }
      const segment = segments[segments.length - 1];
      assert.equal(positions[i], segment.inputs.length);
      segment.inputs.push(ids[i]);
      segment.targets.push(targets[i]);
    }
  }
  return segments;
}

function take(source: BatchSource, count: number, from: Cursor) {
  let cursor = from;
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) {
    const next = nextBatch(source, cursor);
    batches.push(next.batch);
    cursor = JSON.parse(JSON.stringify(next.cursor)); // as a checkpoint would keep it
  }
  return { batches, cursor };
}

const shapes = fc.record({
  lengths: fc.array(fc.nat({ max: 12 }), { minLength: 1, maxLength: 12 }),
  rows: fc.integer({ min: 1, max: 4 }),
  length: fc.integer({ min: 1, max: 9 }),
  seed: fc.nat({ max: 1000 }),
});

Deno.test("replay: ml-explore/mlx-examples 843: an epoch sees every document exactly once", () => {
  fc.assert(fc.property(shapes, ({ lengths, rows, length, seed }) => {
    const documents = countingDocuments(lengths);
    const split = memorySplit(documents, end);
    const perEpoch = countTargets(split, "documents");
    const batches = Math.ceil(2 * perEpoch / (rows * length));
    const source = { split, rows, length, seed };
    const taken = take(source, batches, firstCursor("documents")).batches;
    const targets = segmentsOf(taken).flatMap((segment) => segment.targets);
    const sorted = (tokens: number[]) => [...tokens].sort((a, b) => a - b);
    for (const epoch of [0, 1]) { // no padding between epochs: the targets follow each other
      const seen = targets.slice(epoch * perEpoch, (epoch + 1) * perEpoch);
      assert.deepEqual(sorted(seen), sorted(documents.flat()));
    }
  }));
});

// nanochat PR 811: conversations longer than a row filled the packing buffer: rows of padding, no end.
Deno.test("replay: karpathy/nanochat 811: documents longer than a row, or a batch, go on; the epoch ends", () => {
  const sizes = fc.array(fc.oneof(fc.nat({ max: 3 }), fc.integer({ min: 20, max: 60 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(fc.property(
    fc.record({
      sizes,
      rows: fc.integer({ min: 1, max: 3 }),
      length: fc.integer({ min: 1, max: 7 }),
    }),
    ({ sizes, rows, length }) => {
      const documents = countingDocuments([...sizes, 50]), split = memorySplit(documents, end);
      const perEpoch = countTargets(split, "documents");
      assert.equal(perEpoch, documents.flat().length); // nothing is cut
      const count = Math.ceil(perEpoch / (rows * length));
      const { batches, cursor } = take(
        { split, rows, length, seed: 1 },
        count,
        firstCursor("documents"),
      );
      assert.ok(cursor.packing === "documents" && cursor.epoch >= 1);
      for (const { targets, segmentIds } of batches) {
        assert.ok(!targets.includes(ignoredTarget) && !segmentIds.includes(0));
      }
      // measured once each, in order; padding only behind the last
      const measured = [...validationBatches({ split, rows, length }, "documents")];
      assert.equal(measured.length, count);
      const targets = measured.flatMap(({ targets }) => Array.from(targets));
      assert.deepEqual(targets.slice(0, perEpoch), documents.flat());
      assert.ok(targets.slice(perEpoch).every((target) => target === ignoredTarget));
    },
  ));
});

Deno.test("documents: each is read after an end-of-text token and goes on in the next row", () => {
  const split = memorySplit([[1, 2, 3, 4, 5, end]], end);
  const { batch } = nextBatch({ split, rows: 2, length: 4, seed: 0 }, firstCursor("documents"));
  assert.deepEqual([...batch.ids], [end, 1, 2, 3, 4, 5, end, 1]);
  assert.deepEqual([...batch.targets], [1, 2, 3, 4, 5, end, 1, 2]);
  assert.deepEqual([...batch.segmentIds], [1, 1, 1, 1, 1, 1, 2, 2]);
  assert.deepEqual([...batch.positions], [0, 1, 2, 3, 0, 1, 0, 1]);
});

Deno.test("documents: without an end-of-text token the first token is no target", () => {
  const split = memorySplit([[1, 2, 3], [7], [8, 9]], undefined);
  const batches = [...validationBatches({ split, rows: 2, length: 2 }, "documents")];
  assert.deepEqual(segmentsOf(batches), [
    { inputs: [1, 2], targets: [2, 3] },
    { inputs: [8], targets: [9] },
  ]);
});

for (const packing of packings) {
  Deno.test(`replay: Lightning-AI/litgpt 1712: ${packing}: resuming equals never stopping`, () => {
    fc.assert(fc.property(shapes, fc.nat({ max: 20 }), ({ lengths, rows, length, seed }, stop) => {
      const split = memorySplit(countingDocuments([...lengths, 12]), end);
      const source = { split, rows, length, seed };
      const whole = take(source, stop + 3, firstCursor(packing)).batches.slice(stop);
      const { cursor } = take(source, stop, firstCursor(packing));
      assert.deepEqual(take(source, 3, cursor).batches, whole);
    }));
  });

  Deno.test(`${packing}: two batches of four are one batch of eight`, () => {
    const split = memorySplit(countingDocuments([3, 9, 1, 0, 14, 6]), end);
    const ids = (rows: number, count: number) =>
      take({ split, rows, length: 5, seed: 3 }, count, firstCursor(packing))
        .batches.flatMap(({ ids, targets, segmentIds, positions }) => {
          return Array.from(ids, (id, i) => [id, targets[i], segmentIds[i], positions[i]]);
        });
    assert.deepEqual(ids(8, 1), ids(4, 2));
    assert.deepEqual(ids(8, 1), ids(1, 8));
  });

  Deno.test(`replay: pytorch/torchtitan 4167: ${packing}: validation does not depend on the batch size`, () => {
    const split = memorySplit(countingDocuments([3, 9, 1, 0, 14, 6]), end);
    const rowsOf = (rows: number, maxTargets?: number) =>
      segmentsOf([...validationBatches({ split, rows, length: 5 }, packing, maxTargets)]);
    assert.deepEqual(rowsOf(3), rowsOf(1));
    assert.deepEqual(rowsOf(8), rowsOf(1));
    const given = rowsOf(1).flatMap((segment) => segment.targets);
    assert.equal(given.length, countTargets(split, packing));
    for (const rows of [1, 3, 8]) {
      const some = rowsOf(rows, 13).flatMap((segment) => segment.targets);
      assert.deepEqual(some.filter((target) => target !== ignoredTarget), given.slice(0, 13));
    }
  });
}

Deno.test("windows: each is a run of the split; other seeds draw others", () => {
  const split = memorySplit([Array.from({ length: 50 }, (_, i) => i)], undefined);
  const draw = (seed: number) =>
    take({ split, rows: 20, length: 8, seed }, 2, firstCursor("windows")).batches;
  const starts = segmentsOf(draw(1)).map(({ inputs, targets }) => {
    assert.deepEqual(inputs, Array.from({ length: 8 }, (_, i) => inputs[0] + i));
    assert.deepEqual(targets, inputs.map((id) => id + 1));
    return inputs[0];
  });
  assert.ok(new Set(starts).size > 15);
  assert.notDeepEqual(draw(1), draw(2));
  assert.deepEqual(draw(1), draw(1));
});

Deno.test("stream: rows follow each other in the split's order, and after its end from its start", () => {
  const split = memorySplit([Array.from({ length: 11 }, (_, i) => i)], undefined);
  const { batches, cursor } = take(
    { split, rows: 2, length: 4, seed: 1 },
    3,
    firstCursor("stream"),
  );
  const segments = segmentsOf(batches);
  const all = Array.from({ length: 24 }, (_, i) => i % 11);
  assert.deepEqual(segments.flatMap(({ inputs }) => inputs), all);
  assert.deepEqual(segments.flatMap(({ targets }) => targets), all.map((id) => (id + 1) % 11));
  assert.deepEqual(cursor, { packing: "stream", token: 2 });
});

Deno.test("batches: too little text is a clear error, and does not loop for ever", () => {
  const attempt = (packing: Packing, documents: number[][], endOfText?: number) => () =>
    nextBatch(
      { split: memorySplit(documents, endOfText), rows: 1, length: 4, seed: 0 },
      firstCursor(packing),
    );
  assert.throws(attempt("windows", [[1, 2, 3, 4]]), /4 tokens: too few for rows of 4 \(windows\)/);
  assert.throws(attempt("documents", [[1], [2]]), /too few/);
  assert.throws(attempt("documents", [], end), /too few/);
  attempt("windows", [[1, 2, 3, 4, 5]])();
  attempt("documents", [[1], [2, 3]])();
});
