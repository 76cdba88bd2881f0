/** Training as a stream of events, whatever it trains on: what happens is yielded, nothing is printed. */

import { isDeepStrictEqual } from "node:util";
import type { Device } from "../device/types.ts";
import { atPath, exitCodes, isFullDisk, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import { buildModel, namedParams, withPrecision, withQat } from "../model/mod.ts";
import { isForGood } from "../optim/mod.ts";
import type { Beginning, FirstWeights } from "./beginning.ts";
import { openWhole, type WholeCheckpoint } from "./damaged.ts";
import { hasCheckpoint, openCheckpoint } from "./checkpoint.ts";
import { resumeCommand, type RunConfig, verbOf } from "./config.ts";
import { requireVocabulary } from "./data.ts";
import { isOutOfPatience } from "./early_stop.ts";
import type { Measuring, TrainEvent } from "./events.ts";
import { withFittingSizes } from "./fit.ts";
import { Loop } from "./loop.ts";
import { keepCheckpoints } from "./keeping.ts";
import { optimizerOf } from "./optimizer.ts";
import type { Training } from "./plans.ts";
import { recorded } from "./recorded.ts";
import { readRunConfig } from "./run_config.ts";
import { createRun, reopenRun, restartRun, type Session } from "./run_folder.ts";
import { rowShapes } from "./rows.ts";
import { Sampler, samplingPlans } from "./sampler.ts";
import { doneBy, longestStage, type Stage, timelineOf } from "./timeline.ts";
import { Trainer } from "./trainer.ts";
import type { TrainingData } from "./training_data.ts";

/** A run to be made or continued. */
export interface TrainJob {
  readonly config: RunConfig;
  readonly data: TrainingData;
  readonly device: Device;
  /** Its folder, and where in it training begins. */
  readonly beginning: Beginning;
  /** What a run that begins anew begins with, if not with what its seed gives. */
  readonly from?: FirstWeights | undefined;
  readonly session: Omit<Session, "device" | "from">;
  /** Asks the run to finish its step, save and end. */
  readonly signal: AbortSignal | undefined;
  /** Told of each measurement as it begins and goes on; how often depends on the batch. */
  readonly onMeasuring?: (measuring: Measuring) => void;
}

export function trainingOf(config: RunConfig): Training {
  const { qat, precision } = config;
  const model = withPrecision(withQat(buildModel(config.model), qat), precision);
  const { stages } = timelineOf(config);
  return {
    model,
    optimizer: optimizerOf(config.optimizer, namedParams(model.params)),
    options: {
      loss: { ...config.loss, qat: qat !== undefined },
      averages: config.averages,
    },
    stages: stages.map((stage) => ({
      shapes: rowShapes(config, stage),
      accumulation: stage.accumulation,
      name: stages.length > 1 ? stageName(stage) : undefined,
    })),
    measured: rowShapes(config, longestStage(stages)),
  };
}

function stageName({ from, batch_size, sequence_length }: Stage): string {
  return `the stage from step ${from} (${plural(batch_size, "row")} of ${sequence_length} tokens)`;
}

/**
 * Makes or opens the run's folder, trains, measures and saves, until the steps, the time or the caller's patience end.
 * Meanwhile no other process may. A run whose steps are done is left as it is.
 */
export async function* train(job: TrainJob): AsyncGenerator<TrainEvent, void> {
  const { config, device, beginning: { run } } = job;
  try {
    yield* recorded({ run, log: config.log }, trainAlone(job));
  } catch (error) {
    throw await withWayOn(withFittingSizes(error, config, device.target), config, run);
  }
}

/** A full disk with the way on once there is room; any other error as it is. */
async function withWayOn(error: unknown, config: RunConfig, run: string): Promise<unknown> {
  const placed = atPath(error);
  if (!(placed instanceof UserError) || !isFullDisk(placed.cause)) return error;
  if (!await hasCheckpoint(run)) return placed;
  const { message, where, hint, exitCode, cause } = placed;
  return new UserError(message, {
    ...(where !== undefined && { where }),
    hint: `${hint}; then go on: ${resumeCommand(config, run)}`,
    exitCode,
    cause,
  });
}

async function* trainAlone(job: TrainJob): AsyncGenerator<TrainEvent, void> {
  const { config, data, device, beginning } = job, { run, leftBy, removed } = beginning;
  if (leftBy !== undefined) yield { kind: "takeover", pid: leftBy };
  if (removed.length > 0) yield { kind: "partials", names: removed };
  const { checkpoint: opened, damaged } = await openFirst(beginning);
  using checkpoint = opened;
  for (const one of damaged) yield { kind: "damaged", ...one };
  if (checkpoint) {
    data.requireSame(checkpoint);
    await requireSameModel(run, config);
    const { step } = checkpoint.state;
    requireMoreSteps(run, step, config);
    const { patience } = checkpoint.state;
    if (doneBy(config, checkpoint.state) || isOutOfPatience(config.early_stop, patience)) {
      await keepCheckpoints(run, step, config.checkpoint); // a kill may have come before that
      yield { kind: "end", step, reason: "finished" };
      return;
    }
  }
  requireVocabulary(config.model.vocab_size, data.vocabSize);
  const timeline = timelineOf(config), longest = longestStage(timeline.stages).sequence_length;
  data.requireRows(longest);
  requireMeasurable(config, data);
  const from = checkpoint ? undefined : job.from;
  if (from) requireSameTokenizer(from, data);
  const session: Session = {
    ...job.session,
    device: device.info,
    ...(from && { from: from.checkpoint }),
  };
  const stage = timeline.stages.indexOf(timeline.stageAt(checkpoint?.state.step ?? 0));
  const training = trainingOf(config), { model } = training;
  const others = samplingPlans(config, model, device.target);
  const ring = ringOf(timeline.longestGap(config.log_every));
  using trainer = await Trainer.create(training, device, ring, { stage, others });
  const { state } = trainer;
  using sampler = await Sampler.create(config, data, { model, device, state });
  using held = new DisposableStack();
  if (checkpoint) {
    trainer.restore(checkpoint);
    await reopenRun(run, config, data, session, checkpoint.state.step);
  } else {
    trainer.initialize(config.seed, from?.file);
    if (beginning.folder === "there") {
      yield { kind: "restart" };
      await restartRun(run, config, data, session);
    } else {
      held.use(await createRun(run, config, data, session));
    }
  }
  const loop = new Loop(job, model, trainer, sampler, checkpoint);
  yield { kind: "start", step: loop.step, deviceBytes: device.usedBytes() };
  yield* loop.run();
}

/** The checkpoint that the run goes on from; an older one where that may be. */
async function openFirst(
  { checkpoint: path, ifDamaged }: Beginning,
): Promise<Partial<WholeCheckpoint> & Pick<WholeCheckpoint, "damaged">> {
  if (path === undefined) return { damaged: [] };
  if (ifDamaged === "older") return await openWhole(path);
  return { checkpoint: await openCheckpoint(path), damaged: [] };
}

/** Ids of another tokenizer mean other texts than the weights know. */
function requireSameTokenizer({ checkpoint, tokenizer_sha256 }: FirstWeights, data: TrainingData) {
  if (tokenizer_sha256 === data.tokenizer.hash) return;
  throw new UserError("its tokenizer is not the one that the data were made with", {
    where: checkpoint,
    hint: "tokenize the text with the tokenizer.json of the weights' run folder",
    exitCode: exitCodes.failed,
  });
}

/** Results are read after `gap` updates at most, and one reading may be on its way. */
function ringOf(gap: number): number {
  return 2 * gap + 1;
}

/** The best checkpoints are those with the lowest validation loss, and it is what falls no more. */
function requireMeasurable(config: RunConfig, data: TrainingData) {
  const { checkpoint: { keep_best }, early_stop } = config;
  if ((keep_best === 0 && !early_stop) || data.heldOut.length > 0) return;
  const [what, where, off] = early_stop
    ? ["nobody knows when the loss falls no more", "early_stop", "leave it out"]
    : ["no checkpoint is the best", "checkpoint.keep_best", "set it to 0"];
  throw new UserError(`${what}: the data hold nothing out to measure with`, {
    where,
    hint: `${off}, or hold something out: ${
      verbOf(config) === "sft" ? "data.validation" : "quern tokenize --val-fraction"
    }`,
  });
}

function requireMoreSteps(run: string, step: number, { steps = Infinity }: RunConfig) {
  if (steps >= step) return;
  throw new UserError(
    `${plural(step, "step")} are done already, more than steps: ${steps}`,
    {
      where: run,
      hint: `give more, for example --set steps=${2 * step}; or go on from an earlier checkpoint`,
    },
  );
}

/** What a run's weights and data order depend on; everything else may change when it goes on. */
async function requireSameModel(run: string, config: RunConfig): Promise<void> {
  const before = await readRunConfig(run);
  for (const field of ["model", "seed"] as const) {
    if (isDeepStrictEqual(before[field], config[field])) continue;
    const values = field === "seed" ? `: it is ${before.seed}, not ${config.seed}` : "";
    throw new UserError(`${field} cannot change within a run${values}`, {
      where: run,
      hint: "start a new run for it",
    });
  }
  const [then, now] = [before, config].map(({ optimizer }) => optimizer.freeze.filter(isForGood));
  if (!isDeepStrictEqual(then, now)) {
    throw new UserError("what is frozen for good cannot change within a run", {
      where: run,
      hint: "start a new run for it, --from this one; or freeze until a step",
    });
  }
}
