/**
 * How much work is submitted at a time, and how much may be under way. A submit that runs too long is killed by the desktop's watchdog (2 s on
 * Windows); work without end that nobody waits for grows memory. Work is counted in FLOPs, bytes at eight FLOPs each, and its
 * speed is learned from the waits that happen anyway.
 */

const SUBMIT_SECONDS = 0.4, UNDER_WAY_SECONDS = 1, MAX_SUBMITS = 64;
// A first guess that even an integrated GPU reaches; wrong guesses only cost a few more submits at the start.
const FIRST_RATE = 2e11;

export class Pace {
  readonly #queue: GPUQueue;
  readonly #watchdog: boolean;
  #rate = FIRST_RATE;
  #underWay = 0;
  #submits = 0;
  #since = 0;
  #waits: Promise<unknown>[] = [];

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
      // In Deno the call itself blocks until all is done; the promise adds a timer that nobody needs to wait for.
      this.#waits.push(this.#queue.onSubmittedWorkDone().catch(() => {}));
      this.drained();
    }
  }

  /** The queue was seen empty (a map or a wait returned): learns the speed. */
  drained(): void {
    const seconds = (performance.now() - this.#since) / 1000;
    if (this.#submits > 0 && seconds > 0.02) {
      const measured = this.#underWay / seconds;
      this.#rate = Math.min(Math.max(measured, this.#rate / 4), this.#rate * 4);
    }
    this.#underWay = this.#submits = 0;
  }

  /** Settles the timers left behind by waits. */
  async settle(): Promise<void> {
    const waits = this.#waits;
    this.#waits = [];
    await Promise.all(waits);
  }
}
