/** Tiny training runs: a little data, a little model, on the cpu device. */

import { join } from "node:path";
import { makeCorpus } from "../../../core/data/corpus.ts";
import { tokenizeFiles } from "../../../core/data/tokenize.ts";
import { type DeviceOptions, openDevice } from "../../../core/device/mod.ts";
import {
  newRun,
  openData,
  pretrain,
  pretrainConfig,
  type PretrainJob,
  resolveConfig,
  resumeRun,
  type StepEvent,
  type TrainEvent,
} from "../../../core/train/mod.ts";

/** Shards of a small corpus, one document a line, by the byte tokenizer. */
export async function makeData(
  folder: string,
  bytes = 6000,
  valFraction = 0.1,
): Promise<string> {
  const { documents } = makeCorpus({ seed: 5, bytes });
  const text = join(folder, "corpus.txt"), shards = join(folder, "data");
  await Deno.writeTextFile(text, documents.join("\n"));
  await tokenizeFiles({
    inputs: [text],
    reading: { format: "text", fields: ["text"], separator: "\n", onError: "stop" },
    tokenizer: "byte",
    valFraction,
    seed: 0,
    target: { folder: shards, ifExists: "fail", shardBytes: 2 ** 20 },
  });
  return shards;
}

/** A config of a run that takes a moment; `changes` replace whole fields. */
export function tinyConfig(data: string, changes: Record<string, unknown> = {}) {
  return {
    model: {
      hidden_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 24,
    },
    data: { path: data },
    sequence_length: 32,
    batch_size: 8,
    steps: 12,
    optimizer: {
      kind: "adamw",
      learning_rate: { kind: "cosine", peak: 0.01, end: 0.001, warmup: 2 },
    },
    log_every: 1,
    seed: 3,
    ...changes,
  };
}

export interface RunOptions {
  /** The run folder, or with `resume` a checkpoint or run folder. */
  readonly run: string;
  readonly resume?: boolean;
  /** Asks the run to stop once it has done so many steps. */
  readonly stopAfter?: number;
  /** The cpu device with one thread unless given. */
  readonly on?: DeviceOptions;
  readonly onMeasuring?: PretrainJob["onMeasuring"];
}

const cpu: DeviceOptions = { device: "cpu", blas: "off", threads: 1 };

/** Trains, and returns all events. */
export async function train(
  config: unknown,
  { run, resume = false, stopAfter, on = cpu, onMeasuring }: RunOptions,
): Promise<TrainEvent[]> {
  using beginning = resume ? await resumeRun(run) : newRun(run);
  const parsed = pretrainConfig.parse(config);
  using data = await openData(parsed.data);
  await using device = await openDevice(on);
  const controller = new AbortController(), events: TrainEvent[] = [];
  const job = {
    config: resolveConfig(parsed, data.vocabSize),
    data,
    device,
    beginning,
    session: { version: "test", command: ["test"] },
    signal: controller.signal,
    ...onMeasuring && { onMeasuring },
  };
  for await (const event of pretrain(job)) {
    events.push(event);
    if (event.kind === "step" && event.step === stopAfter) controller.abort();
  }
  return events;
}

/** Losses by step. */
export function lossesOf(events: readonly TrainEvent[]): Map<number, number> {
  return new Map(stepsOf(events).map(({ step, loss }) => [step, loss]));
}

export function stepsOf(events: readonly TrainEvent[]): StepEvent[] {
  return events.filter((event) => event.kind === "step");
}

/** The bytes of a checkpoint's files, by name. */
export async function checkpointBytes(
  run: string,
  step: number,
): Promise<Record<string, Uint8Array>> {
  const folder = join(run, "checkpoints", `step-${step}`);
  const files = ["model.safetensors", "optimizer.safetensors", "state.json"];
  const contents = await Promise.all(files.map((file) => Deno.readFile(join(folder, file))));
  return Object.fromEntries(files.map((file, i) => [file, contents[i]]));
}
