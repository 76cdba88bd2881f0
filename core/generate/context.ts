/** Decoding beyond the context of a model, if wanted. */

import type { DecodedStep, Decoder, Sampling } from "./decoder.ts";

/** What a full context does: end the text, or lose its first half. */
export type ContextPolicy = "stop" | "slide";

/** A row's context is full: only so many of its last tokens are kept, and read again. */
export interface Slide {
  readonly kind: "slide";
  readonly row: number;
  readonly kept: number;
}

/** What it took, all rows together, told while it goes on. */
export interface Spent {
  prefillSeconds: number;
  decodeSeconds: number;
  /** What reading the rest of contexts that slid took. */
  rereadSeconds: number;
}

export interface ContextOptions {
  readonly maxTokens: number;
  readonly sampling: Sampling;
  readonly context: ContextPolicy;
  /** Whether a row needs no more tokens: its context slides no more. */
  readonly isDone: (row: number) => boolean;
}

/**
 * Steps after a prompt for each row, until there are `maxTokens` or the contexts are full and may
 * not slide. Rows slide apart, each when its own context is full, as they would alone.
 */
export async function* stepsAcross(
  decoder: Decoder,
  prompts: readonly (readonly number[])[],
  { maxTokens, sampling, context, isDone }: ContextOptions,
  spent: Spent,
): AsyncGenerator<DecodedStep | Slide, void> {
  const { capacity, batch } = decoder.room, half = Math.max(1, capacity >> 1);
  const rows = Array.from({ length: batch }, (_, row) => Array.from(prompts[row] ?? [0])); // [0]: nobody's
  for (let done = 0; done < maxTokens;) {
    const going = [...prompts.keys()].filter((row) => !isDone(row));
    const full = going.filter((row) => rows[row].length > capacity);
    for (const row of full) {
      rows[row] = rows[row].slice(-half);
      yield { kind: "slide", row, kept: rows[row].length };
    }
    const began = performance.now();
    await decoder.read(rows, done === 0 ? undefined : full);
    await decoder.device.idle();
    const read = performance.now();
    spent[done === 0 ? "prefillSeconds" : "rereadSeconds"] += (read - began) / 1000;
    // where contexts may not slide, full rows run on: their caches drop what comes, nobody looks
    const rooms = going.map((row) => decoder.roomAfter(rows[row].length));
    const room = context === "slide" ? Math.min(...rooms) : Math.max(...rooms);
    try {
      for await (
        const step of decoder.steps(Math.min(maxTokens - done, room), sampling, done)
      ) {
        rows.forEach((row, i) => row.push(step.tokens[i]));
        done++;
        yield step;
      }
    } finally {
      spent.decodeSeconds += (performance.now() - read) / 1000;
    }
    if (context === "stop") return;
  }
}
