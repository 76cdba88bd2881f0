/** The schema of a pretraining config, and what it means once the data are known. */

import { z } from "zod";
import { formatBytes, plural } from "../io/words.ts";
import { precisions } from "../../kernels/mod.ts";
import { completeModel, modelConfig, type OuterSizes } from "../model/mod.ts";
import {
  type Clock,
  completeOptimizer,
  evenClock,
  learningRates,
  misplacedPoint,
  optimizerConfig,
  optimizerSchedules,
  type Schedule,
} from "../optim/mod.ts";
import { samplesConfig } from "./samples_config.ts";
import { dataConfig, dataFault, restFault } from "./data_config.ts";

const positive = z.int().positive(), counted = z.int().nonnegative();
const orAuto = z.union([positive, z.literal("auto").meta({ examples: ["auto"] })]);

const forms = z.strictObject({
  model: modelConfig,
  data: dataConfig,
  /** Tokens of a row. */
  sequence_length: positive,
  /** Rows of an update. `auto`: as many as fit the device that the run begins on, and no more than the data have. */
  batch_size: orAuto,
  /**
   * The rows of an update are done in so many equal parts, which needs less memory and changes nothing else.
   * `auto`: as few as fit.
   */
  accumulation: orAuto.default(1),
  /**
   * What activations, and the weights that they are multiplied with, are stored as. `bf16` halves the memory of
   * activations; arithmetic, parameters, moments, gradients, norms and the loss are f32 in both.
   */
  precision: z.enum(precisions).default("f32"),
  /** Updates in all; schedules end here. */
  steps: positive,
  /** Ends the run after so many minutes, if the steps are not done before. 0 is no limit. */
  max_minutes: z.number().nonnegative().default(0),
  optimizer: optimizerConfig,
  validation: z.strictObject({
    /** Steps between measurements; 0 measures at the end only. */
    every: counted.default(0),
    /** Targets that are measured at most, from the start of the split; 0 is the whole split. */
    max_tokens: counted.default(0),
  }).default({ every: 0, max_tokens: 0 }),
  checkpoint: z.strictObject({
    /** Steps between checkpoints; 0 saves at the end only. */
    every: counted.default(0),
    /** The newest so many are kept; 0 keeps all. */
    keep: counted.default(2),
    /** Besides them so many with the lowest validation loss, which is then measured before each save. */
    keep_best: counted.default(0),
  }).default({ every: 0, keep: 2, keep_best: 0 }),
  /** Texts while the model trains. */
  samples: samplesConfig.prefault({}),
  /** Steps between lines of `metrics.jsonl`. */
  log_every: positive.default(10),
  /** First weights and the order of the data. */
  seed: z.int().min(0).max(0xffffffff).default(0),
});

export type PretrainConfig = z.output<typeof forms>;

/** Pairs of fields that must agree, each said at its place. */
const agreements: readonly {
  path: string[];
  broken(config: PretrainConfig): string | undefined;
}[] = [
  {
    path: ["accumulation"],
    broken: ({ batch_size, accumulation }) => {
      if (batch_size === "auto" || accumulation === "auto") {
        return batch_size === accumulation
          ? "batch_size is auto, too: one of the two must be a number"
          : undefined;
      }
      return batch_size % accumulation === 0
        ? undefined
        : `${batch_size} rows (batch_size) cannot be done in ${accumulation} equal parts`;
    },
  },
  {
    path: ["sequence_length"],
    broken: ({ sequence_length, model: { max_position_embeddings } }) =>
      max_position_embeddings === undefined || sequence_length <= max_position_embeddings
        ? undefined
        : `rows of ${sequence_length} tokens need more than the model's ` +
          `${max_position_embeddings} positions (model.max_position_embeddings)`,
  },
];

/** Every schedule of a config, with its place. */
function schedulesOf({ optimizer, data: { sources = [] } }: PretrainConfig): PlacedSchedule[] {
  return [
    ...optimizerSchedules(optimizer).map(({ path, schedule }) => ({
      path: ["optimizer", ...path],
      schedule,
    })),
    ...sources.map(({ weight }, i) => ({
      path: ["data", "sources", i, "weight"],
      schedule: weight,
    })),
  ];
}

interface PlacedSchedule {
  readonly path: (string | number)[];
  readonly schedule: Schedule;
}

export const pretrainConfig = forms.check((ctx) => {
  const fault = (path: (string | number)[], message: string | undefined) => {
    if (message) ctx.issues.push({ code: "custom", input: ctx.value, path, message });
  };
  for (const { path, broken } of agreements) fault(path, broken(ctx.value));
  fault(...dataFault(ctx.value.data));
  const { steps, sequence_length, batch_size } = ctx.value;
  if (batch_size === "auto") return; // what spans of tokens are is not known yet
  const clock = clockOf({ steps, batch_size, sequence_length });
  for (const { path, schedule } of schedulesOf(ctx.value)) {
    const place = misplacedPoint(schedule, clock);
    if (place === undefined) continue;
    fault([...path, "points", place], "comes before the point above; points go forward in time");
  }
  fault(["data", "sources"], restFault(ctx.value.data, clock));
});

/** What the spans of a run are measured by. */
export function clockOf(
  { steps, batch_size, sequence_length }: Pick<
    ResolvedConfig,
    "steps" | "batch_size" | "sequence_length"
  >,
): Clock {
  return evenClock(steps, batch_size * sequence_length);
}

/** Memory that a run may use, and whose it is, for people. */
export interface Memory {
  readonly bytes: number;
  readonly source: string;
}

/** The rows of an update and the parts that they are done in. */
export interface BatchSizes {
  readonly batch_size: number;
  readonly accumulation: number;
}

/** A config that leaves nothing open: what a run is made from, and what `config.yaml` in its folder says. */
export type ResolvedConfig =
  & Omit<PretrainConfig, keyof BatchSizes>
  & BatchSizes
  & { readonly model: OuterSizes };

/** Whether sizes are left to the memory that there is: `fitSizes` finds them. */
export function hasAutoSizes({ batch_size, accumulation }: PretrainConfig): boolean {
  return batch_size === "auto" || accumulation === "auto";
}

/** Fills in what follows from the data: the vocabulary, and the context where it is left out; and sizes that are `auto`. */
export function resolveConfig(
  config: PretrainConfig,
  vocab_size: number,
  sizes: BatchSizes = givenSizes(config),
): ResolvedConfig {
  return {
    ...config,
    ...sizes,
    model: completeModel(config.model, {
      vocab_size,
      max_position_embeddings: config.sequence_length,
    }),
    optimizer: completeOptimizer(config.optimizer),
  };
}

function givenSizes({ batch_size, accumulation }: PretrainConfig): BatchSizes {
  if (batch_size === "auto" || accumulation === "auto") {
    throw new Error("sizes that are auto were not fitted to a device's memory");
  }
  return { batch_size, accumulation };
}

/** A number that the config left out, and the rule that gave it. */
export interface DerivedNumber {
  readonly name: string;
  readonly value: number;
  readonly rule: string;
}

/**
 * What `resolveConfig` and the model's parts decided, `memory` being what `auto` sizes were fitted to; to be shown, as
 * nothing is decided silently.
 */
export function derivedNumbers(
  config: PretrainConfig,
  resolved: ResolvedConfig,
  memory?: Memory,
): DerivedNumber[] {
  const derived = autoNumbers(config, resolved, memory);
  const derive = (given: number | undefined, name: string, value: number, rule: string) => {
    if (given === undefined) derived.push({ name: `model.${name}`, value, rule });
  };
  const { model } = config, { vocab_size, max_position_embeddings } = resolved.model;
  derive(model.vocab_size, "vocab_size", vocab_size, "the tokenizer's");
  derive(
    model.max_position_embeddings,
    "max_position_embeddings",
    max_position_embeddings,
    "sequence_length",
  );
  if ("num_hidden_layers" in model) {
    const { hidden_size, num_attention_heads: heads } = model;
    derive(model.head_dim, "head_dim", hidden_size / heads, "hidden_size / num_attention_heads");
    derive(model.num_key_value_heads, "num_key_value_heads", heads, "num_attention_heads");
  }
  return derived;
}

function autoNumbers(
  config: PretrainConfig,
  { batch_size, accumulation }: BatchSizes,
  memory: Memory | undefined,
): DerivedNumber[] {
  const fit = `that fit${memory ? ` ${formatBytes(memory.bytes)}, ${memory.source}` : ""}`;
  const rows = `${accumulation > 1 ? `${accumulation} × ` : ""}the most rows, in eights, ${fit}`;
  const derived: DerivedNumber[] = [];
  if (config.batch_size === "auto") {
    derived.push({ name: "batch_size", value: batch_size, rule: rows });
  }
  if (config.accumulation === "auto") {
    derived.push({
      name: "accumulation",
      value: accumulation,
      rule: `the fewest equal parts ${fit}`,
    });
  }
  return derived;
}

/** What a config says that its author may not have meant. */
export function doubtsOf(config: PretrainConfig): string[] {
  const { steps, batch_size, sequence_length, optimizer } = config;
  if (batch_size === "auto") return []; // the resolved config is asked again
  const clock = clockOf({ steps, batch_size, sequence_length });
  return learningRates(optimizer).flatMap(({ schedule }) => {
    if (typeof schedule === "number" || schedule.kind === "points") return [];
    const { warmup } = schedule, taken = clock.stepsOf(warmup);
    if (taken < steps) return [];
    const inSteps = typeof warmup === "number" ? "" : ` (${plural(taken, "step")})`;
    return [
      `the learning rate never reaches its peak: warmup is ${warmup}${inSteps}, steps ${steps}`,
    ];
  });
}

/** Rows that are on the device at once. */
export function microRows({ batch_size, accumulation }: BatchSizes): number {
  return batch_size / accumulation;
}
