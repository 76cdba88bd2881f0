import assert from "node:assert/strict";
import fc from "fast-check";
import { type Batch, ignoredTarget, nextBatch, packings } from "../../../core/data/batches.ts";
import {
  chooseSource,
  firstMixtureCursor,
  type MixtureCursor,
  nextRows,
  type RowSource,
  sourceNames,
} from "../../../core/data/mixture.ts";
import { memorySplit } from "./support.ts";

const end = 99;

/** The tokens of source i, document d are 1000 (i + 1) + …, so that a row tells where it is from. */
function splitsOf(lengths: readonly (readonly number[])[]) {
  return lengths.map((documents, i) => {
    let token = 1000 * (i + 1);
    const made = documents.map((length) => [...Array.from({ length }, () => token++), end]);
    return memorySplit(made, end);
  });
}

const sourceAt = ({ ids, targets, length }: Batch, row: number) => {
  const tokens = [ids, targets].map((all) => all.subarray(row * length, (row + 1) * length));
  const token = tokens.flatMap((row) => [...row]).find((id) => id >= 1000)!;
  return Math.floor(token / 1000) - 1;
};

function take(source: RowSource, steps: number, from: MixtureCursor, firstStep = 0) {
  let cursor = from;
  const batches: Batch[] = [];
  for (let i = 0; i < steps; i++) {
    const next = nextRows(source, cursor, firstStep + i);
    batches.push(next.batch);
    cursor = JSON.parse(JSON.stringify(next.cursor)); // as a checkpoint would keep it
  }
  return { batches, cursor };
}

/** Chooses for each list of weights in turn; the credits after each row. */
function choices(weights: readonly (readonly number[])[]) {
  let credits = weights[0].map(() => 0);
  return weights.map((row) => {
    const sum = row.reduce((a, b) => a + b, 0);
    const next = chooseSource(credits, row.map((weight) => weight / sum));
    credits = next.credits;
    return next;
  });
}

/** How many rows a source may fall behind: one, or 1/2 + 1/3 + … + 1/n. */
const behind = (n: number) =>
  Math.max(1, Array.from({ length: n - 1 }, (_, k) => 1 / (k + 2)).reduce((a, b) => a + b, 0));

const whole = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 });

Deno.test("mixture: at any moment a source has given its share to within one row", () => {
  fc.assert(fc.property(whole, (weights) => {
    const sum = weights.reduce((a, b) => a + b, 0), given = weights.map(() => 0);
    const made = choices(Array.from({ length: 3 * sum }, () => weights));
    for (const [row, { chosen }] of made.entries()) {
      given[chosen]++;
      weights.forEach((weight, i) => {
        const owed = weight * (row + 1) - given[i] * sum; // exact: in rows of 1/sum
        const isClose = -sum < owed && owed < sum * behind(weights.length);
        assert.ok(isClose, `source ${i} after ${row + 1} rows: ${owed} of ${sum}`);
      });
    }
    assert.deepEqual(given, weights.map((weight) => 3 * weight)); // whole rounds come out even
  }));
});

Deno.test("mixture: equal credits are given in order, whatever rounding does to their weights", () => {
  fc.assert(fc.property(whole, (weights) => {
    const sum = weights.reduce((a, b) => a + b, 0), credits = weights.map(() => 0);
    const expected = Array.from({ length: 2 * sum }, () => {
      weights.forEach((weight, i) => credits[i] += weight); // whole numbers: exact
      const chosen = credits.indexOf(Math.max(...credits));
      credits[chosen] -= sum;
      return chosen;
    });
    const found = choices(Array.from({ length: 2 * sum }, () => weights.map((w) => w / 10)));
    assert.deepEqual(found.map(({ chosen }) => chosen), expected);
  }));
});

Deno.test("mixture: shares that change with every row stay exact; a weight of 0 gives nothing", () => {
  const weight = fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, {
    weight: 3,
    arbitrary: fc.double({ min: 0.01, max: 1, noNaN: true }),
  });
  const changing = fc.integer({ min: 1, max: 6 }).chain((n) =>
    fc.array(
      fc.array(weight, { minLength: n, maxLength: n }).filter((row) => row.some((w) => w > 0)),
      { minLength: 1, maxLength: 60 },
    )
  );
  fc.assert(
    fc.property(changing, (rows) => {
      const neverRests = rows.every((row) => row.every((w) => w > 0));
      for (const [i, { chosen, credits }] of choices(rows).entries()) {
        assert.ok(rows[i][chosen] > 0);
        assert.ok(Math.abs(credits.reduce((a, b) => a + b, 0)) < 1e-9);
        const n = credits.length;
        const [low, high] = neverRests || n <= 3 ? [-1, behind(n)] : [1 - n, n];
        for (const credit of credits) assert.ok(credit > low && credit < high, `${credits}`);
      }
    }),
    { numRuns: 300 },
  );
});

const mixtures = fc.record({
  lengths: fc.array(fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 2, maxLength: 6 }), {
    minLength: 1,
    maxLength: 4,
  }),
  rows: fc.integer({ min: 1, max: 4 }),
  length: fc.integer({ min: 2, max: 9 }),
  seed: fc.nat({ max: 1000 }),
});

/** Weights that move from source to source as the steps go on. */
const moving = (count: number) => (step: number) => {
  const weights = Array.from({ length: count }, (_, i) => (step + 3 * i) % 7);
  weights[step % count] += 1;
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
};

for (const packing of packings) {
  Deno.test(`replay: Lightning-AI/litgpt 1712: ${packing}: a mixture resumed anywhere equals one never stopped`, () => {
    fc.assert(fc.property(mixtures, fc.nat({ max: 20 }), ({ lengths, ...shape }, stop) => {
      const splits = splitsOf(lengths.map((documents) => [...documents, 12]));
      const source = { ...shape, splits, sharesAt: moving(splits.length) };
      const first = firstMixtureCursor(packing, splits.length);
      const never = take(source, stop + 3, first);
      const { cursor } = take(source, stop, first);
      const resumed = take(source, 3, cursor, stop);
      assert.deepEqual(resumed.batches, never.batches.slice(stop));
      assert.deepEqual(resumed.cursor, never.cursor);
    }));
  });

  Deno.test(`mixture: ${packing}: eight rows of an update are the rows of its two or eight parts`, () => {
    const splits = splitsOf([[9, 3, 12], [4, 4, 4, 8], [20]]);
    const rowsOf = (rows: number) => {
      const source = { splits, rows, length: 5, seed: 3, sharesAt: moving(3) };
      let cursor = firstMixtureCursor(packing, 3);
      const cells: number[][] = [];
      for (let step = 0; step < 4; step++) {
        for (let part = 0; part < 8 / rows; part++) {
          const next = nextRows(source, cursor, step);
          cursor = next.cursor as MixtureCursor;
          const { ids, targets, segmentIds, positions } = next.batch;
          ids.forEach((id, i) => cells.push([id, targets[i], segmentIds[i], positions[i]]));
        }
      }
      return { cells, cursor };
    };
    assert.deepEqual(rowsOf(4), rowsOf(8));
    assert.deepEqual(rowsOf(1), rowsOf(8));
  });

  Deno.test(`mixture: ${packing}: a row is of one source, and what a source gives does not depend on the others`, () => {
    const splits = splitsOf([[9, 3, 12], [4, 4, 4, 8], [20, 7]]);
    const given = (weights: number[], source: number) => {
      const from = { splits, rows: 1, length: 6, seed: 5, sharesAt: () => weights };
      const { batches, cursor } = take(from, 60, firstMixtureCursor(packing, 3));
      const rows = batches.filter((batch) => sourceAt(batch, 0) === source);
      for (const { ids, targets } of batches) {
        const tokens = [...ids, ...targets].filter((id) => id >= 1000);
        assert.equal(new Set(tokens.map((id) => Math.floor(id / 1000))).size, 1);
      }
      const counted = rows.flatMap(({ targets }) => [...targets]).filter((t) =>
        t !== ignoredTarget
      );
      assert.equal(cursor.sources[source].tokens, counted.length);
      return rows;
    };
    for (const source of [0, 1, 2]) { // several epochs of each
      const some = given([0.5, 0.3, 0.2], source), more = given([0.2, 0.3, 0.5], source);
      const both = Math.min(some.length, more.length);
      assert.ok(both >= 10);
      assert.deepEqual(some.slice(0, both), more.slice(0, both));
    }
  });

  Deno.test(`mixture: ${packing}: one source alone gives what its folder gives without a mixture`, () => {
    const [split] = splitsOf([[9, 3, 12, 5]]), source = { rows: 3, length: 5, seed: 4 };
    const mixed = { ...source, splits: [split], sharesAt: () => [1] };
    const { batches } = take(mixed, 6, firstMixtureCursor(packing, 1));
    let { cursor } = firstMixtureCursor(packing, 1).sources[0];
    for (const batch of batches) {
      const alone = nextBatch({ ...source, split }, cursor);
      assert.deepEqual(batch, alone.batch);
      cursor = alone.cursor;
    }
  });
}

Deno.test("mixture: sources of equal length are not read in the same order", () => {
  const lengths = Array.from({ length: 30 }, () => 4), splits = splitsOf([lengths, lengths]);
  const source = { splits, rows: 1, length: 5, seed: 1, sharesAt: () => [0.5, 0.5] };
  const { batches } = take(source, 60, firstMixtureCursor("documents", 2));
  const order = (wanted: number) =>
    batches.filter((batch) => sourceAt(batch, 0) === wanted).map(({ ids }) => ids[1] % 1000);
  assert.equal(order(0).length, 30);
  assert.notDeepEqual(order(0), order(1));
});

Deno.test("mixture: sources are called by the last part of their path, or by what tells them apart", () => {
  assert.deepEqual(sourceNames(["data/math", "data/code/"]), ["math", "code"]);
  assert.deepEqual(sourceNames(["a/web", "b/web", "c/code"]), ["a/web", "b/web", "code"]);
  assert.deepEqual(sourceNames(["web", "old/web"]), ["web", "old/web"]);
  assert.deepEqual(sourceNames(["x/web", "x/web"]), ["x/web", "x/web (2)"]);
  assert.deepEqual(sourceNames(["."]), ["."]);
});
