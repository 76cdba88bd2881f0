/** Continuing several prompts at once. */

import { type Continuation, continuation } from "./continuation.ts";
import { type GenerateOptions, promptIds, samplingFor, type StopReason } from "./generate.ts";
import type { OpenModel } from "./open.ts";

export interface BatchText {
  readonly text: string;
  readonly reason: StopReason;
  readonly promptTokens: number;
  readonly tokens: number;
}

export interface BatchResult {
  /** A text for each prompt. */
  readonly texts: readonly BatchText[];
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
}

interface Row {
  readonly promptTokens: number;
  /** Tokens that are wanted and fit the context. */
  readonly limit: number;
  readonly continuation: Continuation;
  text: string;
  tokens: number;
}

const isDone = (row: Row) => row.continuation.ended !== undefined || row.tokens === row.limit;

/**
 * Continues as many prompts as the model was opened for, or fewer. Row i draws with seed + i. What
 * a row comes to does not depend on its neighbours, but for rounding in products of another size.
 */
export async function generateBatch(
  open: OpenModel,
  prompts: readonly string[],
  options: GenerateOptions,
): Promise<BatchResult> {
  const { maxTokens, stops = [], signal } = options;
  const { decoder, tokenizer } = open, { batch } = decoder.room;
  if (prompts.length === 0 || prompts.length > batch) {
    throw new RangeError(`opened for ${batch} prompts, given ${prompts.length}`);
  }
  const ids = prompts.map((prompt) => promptIds(open, prompt));
  const rows = ids.map(({ length }): Row => ({
    promptTokens: length,
    limit: Math.min(maxTokens, decoder.roomAfter(length)),
    continuation: continuation(tokenizer, stops),
    text: "",
    tokens: 0,
  }));
  const began = performance.now();
  await decoder.read(Array.from({ length: batch }, (_, row) => ids[row] ?? [0])); // [0]: nobody's
  await decoder.device.idle();
  const read = performance.now();
  // A row whose context is full runs on with the others: its cache drops what comes, nobody looks.
  const count = Math.max(...rows.map(({ limit }) => limit));
  for await (const { tokens } of decoder.steps(count, samplingFor(open, prompts, options))) {
    if (signal?.aborted) break;
    rows.forEach((row, i) => {
      if (isDone(row)) return;
      row.tokens++;
      row.text += row.continuation.push(tokens[i]);
    });
    if (rows.every(isDone)) break;
  }
  return {
    texts: rows.map((row) => finished(row, maxTokens)),
    prefillSeconds: (read - began) / 1000,
    decodeSeconds: (performance.now() - read) / 1000,
  };
}

function finished(row: Row, maxTokens: number): BatchText {
  const { promptTokens, tokens, limit, continuation } = row;
  const text = row.text + continuation.end(); // which may end in a stop text
  const last = tokens < limit ? "interrupted" : limit < maxTokens ? "context" : "max_tokens";
  return { text, reason: continuation.ended ?? last, promptTokens, tokens };
}
