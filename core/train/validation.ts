/** Measuring what is held out: each source's validation split, and all of them together. */

import { type Batch, countTargets, type Packing, validationBatches } from "../data/batches.ts";
import { byteCounter } from "./byte_counter.ts";
import type { OpenData, OpenSource } from "./data.ts";
import { countOf } from "./rows.ts";
import type { Trainer } from "./trainer.ts";

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

export interface HeldOutRows {
  readonly rows: number;
  readonly length: number;
  readonly packing: Packing;
  /** Targets that are measured at most, of each source; 0 is all. */
  readonly maxTokens: number;
}

/** Measures every source that holds something out; undefined if none does. */
export async function measureHeldOut(
  trainer: Pick<Trainer, "measure">,
  data: OpenData,
  { rows, length, packing, maxTokens }: HeldOutRows,
  onPart: (part: number) => void = () => {},
): Promise<HeldOut | undefined> {
  const found: { name: string; measured: Measured; bytes: number }[] = [];
  const told = progressOf(data.sources.filter(holdsOut), { packing, maxTokens }, onPart);
  for (const source of data.sources) {
    if (!holdsOut(source)) continue;
    const { val } = source.shards.splits, counter = byteCounter(data.tokenizer, val);
    const batches = validationBatches({ split: val, rows, length }, packing, maxTokens || Infinity);
    const { loss, targets } = await trainer.measure(told(counter.watch(batches)));
    const bytes = counter.counted(), bitsPerByte = loss * targets / Math.LN2 / bytes;
    found.push({ name: source.name, measured: { loss, targets, bitsPerByte }, bytes });
  }
  if (found.length === 0) return undefined;
  if (!data.isMixture) return found[0].measured;
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
  sources: readonly OpenSource[],
  { packing, maxTokens }: Pick<HeldOutRows, "packing" | "maxTokens">,
  onPart: (part: number) => void,
) {
  const all = sources.reduce(
    (sum, { shards: { splits: { val } } }) =>
      sum + Math.min(maxTokens || Infinity, countTargets(val, packing)),
    0,
  );
  let done = 0;
  if (sources.length > 0) onPart(0);
  return function* (batches: Iterable<Batch>) {
    for (const batch of batches) {
      yield batch;
      done += countOf(batch);
      onPart(Math.min(1, done / all));
    }
  };
}

/** Whether a source has held-out text to measure on. */
export function holdsOut({ shards }: OpenSource): boolean {
  return shards.splits.val.tokens > 0;
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
