/** Places of intermediates: tensors that do not live at the same time share bytes. */

export interface Interval {
  readonly bytes: number;
  /** First and last step at which the bytes must be untouched by others. */
  readonly first: number;
  readonly last: number;
}

export interface Layout {
  readonly offsets: readonly number[];
  readonly bytes: number;
}

/**
 * Offsets for all intervals, largest first, each at the lowest place that is free over its life
 * (Pisarchyk & Lee 2020, "greedy by size"). None crosses a multiple of `slabBytes`.
 */
export function layOut(
  intervals: readonly Interval[],
  { alignment, slack, slabBytes }: { alignment: number; slack: number; slabBytes: number },
): Layout {
  const round = (n: number) => Math.ceil(n / alignment) * alignment;
  const sizes = intervals.map(({ bytes }) => round(Math.max(bytes, 4) + slack));
  const order = [...intervals.keys()].sort((a, b) =>
    sizes[b] - sizes[a] || intervals[a].first - intervals[b].first || a - b
  );
  const placed: number[] = [], offsets = new Array<number>(intervals.length).fill(0);
  let bytes = 0;
  for (const i of order) {
    const { first, last } = intervals[i], size = sizes[i];
    // `placed` is kept in the order of offsets, so one walk finds the first gap.
    let at = 0;
    for (const other of placed) {
      if (intervals[other].last < first || intervals[other].first > last) continue;
      at = fit(at, size, slabBytes);
      if (offsets[other] >= at + size) break;
      at = Math.max(at, offsets[other] + sizes[other]);
    }
    at = fit(at, size, slabBytes);
    offsets[i] = at;
    placed.splice(lowerBound(placed, offsets, at), 0, i);
    bytes = Math.max(bytes, at + size);
  }
  return { offsets, bytes };
}

/** The lowest offset from `at` on where `size` bytes do not cross the end of a slab. */
function fit(at: number, size: number, slabBytes: number): number {
  const end = (Math.floor(at / slabBytes) + 1) * slabBytes;
  return at + size <= end || size > slabBytes ? at : end;
}

function lowerBound(placed: readonly number[], offsets: readonly number[], at: number): number {
  let low = 0, high = placed.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (offsets[placed[middle]] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}
