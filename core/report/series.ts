/** Series of numbers over steps or tokens, made small without losing what is seen of them. */

/** Points by rising x. What is not finite is a gap. */
export interface Points {
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
}

/**
 * The points that a chart of so many columns shows: of each column the first, the least, the greatest and the last, so
 * that every spike stays. Series that are no longer than that come back as they are.
 */
export function thin({ x, y }: Points, columns: number): { x: number[]; y: number[] } {
  const count = x.length;
  if (count <= 4 * columns) return { x: Array.from(x), y: Array.from(y) };
  const first = x[0], width = (x[count - 1] - first) / columns || 1;
  const columnAt = (i: number) => Math.min(columns - 1, Math.floor((x[i] - first) / width));
  const kept: number[] = [];
  for (let from = 0; from < count;) {
    const column = columnAt(from);
    let least = from, most = from, to = from;
    for (; to < count && columnAt(to) === column; to++) {
      if (!(y[least] <= y[to])) least = Number.isFinite(y[to]) ? to : least;
      if (!(y[most] >= y[to])) most = Number.isFinite(y[to]) ? to : most;
    }
    kept.push(...new Set([from, least, most, to - 1].sort((a, b) => a - b)));
    from = to;
  }
  return { x: kept.map((i) => x[i]), y: kept.map((i) => y[i]) };
}

/**
 * The exponential mean of y that forgets all but 1/e in `span` points, from the first point on without a bias to it.
 * Points that are not finite are passed over.
 */
export function smooth(y: ArrayLike<number>, span: number): Float64Array {
  const keep = Math.exp(-1 / span), smoothed = new Float64Array(y.length);
  let sum = 0, weight = 0;
  for (let i = 0; i < y.length; i++) {
    if (Number.isFinite(y[i])) {
      sum = keep * sum + (1 - keep) * y[i];
      weight = keep * weight + (1 - keep);
    }
    smoothed[i] = weight > 0 ? sum / weight : NaN;
  }
  return smoothed;
}

/** What is said of a series in words. */
export interface Summary {
  readonly count: number;
  readonly first: number;
  readonly last: number;
  readonly least: { readonly x: number; readonly y: number };
  readonly most: { readonly x: number; readonly y: number };
}

/** Of the finite points; undefined where there are none. */
export function summarize({ x, y }: Points): Summary | undefined {
  let count = 0, first = NaN, last = NaN, least = -1, most = -1;
  for (let i = 0; i < x.length; i++) {
    if (!Number.isFinite(y[i])) continue;
    if (count++ === 0) first = y[i];
    last = y[i];
    if (least < 0 || y[i] < y[least]) least = i;
    if (most < 0 || y[i] > y[most]) most = i;
  }
  if (count === 0) return undefined;
  const at = (i: number) => ({ x: x[i], y: y[i] });
  return { count, first, last, least: at(least), most: at(most) };
}
