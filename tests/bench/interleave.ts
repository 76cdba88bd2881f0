/**
 * Timing on a machine that others use: contenders take turns within one run, and only their ratios
 * mean anything.
 */

/** Runs once and returns the milliseconds it took; undefined when it gave up. */
export type Contender = () => number | undefined | Promise<number | undefined>;

export interface Timing {
  readonly median: number;
  readonly best: number;
}

export function timed(run: () => void): Contender {
  return () => {
    const start = performance.now();
    run();
    return performance.now() - start;
  };
}

/**
 * Each contender warms up for `warmMs` (the engine compiles twice), then they take turns for
 * `rounds` rounds.
 */
export async function interleave<Name extends string>(
  contenders: Readonly<Record<Name, Contender>>,
  { rounds = 15, warmMs = 300 } = {},
): Promise<Partial<Record<Name, Timing>>> {
  const times = new Map<Name, number[]>();
  for (const name of Object.keys(contenders) as Name[]) {
    for (const start = performance.now(); performance.now() - start < warmMs;) {
      if (await contenders[name]() === undefined) break;
    }
    times.set(name, []);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [name, taken] of times) {
      const ms = await contenders[name]();
      if (ms === undefined) times.delete(name);
      else taken.push(ms);
    }
  }
  const timings: Partial<Record<Name, Timing>> = {};
  for (const [name, taken] of times) {
    taken.sort((a, b) => a - b);
    timings[name] = { median: taken[Math.floor(taken.length / 2)], best: taken[0] };
  }
  return timings;
}
