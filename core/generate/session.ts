/** One text that grows, and is taken back: what the device has read of it is not read again. */

import type { DecodedStep, Decoder, Sampling, Snapshot } from "./decoder.ts";

/** How much of a text the device had, and how much it read; the last token is read with the first step. */
export interface Reading {
  readonly kept: number;
  readonly read: number;
}

/** Holds a decoder, opened for one row, until it is disposed of. */
export interface Session extends Disposable {
  readonly decoder: Decoder;
  /** Makes the device ready to go on after `ids`, of which there is one at least. */
  read(ids: readonly number[]): Promise<Reading>;
  /**
   * Reads what of `ids` would have to be read again with a text that goes on from them, in pieces, so
   * that the caller's other work is not kept waiting for long; until it is asked to stop.
   */
  settle(ids: readonly number[], signal: AbortSignal): Promise<void>;
  /** Up to `count` steps after what was read: see `Decoder.steps`. */
  steps(count: number, sampling: Sampling, done?: number): AsyncGenerator<DecodedStep, void>;
  /** Forgets what was read, as after an error. */
  reset(): void;
}

/** Host memory for snapshots. The oldest go first: what they were for is then read again. */
const SNAPSHOT_BYTES = 2 ** 28;

/** Tokens of a piece: a tenth of a second's work for 100 million parameters on a few cores. */
const PIECE = 32;

/**
 * Keys and values go back to any beginning of the text. State that is a sum (a delta rule's matrix,
 * the tail of a convolution, a mean) does not, and decoding runs ahead of what is taken from it, so
 * it is copied to the host each time a text was read, and a later text that begins with an earlier
 * one goes on from the copy: of a chat, answers are then read again, in one piece with what follows.
 */
export function openSession(decoder: Decoder): Session {
  if (decoder.room.batch !== 1) throw new RangeError("a session has one row");
  const claim = decoder.claim(), hasSums = decoder.sums.length > 0;
  let known: number[] = []; // what the places hold, from the first on
  let pending = 0; // the last token, which the next step reads
  let snapshots: Kept[] = []; // of beginnings of `known`, the longest last

  const keep = async (length: number, isPassing: boolean) => {
    if (snapshots.at(-1)?.length === length) return;
    const values = await decoder.snapshot();
    if (snapshots.at(-1)?.isPassing) snapshots.pop();
    snapshots.push({ length, values, isPassing });
    const bytes = snapshots.map(({ values }) => bytesOf(values));
    let total = bytes.reduce((sum, each) => sum + each, 0);
    for (let i = 0; i < bytes.length - 1 && total > SNAPSHOT_BYTES; i++) {
      total -= bytes[i];
      snapshots.shift();
    }
  };

  const read = async (ids: readonly number[], isPassing = false) => {
    const last = ids.length - 1, common = commonLength(known, ids, last);
    snapshots = snapshots.filter(({ length }) => length <= common);
    const before = snapshots.at(-1), kept = hasSums ? before?.length ?? 0 : common;
    known = known.slice(0, kept); // should reading fail
    if (before) decoder.restore(before.values);
    await decoder.read([ids], [0], kept);
    if (hasSums && last > 0) await keep(last, isPassing);
    known = ids.slice(0, last);
    pending = ids[last];
    return { kept, read: last - kept };
  };

  return {
    decoder,
    read: (ids) => read(ids),
    async settle(ids, signal) {
      while (hasSums && !signal.aborted) {
        const done = snapshots.findLast(({ length }) =>
          length < ids.length && commonLength(known, ids, length) === length
        )?.length ?? 0;
        if (done >= ids.length - 1) {
          return;
        }
        const end = Math.min(ids.length, done + 1 + PIECE);
        await read(ids.slice(0, end), end < ids.length);
        await decoder.device.idle();
      }
    },
    async *steps(count, sampling, done) {
      for await (const step of decoder.steps(count, sampling, done)) {
        known.push(pending);
        pending = step.tokens[0];
        yield step;
      }
    },
    reset() {
      known = [];
      snapshots = [];
    },
    [Symbol.dispose]: () => claim[Symbol.dispose](),
  };
}

interface Kept {
  /** Tokens that it stands behind. */
  readonly length: number;
  readonly values: Snapshot;
  /** Whether the next one takes its place. */
  readonly isPassing: boolean;
}

/** How many of the first `most` ids are the same. */
function commonLength(a: readonly number[], b: readonly number[], most: number): number {
  let length = 0;
  while (length < most && length < a.length && a[length] === b[length]) length++;
  return length;
}

function bytesOf(snapshot: Snapshot): number {
  return [...snapshot.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
}
