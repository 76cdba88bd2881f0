/** The loop of a run: updates, readings, measurements and checkpoints in their order. */

import { setImmediate } from "node:timers";
import { type Batch, countOf, tokensIn } from "../data/batches.ts";
import type { DataCursor } from "../data/mixture.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { type Model, scalarValues } from "../model/mod.ts";
import {
  type AverageKind,
  type AveragePlan,
  averagesToMeasure,
  type OptimizerScalars,
  planAverages,
  scalarsOf,
  type Span,
} from "../optim/mod.ts";
import { type Checkpoint, type Progress, saveCheckpoint } from "./checkpoint.ts";
import { resumeCommand } from "./config.ts";
import { afterMeasuring, isOutOfPatience, type Patience } from "./early_stop.ts";
import type { EndReason, TrainEvent } from "./events.ts";
import type { TrainJob } from "./train.ts";
import { keepCheckpoints } from "./keeping.ts";
import { appendMetrics, appendSample, requireRun } from "./run_folder.ts";
import { routerFaults } from "./router_health.ts";
import type { Sampler } from "./sampler.ts";
import { doneBy, longestStage, type Stage, type Timeline, timelineOf } from "./timeline.ts";
import { rowShapes } from "./rows.ts";
import type { Trainer, UpdatePoint } from "./trainer.ts";
import { type HeldOut, measureHeldOut, validationRecord } from "./validation.ts";
import { watchedOf } from "./watched.ts";

/** An update that was submitted and whose result has not been read. */
interface Submitted {
  readonly step: number;
  readonly learningRate: number;
  readonly count: number;
  readonly tokens: number;
  readonly isLogged: boolean;
  /** Where its rows begin, for the search of what was not finite. */
  readonly cursor: DataCursor;
  /** Where the rows after it begin. */
  readonly next: DataCursor;
}

/** Where a run stands, and how it goes on. Lives as long as `train` runs. */
export class Loop {
  step = 0;
  #tokens = 0;
  #cursor: DataCursor;
  #submitted: Submitted[] = [];
  #reading: { results: ReturnType<Trainer["results"]>; of: Submitted[] } | undefined;
  #savedStep = -1;
  #measured: { readonly step: number; readonly loss: number } | undefined;
  #patience: Patience | undefined;
  readonly #began = performance.now();
  #logged = { at: performance.now(), tokens: 0 };
  readonly #timeline: Timeline;
  #stage: Stage;
  readonly #scalarsAt: (step: number) => OptimizerScalars;
  readonly #averages: AveragePlan;

  constructor(
    readonly job: TrainJob,
    readonly model: Model,
    readonly trainer: Trainer,
    readonly sampler: Sampler | undefined,
    checkpoint: Checkpoint | undefined,
  ) {
    const { config, data } = job;
    this.#cursor = checkpoint?.state.cursor ?? data.first;
    if (checkpoint) {
      ({ step: this.step, tokens: this.#tokens, patience: this.#patience } = checkpoint.state);
      this.#savedStep = this.step;
    }
    this.#logged = { at: performance.now(), tokens: this.#tokens };
    this.#timeline = timelineOf(config);
    this.#stage = this.#timeline.stageAt(this.step);
    this.#scalarsAt = scalarsOf(config.optimizer, this.#timeline);
    this.#averages = planAverages(config.averages, config.optimizer, this.#timeline);
  }

  async *run(): AsyncGenerator<TrainEvent, void> {
    const { validation, checkpoint, samples } = this.job.config;
    for (let reason = this.#endReason();; reason = this.#endReason()) {
      if (reason) {
        yield* this.#read();
        if (reason !== "interrupted") {
          if (this.#measured?.step !== this.step) yield* this.#validate();
          yield* this.#sample();
        }
        yield* this.#save();
        if (reason !== "interrupted") yield* this.#validateAverages();
        const tokens = this.job.data.tokensBySource(this.#cursor);
        yield { kind: "end", step: this.step, reason, ...(tokens && { tokensBySource: tokens }) };
        return;
      }
      yield* this.#enterStage();
      this.#submit();
      if (this.#reading) yield* this.#take(); // the device has the next update to do meanwhile
      const isDue = (every: Span) => this.#isTime(every) && !this.#isDone();
      if (isDue(this.job.config.log_every)) this.#ask();
      const isSaved = isDue(checkpoint.every);
      // what is saved says how good it is
      if (isDue(validation.every) || (isSaved && checkpoint.keep_best > 0)) {
        yield* this.#read();
        yield* this.#validate();
      }
      if (isDue(samples.every)) {
        yield* this.#read();
        yield* this.#sample();
      }
      if (isSaved) yield* this.#save();
      await turn();
    }
  }

  #endReason(): EndReason | undefined {
    const { signal, config: { max_minutes, early_stop } } = this.job, done = this.#isDone();
    if (done) return done;
    if (signal?.aborted) return "interrupted";
    if (isOutOfPatience(early_stop, this.#patience)) return "early_stop";
    const minutes = (performance.now() - this.#began) / 60_000;
    return max_minutes > 0 && minutes >= max_minutes ? "time" : undefined;
  }

  #isDone(): "steps" | "tokens" | undefined {
    return doneBy(this.job.config, { step: this.step, tokens: this.#tokens });
  }

  /** Whether something that happens every so often happens after the update that was just submitted. */
  #isTime(every: Span): boolean {
    const { timesBy } = this.#timeline;
    return timesBy(this.step, every) > timesBy(this.step - 1, every);
  }

  /** Where another stage begins the updates have other shapes from here on. */
  async *#enterStage(): AsyncGenerator<TrainEvent, void> {
    const { stageAt, stages } = this.#timeline, stage = stageAt(this.step);
    if (stage === this.#stage) return;
    yield* this.#read(); // results belong to the plan that made them
    const started = performance.now();
    await this.trainer.enter(stages.indexOf(stage));
    this.#stage = stage;
    this.#logged.at += performance.now() - started;
    const { sequence_length, batch_size, accumulation } = stage;
    yield { kind: "stage", step: this.step, sequence_length, batch_size, accumulation };
  }

  /** One update, without waiting. */
  #submit(): void {
    const cursor = this.#cursor;
    const { parts, next } = this.#partsAt(cursor, this.step);
    this.#cursor = next;
    const scalars = this.#scalarsAt(this.step), { learningRate } = scalars;
    this.trainer.update(parts, scalars, this.#pointAt(this.step));
    const count = parts.reduce((sum, part) => sum + countOf(part), 0);
    this.step++;
    this.#tokens += parts.reduce((sum, part) => sum + tokensIn(part), 0);
    const isLogged = this.#isTime(this.job.config.log_every) || this.#isDone() !== undefined;
    const { step } = this, tokens = this.#tokens;
    this.#submitted.push({ step, learningRate, count, tokens, cursor, next, isLogged });
  }

  /** The parts of the update that begins at a cursor, after `step` updates, and where the rows after them begin. */
  #partsAt(cursor: DataCursor, step: number): { parts: Batch[]; next: DataCursor } {
    const { config, data } = this.job, parts: Batch[] = [];
    const shapes = rowShapes(config, this.#stage);
    for (let i = 0; i < this.#stage.accumulation; i++) {
      const { batch, cursor: next } = data.next(cursor, { step, shapes });
      parts.push(batch);
      cursor = next;
    }
    return { parts, next: cursor };
  }

  /** What update `step`, counted from 0, is told of the run. */
  #pointAt(step: number): UpdatePoint {
    return {
      scalars: scalarValues(this.model, this.#timeline, step),
      seed: this.job.config.seed,
      step,
      averages: this.#averages.weightsAt(step),
    };
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
    for (const [i, { lossSum, norm, isHealthy, metrics }] of found.entries()) {
      const { step, learningRate, count, tokens, cursor, next, isLogged } = of[i];
      if (!isHealthy) {
        throw await this.#diverged(step, this.#partsAt(cursor, step - 1).parts);
      }
      if (!isLogged) continue;
      const now = performance.now(), seconds = (now - this.#logged.at) / 1000;
      const tokensPerSecond = (tokens - this.#logged.tokens) / seconds;
      this.#logged = { at: now, tokens };
      const loss = lossSum / count, bySource = this.job.data.tokensBySource(next);
      const watched = watchedOf(this.model, this.#pointAt(step - 1), { metrics, count });
      const { router_health } = this.job.config;
      const faults = routerFaults(router_health, watched, step - 1, this.#timeline);
      appendMetrics(this.job.beginning.run, {
        step,
        loss,
        norm,
        learning_rate: learningRate,
        tokens,
        tokens_per_second: Math.round(tokensPerSecond),
        ...(bySource && { tokens_by_source: bySource }),
        ...watched,
        ...(faults && { router_health: faults }),
      });
      const told = { step, loss, norm, learningRate, tokens, tokensPerSecond };
      yield {
        kind: "step",
        ...told,
        ...(bySource && { tokensBySource: bySource }),
        watched,
        ...(faults && { routerHealth: faults }),
      };
    }
  }

  async #diverged(step: number, parts: readonly Batch[]): Promise<UserError> {
    const point = this.#pointAt(step - 1);
    const bad = await this.trainer.firstBadTensor(parts, point) ?? "the gradient's norm";
    const { config, beginning: { run } } = this.job;
    const saved = this.#savedStep >= 0
      ? `the last checkpoint, step ${this.#savedStep}, is finite: ${resumeCommand(config, run)}`
      : "there is no checkpoint yet";
    return new UserError(`step ${step} is not finite; the first bad tensor: ${bad}`, {
      where: run,
      hint: `${saved}; a lower learning_rate or a longer warmup often helps`,
      exitCode: exitCodes.failed,
    });
  }

  /** Measures what is held out, with the weights or an average of them. */
  async #measure(
    trainer: Pick<Trainer, "measure">,
    weights?: AverageKind,
  ): Promise<HeldOut | undefined> {
    const { config, data, onMeasuring } = this.job,
      { step } = this,
      point = this.#pointAt(this.step);
    const measured = longestStage(this.#timeline.stages);
    return await measureHeldOut(
      { measure: (batches) => trainer.measure(batches, point) },
      data,
      { shapes: rowShapes(config, measured), maxTargets: config.validation.max_tokens || Infinity },
      (part) => onMeasuring?.({ step, ...weights && { weights }, part }),
    );
  }

  /** The last thing a run does. */
  async *#validateAverages(): AsyncGenerator<TrainEvent, void> {
    const { step } = this, { averages } = this.job.config;
    if (this.job.data.heldOut.length === 0) return;
    for (const weights of averagesToMeasure(averages, this.#averages.snapshots(step))) {
      using measurer = await this.trainer.averageMeasurer(weights);
      const found = await this.#measure(measurer, weights);
      if (!found) continue;
      appendMetrics(this.job.beginning.run, { step, weights, ...validationRecord(found) });
      yield { kind: "validation", step, weights, ...found };
    }
  }

  async *#validate(): AsyncGenerator<TrainEvent, void> {
    const { beginning: { run }, config: { early_stop } } = this.job;
    const { step } = this, started = performance.now();
    const found = await this.#measure(this.trainer);
    if (!found) return;
    if (early_stop) this.#patience = afterMeasuring(this.#patience, found.loss, early_stop);
    this.#logged.at += performance.now() - started; // measuring is not training
    this.#measured = { step, loss: found.loss };
    appendMetrics(run, { step, ...validationRecord(found) });
    yield { kind: "validation", step, ...found };
  }

  async *#sample(): AsyncGenerator<TrainEvent, void> {
    if (!this.sampler) return;
    const started = performance.now();
    for await (const event of this.sampler.sample(this.step)) {
      appendSample(this.job.beginning.run, event);
      yield event;
    }
    this.#logged.at += performance.now() - started;
  }

  async #saveIn(run: string, progress: Progress): Promise<string> {
    const path = await saveCheckpoint(run, progress, this.trainer.tensors());
    await keepCheckpoints(run, progress.step, this.job.config.checkpoint);
    return path;
  }

  async *#save(): AsyncGenerator<TrainEvent, void> {
    yield* this.#read(); // what is saved is known to be finite
    if (this.#savedStep === this.step) return;
    const { data, beginning: { run } } = this.job;
    const { step } = this, started = performance.now();
    const progress = {
      step,
      tokens: this.#tokens,
      cursor: this.#cursor,
      ...(this.#measured?.step === step && { validation_loss: this.#measured.loss }),
      ...(this.#patience && { patience: this.#patience }),
      data_sha256: data.fingerprint,
      tokenizer_sha256: data.tokenizer.hash,
    };
    await requireRun(run);
    const path = await this.#saveIn(run, progress).catch(async (error) => {
      await requireRun(run); // it may have vanished meanwhile, which says more
      throw error;
    });
    this.#savedStep = step;
    this.#logged.at += performance.now() - started;
    yield { kind: "checkpoint", step, path };
  }
}

/** Lets signals and timers through; a step itself waits for nothing. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
