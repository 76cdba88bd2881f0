/**
 * Trunks of like lengths together, in few shapes: a plan is made for each. Which trunks meet depends
 * on all of them and never changes a score. Pure.
 */

import type { Trunk } from "./rows.ts";

/** Sizes of what is computed at once; sizes of 0 are of what does not occur. */
export interface ScoreShape {
  /** Trunks, and their tokens behind the base. */
  readonly trunks: number;
  readonly trunkTime: number;
  /** Branches, and their tokens. */
  readonly branches: number;
  readonly branchTime: number;
  /** Places that are scored. */
  readonly places: number;
  /** Positions of a state. */
  readonly capacity: number;
}

export interface ScoreBatch {
  readonly shape: ScoreShape;
  readonly trunks: readonly Trunk[];
}

export interface BatchLimits {
  /** Rows at once, branches or trunks without; 0 is as many as fit. */
  readonly rows: number;
  /** Tokens of trunks, and of branches, that are computed at once. */
  readonly tokens: number;
  /** Positions of all states together. */
  readonly positions: number;
}

/** n or somewhat more: the sizes that occur are a power of two, or half of one more. */
export function roundSize(n: number): number {
  if (n <= 2) return n;
  const power = 2 ** Math.ceil(Math.log2(n));
  return n <= 0.75 * power ? 0.75 * power : power;
}

/** Batches of like branches, and among those of like trunks, the longest first. */
export function batchesOf(trunks: readonly Trunk[], limits: BatchLimits): ScoreBatch[] {
  const sized = trunks.map((trunk, i) => ({ i, ...sizeOf(trunk) })).sort((a, b) =>
    b.base - a.base || b.branchTime - a.branchTime || b.time - a.time || a.i - b.i
  );
  const batches: ScoreBatch[] = [];
  let open: Sized[] = [];
  const close = () => {
    if (open.length > 0) batches.push({ shape: shapeOf(open), trunks: open.map((s) => s.trunk) });
    open = [];
  };
  for (const next of sized) {
    const [first] = open;
    const isUnlike = first && first.base !== next.base;
    if (isUnlike || open.length > 0 && !fits([...open, next], limits)) close();
    open.push(next);
  }
  close();
  return batches;
}

interface Sized {
  readonly trunk: Trunk;
  readonly base: number;
  readonly time: number;
  readonly branches: number;
  readonly branchTime: number;
  readonly places: number;
}

/** Fewer sizes, where a plan costs more than what is padded. */
const coarse = (n: number) => n === 0 ? 0 : 2 ** Math.ceil(Math.log2(n));
const coarseTime = (n: number) => n > 64 ? roundSize(n) : coarse(n);

function sizeOf(trunk: Trunk): Sized {
  const lengths = trunk.branches.map(({ ids }) => ids.length);
  return {
    trunk,
    base: trunk.base,
    time: roundSize(trunk.ids.length),
    branches: lengths.filter((length) => length > 0).length,
    branchTime: coarseTime(Math.max(...lengths)),
    places: trunk.branches.reduce((sum, { scored }) => sum + scored, 0),
  };
}

function totalsOf(all: readonly Sized[]) {
  const sum = (of: (one: Sized) => number) => all.reduce((total, one) => total + of(one), 0);
  const branches = sum((one) => one.branches);
  return {
    branches,
    rows: sum((one) => Math.max(1, one.branches)),
    time: Math.max(...all.map((one) => one.time)),
    branchTime: branches === 0 ? 0 : Math.max(...all.map((one) => one.branchTime)),
    places: sum((one) => one.places),
  };
}

function fits(all: readonly Sized[], { rows, tokens, positions }: BatchLimits): boolean {
  const sum = totalsOf(all), capacity = all[0].base + sum.time + sum.branchTime;
  return (rows === 0 || sum.rows <= rows) &&
    roundSize(all.length) * sum.time <= tokens &&
    roundSize(sum.branches) * sum.branchTime <= tokens &&
    (all.length + sum.branches) * capacity <= positions;
}

function shapeOf(all: readonly Sized[]): ScoreShape {
  const { branches, time, branchTime, places } = totalsOf(all);
  return {
    trunks: roundSize(all.length),
    trunkTime: time,
    branches: roundSize(branches),
    branchTime,
    places: coarse(places),
    capacity: roundSize(all[0].base + time + branchTime),
  };
}
