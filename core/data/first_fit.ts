/**
 * First-fit packing: each thing goes into the first bin that has room for it, in the order of the things.
 *
 * @module
 */

/** Bins in the order in which they were opened; bin b has `members.subarray(starts[b], starts[b + 1])`. */
export interface Bins {
  readonly count: number;
  readonly starts: Uint32Array;
  /** Things by their number in the order, those of a bin one after the other. */
  readonly members: Uint32Array;
}

/** Packs `count` things; `sizeOf(i)` is at most `capacity`. Takes count · log(count) steps. */
export function firstFit(
  count: number,
  capacity: number,
  sizeOf: (thing: number) => number,
): Bins {
  // a tree over all bins that there may be: a node has the most room of those below it
  const leaves = 2 ** Math.ceil(Math.log2(Math.max(1, count)));
  const room = new Float64Array(2 * leaves).fill(capacity);
  const binOf = new Uint32Array(count);
  let bins = 0;
  for (let thing = 0; thing < count; thing++) {
    const size = sizeOf(thing);
    if (size > capacity) throw new RangeError(`${size} does not fit into ${capacity}`);
    let node = 1;
    while (node < leaves) node = room[2 * node] >= size ? 2 * node : 2 * node + 1;
    binOf[thing] = node - leaves;
    bins = Math.max(bins, node - leaves + 1);
    room[node] -= size;
    while ((node >>= 1) > 0) room[node] = Math.max(room[2 * node], room[2 * node + 1]);
  }
  return gathered(binOf, bins);
}

function gathered(binOf: Uint32Array, count: number): Bins {
  const starts = new Uint32Array(count + 1);
  for (const bin of binOf) starts[bin + 1]++;
  for (let bin = 0; bin < count; bin++) starts[bin + 1] += starts[bin];
  const next = starts.slice(), members = new Uint32Array(binOf.length);
  binOf.forEach((bin, thing) => members[next[bin]++] = thing);
  return { count, starts, members };
}
