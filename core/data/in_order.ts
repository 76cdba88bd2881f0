/**
 * Work on many things at once whose results come in the things' order.
 *
 * @module
 */

/** How much may be under way or wait for its turn. */
export interface Backlog<T> {
  readonly items: number;
  /** Together; a larger item goes alone. */
  readonly bytes: number;
  sizeOf(item: T): number;
}

/**
 * Starts work on items as they come, and gives item and result in order. Where the items end with an
 * error, the results of those before it come first.
 */
export async function* inOrder<T, R>(
  items: AsyncIterable<T>,
  start: (item: T) => Promise<R>,
  { items: mostItems, bytes: mostBytes, sizeOf }: Backlog<T>,
): AsyncGenerator<{ item: T; result: R }> {
  const queue: { item: T; size: number; result: Promise<R> }[] = [];
  let bytes = 0;
  const first = async () => {
    const { item, size, result } = queue.shift()!;
    bytes -= size;
    return { item, result: await result };
  };
  const source = items[Symbol.asyncIterator]();
  let failure: { error: unknown } | undefined;
  try {
    for (;;) {
      const step = await source.next().catch((error) => void (failure = { error }));
      if (step === undefined || step.done) break;
      const item = step.value, size = sizeOf(item);
      while (queue.length > 0 && (queue.length >= mostItems || bytes + size > mostBytes)) {
        yield await first();
      }
      const result = start(item);
      result.catch(() => {}); // whoever waits for it hears of it
      queue.push({ item, size, result });
      bytes += size;
    }
    while (queue.length > 0) yield await first();
    if (failure !== undefined) throw failure.error;
  } finally {
    await source.return?.();
  }
}

/** The first items up to a size, and whether that is all of them. */
export async function readAhead<T>(
  items: AsyncIterable<T>,
  { bytes, sizeOf }: Pick<Backlog<T>, "bytes" | "sizeOf">,
): Promise<{ items: AsyncGenerator<T>; isAll: boolean }> {
  const source = items[Symbol.asyncIterator]();
  const read: T[] = [];
  let size = 0, isAll = false, failure: { error: unknown } | undefined;
  while (size < bytes && !isAll) {
    const step = await source.next().catch((error) => void (failure = { error }));
    isAll = step === undefined || step.done === true;
    if (step === undefined || step.done) break;
    read.push(step.value);
    size += sizeOf(step.value);
  }
  async function* all() {
    try {
      while (read.length > 0) yield read.shift()!;
      if (failure !== undefined) throw failure.error;
      for (let step; !isAll && !(step = await source.next()).done;) yield step.value;
    } finally {
      await source.return?.();
    }
  }
  return { items: all(), isAll };
}
