/** When a report may be written, so that it costs a run less than 1 % of its time. */

/** A report comes no sooner than that after the one before, or after the beginning. */
const least_ms = 5000;
/** Nor before so many times as long has passed as the last one took. */
const patience = 200;

export interface Pace {
  /** Whether it is time for another one. */
  isDue(): boolean;
  /** Does the work, and remembers how long it took. */
  spend(work: () => Promise<void>): Promise<void>;
}

/** `clock` tells milliseconds, from anywhere. */
export function pace(clock: () => number = () => performance.now()): Pace {
  let due = clock() + least_ms;
  return {
    isDue: () => clock() >= due,
    async spend(work) {
      const began = clock();
      try {
        await work();
      } finally {
        const ended = clock();
        due = ended + Math.max(least_ms, patience * (ended - began));
      }
    },
  };
}
