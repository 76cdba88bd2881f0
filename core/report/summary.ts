/** What a run came to, in a few numbers. */

import type { RunData } from "./read_run.ts";
import type { Series } from "./records.ts";
import { smoothed } from "./metric_charts.ts";

export interface RunSummary {
  readonly run: string;
  readonly state: string;
  /** The last logged; NaN before that. */
  readonly step: number;
  /** Steps that the config names. */
  readonly steps: number | undefined;
  readonly tokens: number;
  readonly loss: number;
  readonly smoothedLoss: number;
  readonly validationLoss: number;
  readonly bitsPerByte: number;
  /** The lowest validation loss, and its step. */
  readonly best: { readonly loss: number; readonly step: number };
  /** The median of what was logged. */
  readonly tokensPerSecond: number;
  readonly checkpoints: number;
}

export function summaryOf(
  { path, state, metrics: { series }, config, checkpoints }: RunData,
): RunSummary {
  const loss = series.get("loss"), held = series.get("validation_loss");
  const { steps } = config;
  return {
    run: path,
    state,
    step: loss?.steps.at(-1) ?? NaN,
    steps: typeof steps === "number" ? steps : undefined,
    tokens: lastOf(series.get("tokens")),
    loss: lastOf(loss),
    smoothedLoss: loss ? Array.from(smoothed(loss)).at(-1) ?? NaN : NaN,
    validationLoss: lastOf(held),
    bitsPerByte: lastOf(series.get("bits_per_byte")),
    best: bestOf(held),
    tokensPerSecond: medianOf(series.get("tokens_per_second")),
    checkpoints: checkpoints.length,
  };
}

function lastOf(series: Series | undefined): number {
  return series?.values.at(-1) ?? NaN;
}

function bestOf({ steps, values }: Series = { steps: [], values: [] }) {
  let best = { loss: NaN, step: NaN };
  for (const [i, loss] of values.entries()) {
    if (!(loss >= best.loss) && Number.isFinite(loss)) best = { loss, step: steps[i] };
  }
  return best;
}

function medianOf({ values }: Series = { steps: [], values: [] }): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}
