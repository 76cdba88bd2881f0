import assert from "node:assert/strict";
import { inOrder, readAhead } from "../../../core/data/in_order.ts";

const sizeOf = (item: number) => item;

async function* items(list: readonly number[], error?: Error) {
  for (const item of list) yield await item;
  if (error !== undefined) throw error;
}

Deno.test("inOrder: results come in order, whoever is done first; an error of the items comes last", async () => {
  const seen: number[] = [];
  const work = (item: number) =>
    new Promise<number>((resolve) => setTimeout(() => resolve(10 * item), 20 - 5 * item));
  const run = async () => {
    const backlog = { items: 3, bytes: 99, sizeOf };
    for await (
      const { item, result } of inOrder(items([1, 2, 3, 4], new Error("torn")), work, backlog)
    ) {
      assert.equal(result, 10 * item);
      seen.push(item);
    }
  };
  await assert.rejects(run, /torn/);
  assert.deepEqual(seen, [1, 2, 3, 4]);
});

Deno.test("inOrder: no more is under way than is wanted, by number and by size", async () => {
  let bytes = 0, count = 0, mostBytes = 0, mostCount = 0;
  const work = async (item: number) => {
    [bytes, count] = [bytes + item, count + 1];
    [mostBytes, mostCount] = [Math.max(mostBytes, bytes), Math.max(mostCount, count)];
    await new Promise((resolve) => setTimeout(resolve, 1));
    [bytes, count] = [bytes - item, count - 1];
  };
  const go = async (list: number[]) => {
    [mostBytes, mostCount] = [0, 0];
    await Array.fromAsync(inOrder(items(list), work, { items: 4, bytes: 10, sizeOf }));
    return { mostBytes, mostCount };
  };
  assert.deepEqual(await go(Array(20).fill(1)), { mostBytes: 4, mostCount: 4 });
  assert.deepEqual(await go(Array(20).fill(4)), { mostBytes: 8, mostCount: 2 });
  assert.deepEqual(await go([1, 50, 1]), { mostBytes: 50, mostCount: 1 }); // too large: alone
});

Deno.test("inOrder: whoever stops taking ends the items, too", async () => {
  let isClosed = false;
  async function* endless() {
    try {
      for (let i = 0;; i++) yield await i;
    } finally {
      isClosed = true;
    }
  }
  const ahead = await readAhead(endless(), { bytes: 20, sizeOf });
  assert.equal(ahead.isAll, false);
  for await (
    const { item } of inOrder(ahead.items, (i) => Promise.resolve(i), {
      items: 2,
      bytes: 9,
      sizeOf,
    })
  ) {
    if (item === 12) break;
  }
  assert.ok(isClosed);
});

Deno.test("readAhead: all items come, those that were read and the rest, and an error behind them", async () => {
  for (const bytes of [0, 3, 6, 99]) {
    const { items: all, isAll } = await readAhead(items([1, 2, 3, 4]), { bytes, sizeOf });
    assert.equal(isAll, bytes === 99);
    assert.deepEqual(await Array.fromAsync(all), [1, 2, 3, 4]);
    const torn = await readAhead(items([1, 2], new Error("torn")), { bytes, sizeOf });
    const seen: number[] = [];
    await assert.rejects(async () => {
      for await (const item of torn.items) seen.push(item);
    }, /torn/);
    assert.deepEqual(seen, [1, 2]);
  }
});
