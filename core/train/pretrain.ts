/** Pretraining as a stream of events: what happens is yielded, nothing is printed. */

import { setImmediate } from "node:timers";
import { isDeepStrictEqual } from "node:util";
import {
  type Batch,
  type BatchSource,
  type Cursor,
  firstCursor,
  nextBatch,
  validationBatches,
} from "../data/batches.ts";
import type { ShardReader } from "../data/shard_reader.ts";
import type { Device } from "../device/types.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { buildModel } from "../model/mod.ts";
import { hyperAt, valueAt } from "../optim/mod.ts";
import { type Checkpoint, findCheckpoint, openCheckpoint, saveCheckpoint } from "./checkpoint.ts";
import { microRows, type ResolvedConfig } from "./config.ts";
import {
  appendMetrics,
  createRun,
  readRunConfig,
  removeBrokenCheckpoints,
  reopenRun,
  type Session,
} from "./run_folder.ts";
import { countOf, Trainer, type Training } from "./trainer.ts";

/** A run to be made or continued. */
export interface PretrainJob {
  readonly config: ResolvedConfig;
  readonly data: ShardReader;
  readonly device: Device;
  /** Its folder. */
  readonly run: string;
  /** Goes on from this checkpoint folder; undefined starts anew. */
  readonly resumeFrom: string | undefined;
  readonly session: Omit<Session, "device">;
  /** Asks the run to finish its step, save and end. */
  readonly signal: AbortSignal | undefined;
}

export interface StepEvent {
  readonly kind: "step";
  /** Updates done, this one included. */
  readonly step: number;
  /** Mean loss of the update's targets, in nats. */
  readonly loss: number;
  /** Length of the mean gradient before clipping. */
  readonly norm: number;
  readonly learningRate: number;
  /** Targets trained on since the run's first step. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
}

export type TrainEvent =
  | { readonly kind: "start"; readonly step: number; readonly deviceBytes: number }
  /** Left-overs of a killed process, which were removed. */
  | { readonly kind: "partials"; readonly names: readonly string[] }
  | StepEvent
  | {
    readonly kind: "validation";
    readonly step: number;
    /** Mean loss of the targets, in nats. */
    readonly loss: number;
    readonly targets: number;
    readonly bitsPerByte: number;
  }
  | { readonly kind: "checkpoint"; readonly step: number; readonly path: string }
  | { readonly kind: "end"; readonly step: number; readonly reason: EndReason };

/** `steps`: all done; `time`: max_minutes are over; `interrupted`: the signal asked. */
export type EndReason = "steps" | "time" | "interrupted";

export function trainingOf(config: ResolvedConfig): Training {
  return {
    model: buildModel(config.model),
    optimizer: config.optimizer,
    shape: {
      rows: microRows(config),
      length: config.sequence_length,
      segments: config.data.packing === "documents",
    },
    accumulation: config.accumulation,
  };
}

/** Makes or opens the run's folder, trains, measures and saves, until the steps, the time or the caller's patience end. */
export async function* pretrain(job: PretrainJob): AsyncGenerator<TrainEvent, void> {
  const { config, data, device, run } = job;
  using checkpoint = job.resumeFrom === undefined
    ? undefined
    : await openCheckpoint(job.resumeFrom);
  if (checkpoint) {
    requireSameData(checkpoint, data);
    await requireSameModel(run, config);
  }
  const session: Session = { ...job.session, device: device.info };
  using trainer = await Trainer.create(trainingOf(config), device, ringOf(config));
  if (checkpoint) {
    const names = await removeBrokenCheckpoints(run);
    if (names.length > 0) yield { kind: "partials", names };
    trainer.restore(checkpoint);
    await reopenRun(run, config, data, session, checkpoint.state.step);
  } else {
    trainer.initialize(config.seed);
    await createRun(run, config, data, session);
  }
  const loop = new Loop(job, trainer, checkpoint);
  yield { kind: "start", step: loop.step, deviceBytes: device.usedBytes() };
  yield* loop.run();
}

/** Results are read every `log_every` updates, and one reading may be on its way. */
function ringOf({ log_every }: ResolvedConfig): number {
  return 2 * log_every + 1;
}

function requireSameData({ path, state }: Checkpoint, data: ShardReader): void {
  if (state.data_sha256 === data.hash) return;
  throw new UserError("the run was trained on other data than are there now", {
    where: data.folder,
    hint: `${path} belongs to an index.json with the hash ${state.data_sha256.slice(0, 12)}`,
    exitCode: exitCodes.failed,
  });
}

/** What a run's weights and data order depend on; everything else may change when it goes on. */
async function requireSameModel(run: string, config: ResolvedConfig): Promise<void> {
  const before = await readRunConfig(run);
  for (const field of ["model", "seed"] as const) {
    if (isDeepStrictEqual(before[field], config[field])) continue;
    throw new UserError(`${field} cannot change within a run`, {
      where: run,
      hint: "start a new run for it",
    });
  }
}

/** An update that was submitted and whose result has not been read. */
interface Submitted {
  readonly step: number;
  readonly learningRate: number;
  readonly count: number;
  readonly tokens: number;
  /** For the search of what was not finite. */
  readonly parts: readonly Batch[];
}

/** Where a run stands, and how it goes on. Lives as long as `pretrain` runs. */
class Loop {
  step = 0;
  #tokens = 0;
  #cursor: Cursor;
  #submitted: Submitted[] = [];
  #reading: { results: ReturnType<Trainer["results"]>; of: Submitted[] } | undefined;
  #savedStep = -1;
  readonly #began = performance.now();
  #logged = { at: performance.now(), tokens: 0 };
  readonly #source: BatchSource;

  constructor(
    readonly job: PretrainJob,
    readonly trainer: Trainer,
    checkpoint: Checkpoint | undefined,
  ) {
    const { config, data } = job;
    this.#cursor = checkpoint?.state.cursor ?? firstCursor(config.data.packing);
    if (this.#cursor.packing !== config.data.packing) {
      throw new UserError(`the run packs ${this.#cursor.packing}, not ${config.data.packing}`, {
        where: "data.packing",
        hint: "packing cannot change within a run",
      });
    }
    if (checkpoint) {
      ({ step: this.step, tokens: this.#tokens } = checkpoint.state);
      this.#savedStep = this.step;
    }
    this.#logged = { at: performance.now(), tokens: this.#tokens };
    this.#source = {
      split: data.splits.train,
      rows: microRows(config),
      length: config.sequence_length,
      seed: config.seed,
    };
  }

  async *run(): AsyncGenerator<TrainEvent, void> {
    const { steps, log_every, validation, checkpoint } = this.job.config;
    for (let reason = this.#endReason(steps);; reason = this.#endReason(steps)) {
      if (reason) {
        yield* this.#read();
        if (reason !== "interrupted") yield* this.#validate();
        yield* this.#save();
        yield { kind: "end", step: this.step, reason };
        return;
      }
      this.#submit();
      if (this.#reading) yield* this.#take(); // the device has the next update to do meanwhile
      const isDue = (every: number) => every > 0 && this.step % every === 0 && this.step < steps;
      if (isDue(log_every)) this.#ask();
      if (isDue(validation.every)) {
        yield* this.#read();
        yield* this.#validate();
      }
      if (isDue(checkpoint.every)) yield* this.#save();
      await turn();
    }
  }

  #endReason(steps: number): EndReason | undefined {
    const { signal, config: { max_minutes } } = this.job;
    if (this.step >= steps) return "steps";
    if (signal?.aborted) return "interrupted";
    const minutes = (performance.now() - this.#began) / 60_000;
    return max_minutes > 0 && minutes >= max_minutes ? "time" : undefined;
  }

  /** One update, without waiting. */
  #submit(): void {
    const { optimizer, steps, accumulation } = this.job.config;
    const parts: Batch[] = [];
    for (let i = 0; i < accumulation; i++) {
      const { batch, cursor } = nextBatch(this.#source, this.#cursor);
      parts.push(batch);
      this.#cursor = cursor;
    }
    const learningRate = valueAt(optimizer.learning_rate, this.step, steps);
    this.trainer.update(parts, hyperAt(optimizer, learningRate, this.step));
    const count = parts.reduce((sum, part) => sum + countOf(part), 0);
    this.step++;
    this.#tokens += count;
    this.#submitted.push({ step: this.step, learningRate, count, tokens: this.#tokens, parts });
  }

  /** Asks for the results of what was submitted; they are taken later. */
  #ask(): void {
    this.#reading = { results: this.trainer.results(), of: this.#submitted };
    this.#submitted = [];
  }

  /** Reads everything that was submitted. */
  async *#read(): AsyncGenerator<TrainEvent, void> {
    if (this.#reading) yield* this.#take();
    if (this.#submitted.length === 0) return;
    this.#ask();
    yield* this.#take();
  }

  async *#take(): AsyncGenerator<TrainEvent, void> {
    const { results, of } = this.#reading!;
    this.#reading = undefined;
    const found = await results;
    for (const [i, { lossSum, norm, isHealthy }] of found.entries()) {
      const { step, learningRate, count, tokens, parts } = of[i];
      if (!isHealthy) throw await this.#diverged(step, parts);
      const { log_every, steps } = this.job.config;
      if (step % log_every !== 0 && step !== steps) continue;
      const now = performance.now(), seconds = (now - this.#logged.at) / 1000;
      const tokensPerSecond = (tokens - this.#logged.tokens) / seconds;
      this.#logged = { at: now, tokens };
      const loss = lossSum / count;
      appendMetrics(this.job.run, {
        step,
        loss,
        norm,
        learning_rate: learningRate,
        tokens,
        tokens_per_second: Math.round(tokensPerSecond),
      });
      yield { kind: "step", step, loss, norm, learningRate, tokens, tokensPerSecond };
    }
  }

  async #diverged(step: number, parts: readonly Batch[]): Promise<UserError> {
    const bad = await this.trainer.firstBadTensor(parts) ?? "the gradient's norm";
    const { run } = this.job;
    const saved = this.#savedStep >= 0
      ? `the last checkpoint, step ${this.#savedStep}, is finite: quern pretrain --resume ${run}`
      : "there is no checkpoint yet";
    return new UserError(`step ${step} is not finite; the first bad tensor: ${bad}`, {
      where: run,
      hint: `${saved}; a lower learning_rate or a longer warmup often helps`,
      exitCode: exitCodes.failed,
    });
  }

  async *#validate(): AsyncGenerator<TrainEvent, void> {
    const { config, data: { splits: { val } } } = this.job;
    if (val.tokens === 0) return;
    const { step } = this, started = performance.now();
    const { max_tokens } = config.validation;
    const { rows, length } = this.#source;
    const { loss, targets } = await this.trainer.measure(
      validationBatches({ split: val, rows, length }, config.data.packing, max_tokens || Infinity),
    );
    const bitsPerByte = loss / Math.LN2 * val.tokens / val.bytes;
    this.#logged.at += performance.now() - started; // measuring is not training
    appendMetrics(this.job.run, { step, validation_loss: loss, bits_per_byte: bitsPerByte });
    yield { kind: "validation", step, loss, targets, bitsPerByte };
  }

  async *#save(): AsyncGenerator<TrainEvent, void> {
    yield* this.#read(); // what is saved is known to be finite
    if (this.#savedStep === this.step) return;
    const { config, data, run } = this.job, { step } = this, started = performance.now();
    const path = await saveCheckpoint(
      run,
      {
        step,
        tokens: this.#tokens,
        cursor: this.#cursor,
        data_sha256: data.hash,
        tokenizer_sha256: data.tokenizer.hash,
      },
      this.trainer.tensors(),
      config.checkpoint.keep,
    );
    this.#savedStep = step;
    this.#logged.at += performance.now() - started;
    yield { kind: "checkpoint", step, path };
  }
}

/** Lets signals and timers through; a step itself waits for nothing. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The checkpoint that a run, or a checkpoint of it, goes on from, and the run's folder. */
export async function resumePoint(path: string): Promise<{ run: string; checkpoint: string }> {
  const checkpoint = await findCheckpoint(path);
  const inside = checkpoint.replace(/[\\/]+$/, "").match(/^(.*?)[\\/]?checkpoints[\\/]step-\d+$/);
  if (!inside) {
    throw new UserError("a checkpoint outside a run folder cannot be continued", { where: path });
  }
  return { run: inside[1] || ".", checkpoint };
}
