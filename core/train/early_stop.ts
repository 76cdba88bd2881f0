/** Ending a run whose validation loss falls no more. */

import { z } from "zod";

/** When to end a run early. */
export const earlyStopConfig = z.strictObject({
  /** After so many measurements in a row of which none is better than the best before. */
  patience: z.int().positive(),
  /** Better is lower by more than so many nats. */
  min_delta: z.number().nonnegative().default(0),
});
export type EarlyStopConfig = z.output<typeof earlyStopConfig>;

/** What was measured so far; plain data that a checkpoint holds as JSON. */
export const patienceSchema = z.strictObject({
  /** The lowest validation loss. */
  best: z.number(),
  /** Measurements since then. */
  waited: z.int().min(0),
});
export type Patience = z.output<typeof patienceSchema>;

/** What is known after one more measurement. */
export function afterMeasuring(
  before: Patience | undefined,
  loss: number,
  { min_delta }: EarlyStopConfig,
): Patience {
  return before === undefined || loss < before.best - min_delta
    ? { best: loss, waited: 0 }
    : { best: before.best, waited: before.waited + 1 };
}

/** Whether it is time to end. */
export function isOutOfPatience(
  config: EarlyStopConfig | undefined,
  patience: Patience | undefined,
): boolean {
  return config !== undefined && patience !== undefined && patience.waited >= config.patience;
}
