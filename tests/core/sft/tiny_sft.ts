/** Tiny runs of fine-tuning: a base of a few updates, a few conversations, on the cpu device. */

import { join } from "node:path";
import { type DeviceOptions, openDevice } from "../../../core/device/mod.ts";
import {
  openBase,
  openRunConversations,
  type Prepared,
  reopenBase,
  resolveSft,
  rowsInEpochs,
  sft,
  sftConfig,
} from "../../../core/sft/mod.ts";
import type { UserError } from "../../../core/io/errors.ts";
import { newRun, resumeRun, type TrainEvent } from "../../../core/train/mod.ts";
import { makeData, tinyConfig, train } from "../train/tiny_run.ts";

/** A run of two updates, with the byte tokenizer; `changes` as of `tinyConfig`. */
export async function makeBase(
  dir: string,
  changes: Record<string, unknown> = {},
): Promise<string> {
  const run = join(dir, "base");
  await train(tinyConfig(await makeData(dir, 2000), { steps: 2, ...changes }), { run });
  return run;
}

/** A file of questions, each with its answer. */
export async function writePairs(
  path: string,
  pairs: readonly (readonly [question: string, answer: string])[],
): Promise<string> {
  const lines = pairs.map(([question, answer]) => JSON.stringify({ question, answer }));
  await Deno.writeTextFile(path, `${lines.join("\n")}\n`);
  return path;
}

/** Sums with answers of many lengths. */
export const sums = (count: number) =>
  Array.from({ length: count }, (_, i) => {
    const [a, b] = [i % 7, (i * i) % 11];
    return [`${a}+${b}?`, `${a + b}${"!".repeat(i % 9)}`] as const;
  });

/** A config of a run that takes a moment; `changes` replace whole fields. */
export function tinyTuning(
  base: string,
  path: string,
  { data = {}, ...changes }: Record<string, unknown> & { data?: Record<string, unknown> } = {},
) {
  return {
    kind: "sft",
    from: base,
    data: { path, validation: { fraction: 0.2 }, ...data },
    sequence_length: 32,
    batch_size: 4,
    steps: 8,
    optimizer: {
      kind: "adamw",
      learning_rate: { kind: "cosine", peak: 0.01, end: 0.001, warmup: 2 },
      weight_decay: 0,
    },
    beginning: null,
    log_every: 1,
    seed: 3,
    ...changes,
  };
}

export interface TuneOptions {
  /** The run folder, or with `resume` a checkpoint or run folder. */
  readonly run: string;
  readonly resume?: boolean;
  /** Asks the run to stop once it has done so many steps. */
  readonly stopAfter?: number;
  readonly on?: DeviceOptions;
  readonly onSkip?: (fault: UserError) => void;
}

/** What a run told, and what it was prepared from. */
export interface Tuned {
  readonly events: TrainEvent[];
  readonly prepared: Prepared;
}

const cpu: DeviceOptions = { device: "cpu", blas: "off", threads: 1 };

/** Fine-tunes, as the command does. */
export async function tune(
  given: unknown,
  { run, resume = false, stopAfter, on = cpu, onSkip }: TuneOptions,
): Promise<Tuned> {
  const config = sftConfig.parse(given);
  using beginning = resume ? await resumeRun(run) : newRun(run);
  using base = resume ? await reopenBase(run, config) : await openBase(config);
  const isTrained = beginning.checkpoint !== undefined;
  await using conversations = await openRunConversations(run, { config, form: base.form }, {
    isTrained,
    ...onSkip && { onSkip },
  });
  const { rows, prepared } = conversations;
  const counts = rows.map(({ rowsIn }) => rowsIn(0));
  const rowsIn = (epochs: number) => rowsInEpochs(rows, epochs);
  await using device = await openDevice(on);
  const controller = new AbortController(), events: TrainEvent[] = [];
  const job = {
    config: resolveSft(config, { ...base.facts, rows: counts, rowsIn }),
    conversations,
    device,
    beginning,
    from: base.weights,
    session: { version: "test", command: ["test"] },
    signal: controller.signal,
  };
  for await (const event of sft(job)) {
    events.push(event);
    if (event.kind === "step" && event.step === stopAfter) controller.abort();
  }
  return { events, prepared };
}
