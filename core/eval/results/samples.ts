/** The log of an evaluation, a line for each document, from which one that was stopped goes on. */

import { join } from "node:path";
import { writeAllBytes, writeFileAtomic } from "../../io/atomic.ts";
import { readInput } from "../../io/input_file.ts";
import { splitLines } from "../../io/lines.ts";
import type { Doc, Value } from "../types.ts";

/** What was asked about a document, what the model said, and what that is worth. */
export interface Sample {
  /** The document's place among all that the task has. */
  readonly doc_id: number;
  readonly doc: Doc;
  readonly target: string | number;
  /** Context and continuation of each request; of a rolling one the text. */
  readonly arguments: readonly (readonly string[])[];
  /** Log-probability and whether it is greedy; of a generated text the text. */
  readonly resps: readonly (readonly [number, boolean] | readonly [number] | string)[];
  /** Of the continuations, or generated. */
  readonly tokens: readonly number[];
  /** By `metricKey`. */
  readonly metrics: Readonly<Record<string, Value>>;
}

/** What a comparison reads of a sample. */
export type SampleValues = Pick<Sample, "doc_id" | "metrics">;

export function samplesPath(folder: string, task: string): string {
  return join(folder, `samples_${task.replaceAll(/[^\w.-]/g, "_")}.jsonl`);
}

/** All whole lines; what a crash left of a last one is no line. */
export async function readSamples(path: string): Promise<Sample[]> {
  const samples: Sample[] = [], decoder = new TextDecoder();
  for await (const { bytes } of splitLines(readInput(path))) {
    const sample = parsed(decoder.decode(bytes));
    if (sample) samples.push(sample);
  }
  return samples;
}

function parsed(line: string): Sample | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** Appends samples as they come; `close` leaves them in the documents' order. */
export interface SampleLog extends AsyncDisposable {
  /** Those that were there. */
  readonly known: ReadonlyMap<number, Sample>;
  add(samples: readonly Sample[]): Promise<void>;
  /** All samples in order, as the file has them now. */
  finish(): Promise<readonly Sample[]>;
}

/** Without a path nothing is written. */
export async function openSampleLog(path: string | undefined): Promise<SampleLog> {
  const isThere = path !== undefined && await Deno.stat(path).then(() => true, () => false);
  const found = isThere ? await readSamples(path) : [];
  const known = new Map(found.map((sample) => [sample.doc_id, sample]));
  const all = new Map(known);
  // a line that is not whole is taken away before others follow it
  if (path !== undefined) await writeFileAtomic(path, linesOf([...all.values()]));
  const file = path === undefined ? undefined : await Deno.open(path, { append: true });
  return {
    known,
    async add(samples) {
      for (const sample of samples) all.set(sample.doc_id, sample);
      if (file) await writeAllBytes(file, new TextEncoder().encode(linesOf(samples)));
    },
    async finish() {
      const ordered = [...all.values()].sort((a, b) => a.doc_id - b.doc_id);
      if (path !== undefined) await writeFileAtomic(path, linesOf(ordered));
      return ordered;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(file?.close()),
  };
}

function linesOf(samples: readonly Sample[]): string {
  return samples.map((sample) => `${JSON.stringify(sample, plain)}\n`).join("");
}

const plain = (_: string, value: unknown) => typeof value === "bigint" ? String(value) : value;
