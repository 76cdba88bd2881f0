/** What the fields of a config must agree on, and what its author may not have meant. */

import { plural } from "../io/words.ts";
import { ShapeError } from "../graph/mod.ts";
import {
  buildModel,
  completeModel,
  type Model,
  type ModelConfig,
  qatParams,
} from "../model/mod.ts";
import {
  learningRates,
  misplacedPoint,
  needsLength,
  optimizerSchedules,
  parseSpan,
  type Schedule,
  type Span,
} from "../optim/mod.ts";
import type { PretrainConfig, TrainingConfig } from "./config.ts";
import { dataFault, restFault, type WeighedSources } from "./data_config.ts";
import { healthSchedules } from "./router_health.ts";
import { changed, type TimelineConfig, timelineOf } from "./timeline.ts";

type Path = (string | number)[];

/** A fault that no field has alone, said at the place of one. */
export interface Disagreement {
  readonly path: Path;
  readonly message: string;
}

export function disagreements(config: PretrainConfig): Disagreement[] {
  if (!hasLength(config)) {
    const message = "how long is the run? steps, max_tokens or max_minutes says so";
    return [{ path: ["steps"], message }];
  }
  const [path, message] = dataFault(config.data);
  return message ? [{ path, message }] : trainingDisagreements(config);
}

/** Of any training; what depends on its length is left out while `epochs` alone says it. */
export function trainingDisagreements(config: AnyTraining): Disagreement[] {
  const { early_stop, validation, checkpoint: { every, keep_best } } = config;
  if (early_stop && validation.every === 0 && (every === 0 || keep_best === 0)) {
    const message = "the loss is measured at the end only: give validation.every";
    return [{ path: ["early_stop"], message }];
  }
  const qat = config.qat && modelOf(config), matrices = qat && qatParams(qat, config.qat!);
  if (matrices?.length === 0) {
    return [{ path: ["qat", "params"], message: "no matrix of the model has such a path" }];
  }
  const sizes = ofSizes(config), numbers = numbersOf(config);
  return [...sizes, ...numbers && sizes.length === 0 ? ofTimes(config, numbers) : []];
}

function hasLength({ steps, max_tokens, max_minutes }: PretrainConfig): boolean {
  return steps !== undefined || max_tokens !== undefined || max_minutes > 0;
}

/** What all trainings say; of some the model and the sizes are found later. */
export interface AnyTraining extends Omit<TrainingConfig, "stages"> {
  readonly model?: ModelConfig | undefined;
  readonly data: WeighedSources;
  readonly stages: readonly (Partial<TrainingConfig["stages"][number]> & { readonly from: Span })[];
  readonly epochs?: number | null | undefined;
}

/** The config's timeline needs numbers; while some are `auto`, or the length is not known, there is none. */
function numbersOf(config: AnyTraining): TimelineConfig | undefined {
  const { batch_size, accumulation, epochs, steps } = config;
  if (batch_size === "auto" || accumulation === "auto") return undefined;
  if (epochs != null && steps === undefined) return undefined;
  return { ...config, batch_size, accumulation };
}

/** Rows, parts and positions, of the run and of each of its stages. */
function ofSizes(config: AnyTraining): Disagreement[] {
  const { sequence_length, batch_size, accumulation, model } = config;
  const max_position_embeddings = model?.max_position_embeddings;
  const found: Disagreement[] = [];
  let sizes = { sequence_length, batch_size, accumulation };
  if (batch_size === "auto" && accumulation === "auto") {
    const message = "batch_size is auto, too: one of the two must be a number";
    found.push({ path: ["accumulation"], message });
  }
  for (const [i, changes] of [{}, ...config.stages].entries()) {
    sizes = changed(sizes, sizesIn(changes));
    const { sequence_length: length, batch_size: rows, accumulation: parts } = sizes;
    const fault = (field: keyof typeof sizes, message: string) => {
      const inStage = Object.hasOwn(changes, field) ? ["stages", i - 1, field] : ["stages", i - 1];
      found.push({ path: i === 0 ? [field] : inStage, message });
    };
    if (rows !== "auto" && parts !== "auto" && rows % parts !== 0) {
      fault("accumulation", `${rows} rows (batch_size) cannot be done in ${parts} equal parts`);
    }
    if (max_position_embeddings !== undefined && length > max_position_embeddings) {
      fault(
        "sequence_length",
        `rows of ${length} tokens need more than the model's ` +
          `${max_position_embeddings} positions (model.max_position_embeddings)`,
      );
    }
  }
  return found;
}

function sizesIn({ from: _, ...sizes }: Partial<TrainingConfig["stages"][number]>) {
  return sizes;
}

/** Stages, points and everything else in time. */
function ofTimes(config: AnyTraining, numbers: TimelineConfig): Disagreement[] {
  const timeline = timelineOf(numbers);
  if (timeline.steps === Infinity) {
    const endless = ofEndless(config);
    if (endless.length > 0) return endless;
  }
  const found: Disagreement[] = [];
  config.stages.forEach(({ from }, i) => {
    const before = timelineOf({ ...numbers, stages: numbers.stages.slice(0, i) });
    if (before.stepsOf(from) >= before.stages.at(-1)!.from) return;
    found.push({ path: ["stages", i, "from"], message: "this is before the stage above begins" });
  });
  for (const { path, schedule } of schedulesOf(config)) {
    const place = misplacedPoint(schedule, timeline);
    if (place === undefined) continue;
    const message = "comes before the point above; points go forward in time";
    found.push({ path: [...path, "points", place], message });
  }
  const resting = found.length === 0 ? restFault(config.data, timeline) : undefined;
  return resting ? [{ path: ["data", "sources"], message: resting }] : found;
}

const noLength = "this needs the length of the run: give steps or max_tokens besides max_minutes";

/** Where only time ends the run: everything that depends on its length. */
function ofEndless(config: AnyTraining): Disagreement[] {
  const schedules = schedulesOf(config).filter(({ schedule }) => needsLength(schedule));
  const spans = spansIn(config).filter(({ span }) => parseSpan(span).unit === "part");
  return [...schedules, ...spans].map(({ path }) => ({ path, message: noLength }));
}

/** Every schedule of a config, with its place. */
function schedulesOf({ model, optimizer, data: { sources = [] }, router_health }: AnyTraining) {
  const health = router_health ? healthSchedules(router_health) : [];
  return [
    ...health.map(({ path, schedule }) => ({ path: ["router_health", ...path], schedule })),
    ...model ? modelSchedules(model) : [],
    ...optimizerSchedules(optimizer).map(({ path, schedule }) => ({
      path: ["optimizer", ...path],
      schedule,
    })),
    ...sources.map(({ weight }, i) => ({
      path: ["data", "sources", i, "weight"],
      schedule: weight ?? 1,
    })),
  ];
}

/** Those that the model's parts read; where in the config they stand is found by looking for them. */
function modelSchedules(model: ModelConfig): PlacedSchedule[] {
  const { scalars = [] } = modelOf({ model }) ?? {};
  return scalars.flatMap(({ schedule }) => {
    const path = typeof schedule === "number" ? undefined : placeOf(schedule, model, ["model"]);
    return path ? [{ path, schedule }] : [];
  });
}

/** The model, for a vocabulary that does not matter; undefined where it is none, or not yet known. */
function modelOf({ model }: { readonly model?: ModelConfig | undefined }): Model | undefined {
  if (model === undefined) return undefined;
  try {
    return buildModel(completeModel(model, { vocab_size: 1, max_position_embeddings: 1 }));
  } catch (error) {
    if (error instanceof ShapeError) return undefined; // said already, with its place
    throw error;
  }
}

function placeOf(wanted: object, tree: unknown, path: Path): Path | undefined {
  if (tree === wanted) return path;
  if (typeof tree !== "object" || tree === null) return undefined;
  for (const [key, value] of Object.entries(tree)) {
    const found = placeOf(wanted, value, [...path, Array.isArray(tree) ? Number(key) : key]);
    if (found) return found;
  }
  return undefined;
}

interface PlacedSchedule {
  readonly path: Path;
  readonly schedule: Schedule;
}

/** The spans outside schedules, with their places. */
function spansIn(config: AnyTraining): { path: Path; span: Span }[] {
  const { validation, checkpoint, samples, log_every, stages, optimizer, qat } = config;
  return [
    ...qat ? [{ path: ["qat", "from"], span: qat.from }] : [],
    ...optimizer.freeze.flatMap(({ until }, i) =>
      until === undefined ? [] : [{ path: ["optimizer", "freeze", i, "until"], span: until }]
    ),
    { path: ["validation", "every"], span: validation.every },
    { path: ["checkpoint", "every"], span: checkpoint.every },
    { path: ["samples", "every"], span: samples.every },
    { path: ["log_every"], span: log_every },
    ...stages.map(({ from }, i) => ({ path: ["stages", i, "from"], span: from })),
  ];
}

/** What a config says that its author may not have meant. */
export function doubtsOf(config: AnyTraining): string[] {
  const numbers = numbersOf(config);
  if (!numbers) return []; // the resolved config is asked again
  const timeline = timelineOf(numbers), { steps, end } = timeline, doubts: string[] = [];
  for (const { schedule } of learningRates(config.optimizer)) {
    if (typeof schedule === "number" || schedule.kind === "points") continue;
    const { warmup } = schedule, taken = timeline.stepsOf(warmup);
    if (taken < steps) continue;
    const inSteps = typeof warmup === "number" ? "" : ` (${plural(taken, "step")})`;
    doubts.push(
      `the learning rate never reaches its peak: warmup is ${warmup}${inSteps}, steps ${steps}`,
    );
  }
  if (end < steps) {
    doubts.push(
      `max_tokens ends the run after step ${end}; schedules are for ${plural(steps, "step")}`,
    );
  }
  const { qat } = config, begins = qat && timeline.stepsOf(qat.from);
  if (begins !== undefined && begins >= end) {
    doubts.push(`qat never begins: from ${qat!.from} is step ${begins}, the run ends at ${end}`);
  }
  config.stages.forEach(({ from }, i) => {
    const begins = timeline.stepsOf(from);
    if (begins < end) return;
    doubts.push(`stages.${i} never begins: from ${from} is step ${begins}, the run ends at ${end}`);
  });
  return doubts;
}
