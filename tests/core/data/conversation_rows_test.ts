import assert from "node:assert/strict";
import fc from "fast-check";
import { type Batch, ignoredTarget } from "../../../core/data/batches.ts";
import {
  type ConversationPacking,
  conversationRows,
  type Conversations,
  conversationsInOrder,
  countInOrder,
  nextConversations,
} from "../../../core/data/conversation_rows.ts";
import { firstFit } from "../../../core/data/first_fit.ts";
import { mixtureCursor } from "../../../core/data/mixture.ts";

/** Conversations of these lengths; ids say which (from 1 on) and where, every third token and the last are learned. */
function conversationsOf(lengths: readonly number[], first = 0): Conversations {
  const read = (i: number) => ({
    ids: Int32Array.from({ length: lengths[i] }, (_, t) => (first + i + 1) * 100 + t),
    weights: Float32Array.from(
      { length: lengths[i] },
      (_, t) => t % 3 === 1 || t === lengths[i] - 1 ? 1 + (i % 2) / 2 : 0,
    ),
  });
  return {
    count: lengths.length,
    lengthOf: (i) => lengths[i],
    countOf: (i) => read(i).weights.subarray(1).reduce((a, b) => a + b, 0),
    read,
  };
}

/** The conversations of a batch, row by row, each held against what it should be. */
function contentsOf(batch: Batch, all: Conversations): number[][] {
  return Array.from({ length: batch.rows }, (_, row) => {
    const found: number[] = [];
    for (let t = 0; t < batch.length;) {
      const at = row * batch.length + t, segment = batch.segmentIds[at];
      if (segment === 0) {
        const rest = batch.weights!.subarray(at, (row + 1) * batch.length);
        assert.ok(rest.every((weight) => weight === 0));
        break;
      }
      const conversation = Math.floor(batch.ids[at] / 100) - 1,
        { ids, weights } = all.read(conversation);
      assert.equal(segment, found.push(conversation));
      for (let i = 0; i < ids.length - 1; i++, t++) {
        const place = row * batch.length + t;
        assert.equal(batch.ids[place], ids[i]);
        assert.equal(batch.targets[place], weights[i + 1] > 0 ? ids[i + 1] : ignoredTarget);
        assert.equal(batch.weights![place], weights[i + 1]);
        assert.deepEqual([batch.positions[place], batch.segmentIds[place]], [i, segment]);
      }
    }
    return found;
  });
}

const lengthsOf: Readonly<Record<ConversationPacking, number[]>> = {
  packed: [16],
  buckets: [4, 8, 16],
};
const sizes = fc.array(fc.integer({ min: 2, max: 17 }), { minLength: 1, maxLength: 40 });

for (const packing of ["packed", "buckets"] as const) {
  const lengths = lengthsOf[packing];
  const shapesOf = (rows: number) =>
    lengths.map((length) => ({ rows: rows * 16 / length, length }));

  Deno.test(`conversations: ${packing}: an epoch has each once, whole; a cursor as JSON goes on the same`, () =>
    fc.assert(fc.property(sizes, fc.integer({ min: 1, max: 5 }), (tokens, rows) => {
      const all = conversationsOf(tokens);
      const sources = [conversationRows(all, { packing, lengths, seed: 7 })];
      const source = { sources, sharesAt: () => [1], padding: 0 };
      let cursor = sources[0].first;
      const given = [0, 1, 2].map(() => new Array<number>());
      for (let part = 0; cursor.epoch < 3; part++) {
        assert.ok(part < 200, "it never ends");
        const before = cursor;
        const next = nextConversations(source, cursor, { step: part, shapes: shapesOf(rows) });
        assert.deepEqual(
          nextConversations(source, JSON.parse(JSON.stringify(before)), {
            step: part,
            shapes: shapesOf(rows),
          }),
          next,
        );
        const contents = contentsOf(next.batch, all).flat();
        assert.ok(contents.length > 0, "a part is all padding");
        cursor = next.cursor as typeof cursor;
        // packed rows of the next epoch may follow in the same part
        for (const one of contents) given.find((epoch) => !epoch.includes(one))?.push(one);
      }
      for (const epoch of given) assert.equal(new Set(epoch).size, tokens.length);
    })));

  Deno.test(`conversations: ${packing}: measuring has each once, in any number of rows the same targets`, () =>
    fc.assert(fc.property(sizes, fc.integer({ min: 1, max: 5 }), (tokens, rows) => {
      const all = conversationsOf(tokens);
      const measure = (most: number) => [
        ...conversationsInOrder(all, { packing, shapes: shapesOf(rows), padding: 0 }, most),
      ];
      const contents = measure(Infinity).flatMap((batch) => contentsOf(batch, all).flat());
      assert.deepEqual(contents.toSorted((a, b) => a - b), [...tokens.keys()]);
      const few = measure(2).flatMap((batch) => contentsOf(batch, all).flat());
      assert.deepEqual(few.toSorted((a, b) => a - b), [...few.keys()]);
      const sum = few.reduce((total, i) => total + all.countOf(i), 0);
      assert.equal(sum, countInOrder(all, 2));
      assert.ok(sum >= Math.min(2, countInOrder(all, Infinity)));
    })));

  Deno.test(`conversations: ${packing}: sources are mixed in their shares, each with epochs of its own`, () => {
    const [a, b] = [conversationsOf([5, 9, 17, 3, 8]), conversationsOf([4, 4, 12], 50)];
    const sources = [a, b].map((all, i) => conversationRows(all, { packing, lengths, seed: 3 }, i));
    const source = { sources, sharesAt: () => [0.75, 0.25], padding: 0 };
    let cursor: Parameters<typeof nextConversations>[1] = mixtureCursor(
      sources.map(({ first }) => first),
    );
    const rowsOf = [0, 0];
    for (let part = 0; part < 40; part++) {
      const next = nextConversations(source, cursor, { step: part, shapes: shapesOf(1) });
      cursor = JSON.parse(JSON.stringify(next.cursor));
      rowsOf[next.batch.ids[0] >= 5000 ? 1 : 0]++;
    }
    assert.deepEqual(rowsOf, [30, 10]);
    const { sources: places } = cursor as ReturnType<
      typeof mixtureCursor<typeof sources[0]["first"]>
    >;
    assert.ok(places.every(({ cursor: { epoch } }) => epoch >= 2));
  });
}

Deno.test("first-fit: each thing goes into the first bin that has room", () =>
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 10 }), { maxLength: 60 }), (sizes) => {
    const bins: number[][] = [];
    const roomIn = (bin: number[]) => 10 - bin.reduce((sum, i) => sum + sizes[i], 0);
    sizes.forEach((size, i) => {
      const bin = bins.find((bin) => roomIn(bin) >= size);
      if (bin) bin.push(i);
      else bins.push([i]);
    });
    const { count, starts, members } = firstFit(sizes.length, 10, (i) => sizes[i]);
    const found = Array.from({ length: count }, (_, b) => [
      ...members.subarray(starts[b], starts[b + 1]),
    ]);
    assert.deepEqual(found, bins);
  })));
