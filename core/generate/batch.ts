/** Continuing several prompts at once. */

import { type EndEvent, type GenerateOptions, generateRows, type TokenEvent } from "./generate.ts";
import type { OpenModel } from "./open.ts";

/** What one of several prompts came to: its end, with the whole text. */
export interface BatchText extends Pick<EndEvent, "text" | "reason" | TokenCounts> {
  /** As they came; the texts of all and what the end held back are the text. */
  readonly events: readonly TokenEvent[];
}

type TokenCounts = "promptTokens" | "tokens" | "slides";

export interface BatchResult
  extends Pick<EndEvent, "prefillSeconds" | "decodeSeconds" | "rereadSeconds"> {
  /** A text for each prompt. */
  readonly texts: readonly BatchText[];
}

/** Continues as many prompts as the model was opened for, or fewer, each as it would be alone. */
export async function generateBatch(
  open: OpenModel,
  prompts: readonly string[],
  options: GenerateOptions,
): Promise<BatchResult> {
  const events = prompts.map((): TokenEvent[] => []), texts: BatchText[] = [];
  const seconds = { prefillSeconds: 0, decodeSeconds: 0, rereadSeconds: 0 };
  for await (const { row, event } of generateRows(open, prompts, options)) {
    if (event.kind === "token") events[row].push(event);
    if (event.kind !== "end") continue;
    const { kind: _, text, prefillSeconds, decodeSeconds, rereadSeconds, ...counts } = event;
    const whole = events[row].map(({ text }) => text).join("") + text;
    texts.push({ ...counts, text: whole, events: events[row] });
    Object.assign(seconds, { prefillSeconds, decodeSeconds, rereadSeconds });
  }
  return { texts, ...seconds };
}
