/**
 * How members of the pool wait for each other: words in the shared memory that they spin on for up
 * to half a millisecond and then sleep on. Every word is read and written by atomics only.
 */

import type { Program, Walk } from "./program.ts";

/**
 * Words of the control block, each on cache lines of its own: a member that spins on one must not
 * slow another that writes its neighbour.
 */
const LINE = 32;
export const ORDER = 0,
  PROGRAM = LINE,
  TIMES = 2 * LINE,
  DONE = 3 * LINE,
  MAILS = 4 * LINE,
  ERROR = 5 * LINE;
const ARRIVED = 6 * LINE, GENERATION = 7 * LINE, SLEEPERS = 8 * LINE;
const WORDS = 9 * LINE, ERROR_TEXT = 2048, ERROR_BYTES = 1024;
/** Loads before a waiting member goes to sleep: about half a millisecond. */
const SPIN = 20_000, BRIEF = 200;

/**
 * What the workers are told to do: the low bits of an order, whose other bits count. One word, so
 * that neither is seen without the other.
 */
export const RUN = 1, MAIL = 2, QUIT = 3;

export function controlWords(memory: WebAssembly.Memory): Int32Array {
  return new Int32Array(memory.buffer, 0, WORDS);
}

export function order(words: Int32Array, what: typeof RUN | typeof MAIL | typeof QUIT): void {
  Atomics.store(words, ORDER, (Atomics.load(words, ORDER) & ~3) + 4 | what);
  Atomics.notify(words, ORDER);
}

/**
 * All entries, `times` times, meeting where it matters; returns the milliseconds spent waiting for
 * others. After an error the member only keeps the others company.
 */
export function walkAll(
  memory: WebAssembly.Memory,
  { entries, meetings }: Program,
  walk: Walk,
  times: number,
  member: number,
  members: number,
): number {
  let waited = 0;
  const words = controlWords(memory);
  for (let time = 0; time < times; time++) {
    for (let i = 0; i < entries.length; i++) {
      if (Atomics.load(words, ERROR) === 0) {
        try {
          walk(entries[i], member, members);
        } catch (error) {
          writeError(memory, error);
        }
      }
      if (meetings[i] && members > 1) waited += barrier(words, members);
    }
  }
  return waited;
}

/**
 * Returns the milliseconds waited; waits too short to be worth a look at the clock count as none.
 */
function barrier(words: Int32Array, members: number): number {
  const generation = Atomics.load(words, GENERATION);
  if (Atomics.add(words, ARRIVED, 1) === members - 1) {
    Atomics.store(words, ARRIVED, 0);
    Atomics.add(words, GENERATION, 1);
    if (Atomics.load(words, SLEEPERS) > 0) Atomics.notify(words, GENERATION);
    return 0;
  }
  for (let i = 0; i < BRIEF; i++) if (Atomics.load(words, GENERATION) !== generation) return 0;
  const began = performance.now();
  for (let i = 0; i < SPIN; i++) {
    if (Atomics.load(words, GENERATION) !== generation) return performance.now() - began;
  }
  Atomics.add(words, SLEEPERS, 1);
  while (Atomics.load(words, GENERATION) === generation) {
    Atomics.wait(words, GENERATION, generation, 1000);
  }
  Atomics.sub(words, SLEEPERS, 1);
  return performance.now() - began;
}

export function waitUntil(
  words: Int32Array,
  at: number,
  holds: (value: number) => boolean,
): number {
  for (let i = 0; i < SPIN; i++) {
    const value = Atomics.load(words, at);
    if (holds(value)) return value;
  }
  for (;;) {
    const value = Atomics.load(words, at);
    if (holds(value)) return value;
    Atomics.wait(words, at, value, 1000);
  }
}

/** Leaves an error for the main thread, in words. */
function writeError(memory: WebAssembly.Memory, error: unknown): void {
  const text = new TextEncoder().encode(error instanceof Error ? error.message : String(error))
    .subarray(0, ERROR_BYTES - 1);
  const bytes = new Uint8Array(memory.buffer, ERROR_TEXT, ERROR_BYTES);
  bytes.fill(0);
  bytes.set(text);
  Atomics.store(controlWords(memory), ERROR, 1);
}

/** What a member left, if one did. */
export function readError(memory: WebAssembly.Memory): string | undefined {
  if (Atomics.load(controlWords(memory), ERROR) === 0) return undefined;
  const bytes = new Uint8Array(memory.buffer, ERROR_TEXT, ERROR_BYTES).slice();
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}
