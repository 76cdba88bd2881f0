/** Measuring what is held out: each source's validation split, and all of them together. */

import { type Batch, countOf } from "../data/batches.ts";
import { byteCounter } from "./byte_counter.ts";
import type { RowShape } from "./rows.ts";
import type { Trainer } from "./trainer.ts";
import type { HeldOutData, TrainingData } from "./training_data.ts";

/** What was measured on held-out text. */
export interface Measured {
  /** Mean loss of the targets, in nats. */
  readonly loss: number;
  readonly targets: number;
  readonly bitsPerByte: number;
}

/** Over all targets, and of a mixture each source's, by its name. */
export interface HeldOut extends Measured {
  readonly bySource?: Readonly<Record<string, Measured>>;
}

/** What is measured at once, and how much at most. */
export interface HeldOutRows {
  readonly shapes: readonly RowShape[];
  /** Targets of each source. */
  readonly maxTargets: number;
}

/** Measures every source that holds something out; undefined if none does. */
export async function measureHeldOut(
  trainer: Pick<Trainer, "measure">,
  { heldOut, tokenizer, isMixture }: Pick<TrainingData, "heldOut" | "tokenizer" | "isMixture">,
  { shapes, maxTargets }: HeldOutRows,
  onPart: (part: number) => void = () => {},
): Promise<HeldOut | undefined> {
  const found: { name: string; measured: Measured; bytes: number }[] = [];
  const told = progressOf(heldOut, maxTargets, onPart);
  for (const { name, batches, size } of heldOut) {
    const counter = byteCounter(tokenizer, size);
    const rows = told(counter.watch(batches(shapes, maxTargets)));
    const { loss, targets } = await trainer.measure(rows);
    const bytes = counter.counted(), bitsPerByte = loss * targets / Math.LN2 / bytes;
    found.push({ name, measured: { loss, targets, bitsPerByte }, bytes });
  }
  if (found.length === 0) return undefined;
  if (!isMixture) return found[0].measured;
  const sum = (of: (one: typeof found[number]) => number) =>
    found.reduce((n, one) => n + of(one), 0);
  const lossSum = sum(({ measured: { loss, targets } }) => loss * targets);
  const targets = sum(({ measured }) => measured.targets), bytes = sum(({ bytes }) => bytes);
  return {
    loss: lossSum / targets,
    targets,
    bitsPerByte: lossSum / Math.LN2 / bytes,
    bySource: Object.fromEntries(found.map(({ name, measured }) => [name, measured])),
  };
}

/** Tells the part of all targets that was handed on so far, from 0 on. */
function progressOf(
  heldOut: readonly HeldOutData[],
  maxTargets: number,
  onPart: (part: number) => void,
) {
  const all = heldOut.reduce((sum, { count }) => sum + count(maxTargets), 0);
  let done = 0;
  if (heldOut.length > 0) onPart(0);
  return function* (batches: Iterable<Batch>) {
    for (const batch of batches) {
      yield batch;
      done += countOf(batch);
      onPart(Math.min(1, done / all));
    }
  };
}

/** What was measured, as `metrics.jsonl` has it. */
export function validationRecord({ bySource, ...all }: HeldOut) {
  const names = ({ loss, bitsPerByte }: Measured) => ({
    validation_loss: loss,
    bits_per_byte: bitsPerByte,
  });
  if (!bySource) return names(all);
  const sources = Object.entries(bySource).map(([name, one]) => [name, names(one)]);
  return { ...names(all), validation_by_source: Object.fromEntries(sources) };
}
