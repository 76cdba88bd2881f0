/** Decoding beyond the context of a model, if wanted. */

import type { DecodedStep, Decoder, Sampling } from "./decoder.ts";

/** What a full context does: end the text, or lose its first half. */
export type ContextPolicy = "stop" | "slide";

/** The context is full: only so many of the last tokens are kept, and read again. */
export interface Slide {
  readonly kind: "slide";
  readonly kept: number;
}

/** What it took, told while it goes on. */
export interface Spent {
  /** Tokens of the prompt that were read. */
  promptTokens: number;
  prefillSeconds: number;
  decodeSeconds: number;
  /** How often the context slid, and what reading its rest again took. */
  slides: number;
  rereadSeconds: number;
}

export interface ContextOptions {
  readonly maxTokens: number;
  readonly sampling: Sampling;
  readonly context: ContextPolicy;
}

/** Steps after one prompt, until there are `maxTokens` or the context is full and may not slide. */
export async function* stepsAcross(
  decoder: Decoder,
  prompt: readonly number[],
  { maxTokens, sampling, context }: ContextOptions,
  spent: Spent,
): AsyncGenerator<DecodedStep | Slide, void> {
  const { capacity } = decoder.room, half = Math.max(1, capacity >> 1);
  let window = Array.from(prompt), done = 0;
  const slide = (): Slide => {
    window = window.slice(-half);
    spent.slides++;
    return { kind: "slide", kept: window.length };
  };
  if (window.length > capacity) yield slide();
  spent.promptTokens = window.length;
  for (;;) {
    const began = performance.now();
    await decoder.read([window]);
    await decoder.device.idle();
    const read = performance.now();
    spent[done === 0 ? "prefillSeconds" : "rereadSeconds"] += (read - began) / 1000;
    const count = Math.min(maxTokens - done, decoder.roomAfter(window.length));
    try {
      for await (const step of decoder.steps(count, sampling, done)) {
        window.push(step.tokens[0]);
        done++;
        yield step;
      }
    } finally {
      spent.decodeSeconds += (performance.now() - read) / 1000;
    }
    if (done === maxTokens || context === "stop") return;
    yield slide();
  }
}
