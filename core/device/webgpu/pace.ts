/**
 * How much work is submitted at a time, and how much may be under way. A submit that runs too long
 * is killed by the desktop's watchdog (2 s on Windows); work without end that nobody waits for
 * grows memory. Work is counted in FLOPs, bytes at eight FLOPs each, and its speed is learned from
 * the waits that happen anyway.
 */

const SUBMIT_SECONDS = 0.4, UNDER_WAY_SECONDS = 1, MAX_SUBMITS = 64;
// A first guess that even an integrated GPU reaches; wrong guesses only cost a few more submits at
// the start.
const FIRST_RATE = 2e11;

export class Pace {
  readonly #queue: GPUQueue;
  readonly #watchdog: boolean;
  #rate = FIRST_RATE;
  #underWay = 0;
  #submits = 0;
  #since = 0;
  readonly #waits = new Set<Promise<unknown>>();

  /** `watchdog`: submits must be short. Software adapters have none. */
  constructor(queue: GPUQueue, watchdog: boolean) {
    this.#queue = queue;
    this.#watchdog = watchdog;
  }

  /** Work that one submit may hold. */
  get submitWork(): number {
    return this.#watchdog ? this.#rate * SUBMIT_SECONDS : Infinity;
  }

  /** Counts a submit; blocks until the queue is empty when too much is under way. */
  submitted(work: number): void {
    if (this.#submits === 0) this.#since = performance.now();
    this.#underWay += work;
    this.#submits++;
    if (this.#underWay > this.#rate * UNDER_WAY_SECONDS || this.#submits >= MAX_SUBMITS) {
      // In Deno the call itself blocks until all is done; the promise adds a timer that nobody
      // needs to wait for.
      const asked = performance.now();
      const wait: Promise<unknown> = this.#queue.onSubmittedWorkDone()
        .catch(() => {}).finally(() => this.#waits.delete(wait));
      this.#waits.add(wait);
      this.drained(asked);
    }
  }

  /**
   * The queue is empty: a map or a wait that was asked for at `asked` has returned. Learns the
   * speed; where most of the time was not spent waiting, the device may have been idle, and what
   * was measured is only a lower bound.
   */
  drained(asked: number): void {
    const now = performance.now(), elapsed = now - this.#since;
    if (this.#submits > 0 && elapsed > 20) {
      const measured = Math.min(1000 * this.#underWay / elapsed, this.#rate * 4);
      const bounds = now - asked > elapsed / 2 ? this.#rate / 4 : this.#rate;
      this.#rate = Math.max(measured, bounds);
    }
    this.#underWay = this.#submits = 0;
  }

  /** Settles the timers left behind by waits. */
  async settle(): Promise<void> {
    await Promise.all(this.#waits);
  }
}
