/** The schema of a pretraining config, and what it means once the data are known. */

import { z } from "zod";
import { UserError } from "../io/errors.ts";
import type { Packing } from "../data/batches.ts";
import type { ConversationPacking } from "../data/conversation_rows.ts";
import { formatBytes, shellWord } from "../io/words.ts";
import { precisions } from "../../kernels/mod.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  type OuterSizes,
  qatConfig,
} from "../model/mod.ts";
import {
  averagesConfig,
  completeOptimizer,
  optimizerConfig,
  positiveSpan,
  spanConfig,
  tokenCount,
} from "../optim/mod.ts";
import { disagreements } from "./agreements.ts";
import { earlyStopConfig } from "./early_stop.ts";
import { logConfig } from "./log_config.ts";
import { routerHealthConfig } from "./router_health.ts";
import { samplesConfig } from "./samples_config.ts";
import { dataConfig } from "./data_config.ts";
import { timelineOf } from "./timeline.ts";

const positive = z.int().positive(), counted = z.int().nonnegative();
const orAuto = z.union([positive, z.literal("auto").meta({ examples: ["auto"] })]);

/** What every training says, whatever it trains on. */
export const trainingFields = {
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
  /** Updates in all; schedules end here. Left out, as many as `max_tokens` takes. */
  steps: positive.optional(),
  /** Ends the run with the update that reaches so many targets, if the steps are not done before. */
  max_tokens: tokenCount.optional(),
  /**
   * Ends the run after so many minutes, if it is not done before. 0 is no limit. Where nothing else ends the run it has no
   * length: schedules that end with it, and parts of it, are then refused.
   */
  max_minutes: z.number().nonnegative().default(0),
  /** Other sizes from a moment on; what a stage leaves out stays as it was before. */
  stages: z.array(z.strictObject({
    from: spanConfig,
    sequence_length: positive.optional(),
    batch_size: positive.optional(),
    accumulation: positive.optional(),
  })).default([]),
  optimizer: optimizerConfig,
  /** Averages of the weights, kept beside them. */
  averages: averagesConfig.prefault({}),
  /** The loss that is trained; what is measured is the plain one. */
  loss: z.strictObject({
    /** So much of each target is spread over all tokens. */
    label_smoothing: z.number().min(0).lt(1).default(0),
    /** Weight of the squared log-sum-exp of the logits, which keeps them small. */
    z_loss: z.number().nonnegative().default(0),
    /** Weight of a loss against saying the token again that was just read: −ln(1 − its probability), where another one follows. */
    repetition: z.number().nonnegative().default(0),
  }).prefault({}),
  /** From a moment on the loss sees weights rounded to levels, so that the model learns to bear it. */
  qat: qatConfig.optional(),
  /** When to warn of routers, of models that have some. */
  router_health: routerHealthConfig.optional(),
  validation: z.strictObject({
    /** From one measurement to the next; 0 measures at the end only. Rows are as long as the longest stage's, in all stages. */
    every: spanConfig.default(0),
    /** Targets that are measured at most, from the start of the split; 0 is the whole split. */
    max_tokens: counted.default(0),
  }).default({ every: 0, max_tokens: 0 }),
  /** Ends the run when the validation loss falls no more. */
  early_stop: earlyStopConfig.optional(),
  checkpoint: z.strictObject({
    /** From one checkpoint to the next; 0 saves at the end only. */
    every: spanConfig.default(0),
    /** The newest so many are kept; 0 keeps all. */
    keep: counted.default(2),
    /** Besides them so many with the lowest validation loss, which is then measured before each save. */
    keep_best: counted.default(0),
  }).default({ every: 0, keep: 2, keep_best: 0 }),
  /** Texts while the model trains. */
  samples: samplesConfig.prefault({}),
  /** From one line of `metrics.jsonl` to the next. */
  log_every: positiveSpan.default(10),
  /** Where its numbers go besides: `tensorboard` writes event files into the run folder. */
  log: logConfig,
  /** First weights and the order of the data. */
  seed: z.int().min(0).max(0xffffffff).default(0),
};

const _training = z.strictObject(trainingFields);
export type TrainingConfig = z.output<typeof _training>;

const forms = z.strictObject({ model: modelConfig, data: dataConfig, ...trainingFields });

export type PretrainConfig = z.output<typeof forms>;

export const pretrainConfig = forms.check((ctx) => {
  if (ctx.issues.length > 0) return; // a field that has a fault of its own agrees with nothing
  for (const { path, message } of disagreements(ctx.value)) {
    ctx.issues.push({ code: "custom", input: ctx.value, path, message });
  }
});

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

/** What a resolved config says of a run, whatever the run trains on. */
export interface RunConfig extends Omit<ResolvedConfig, "data"> {
  readonly kind?: "sft";
  readonly data: {
    readonly packing: Packing | ConversationPacking;
    /** Shorter rows besides those of sequence_length tokens. */
    readonly bucket_lengths?: readonly number[] | undefined;
  };
}

/** The command that makes such runs. */
export function verbOf(config: object): "pretrain" | "sft" {
  return "kind" in config && config.kind === "sft" ? "sft" : "pretrain";
}

/** The command line by which a run goes on. */
export function resumeCommand(config: object, run: string): string {
  return `quern ${verbOf(config)} --resume ${shellWord(run)}`;
}

/** Sizes that may be left open. */
export type GivenSizes = Pick<PretrainConfig, keyof BatchSizes>;

/** Whether sizes are left to the memory that there is: `fitSizes` finds them. */
export function hasAutoSizes({ batch_size, accumulation }: GivenSizes): boolean {
  return batch_size === "auto" || accumulation === "auto";
}

/** Fills in what follows from the data: the vocabulary, and the context where it is left out; and sizes that are `auto`. */
export function resolveConfig(
  config: PretrainConfig,
  vocab_size: number,
  sizes: BatchSizes = givenSizes(config),
): ResolvedConfig {
  if (hasAutoSizes(config)) requireAgreement({ ...config, ...sizes });
  return {
    ...config,
    ...sizes,
    model: completeModel(config.model, {
      vocab_size,
      max_position_embeddings: longestRows(config),
    }),
    optimizer: completeOptimizer(config.optimizer),
  };
}

/** What could not be checked while sizes were `auto`. */
function requireAgreement(config: PretrainConfig): void {
  const [fault] = disagreements(config);
  if (fault) throw new UserError(fault.message, { where: fault.path.join(".") });
}

/** The model that a config is trained as, where the data's vocabulary is known. */
export function modelOf(config: PretrainConfig, vocab_size: number): Model {
  const max_position_embeddings = longestRows(config);
  return buildModel(completeModel(config.model, { vocab_size, max_position_embeddings }));
}

/** Tokens of a row of the stage that has the longest. */
function longestRows({ sequence_length, stages }: PretrainConfig): number {
  return Math.max(sequence_length, ...stages.map((stage) => stage.sequence_length ?? 0));
}

/** The sizes that a config gives itself. */
export function givenSizes({ batch_size, accumulation }: GivenSizes): BatchSizes {
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
  const derived = [...lengthInSteps(config, resolved), ...autoNumbers(config, resolved, memory)];
  const derive = (given: number | undefined, name: string, value: number, rule: string) => {
    if (given === undefined) derived.push({ name: `model.${name}`, value, rule });
  };
  const { model } = config, { vocab_size, max_position_embeddings } = resolved.model;
  derive(model.vocab_size, "vocab_size", vocab_size, "the tokenizer's");
  derive(
    model.max_position_embeddings,
    "max_position_embeddings",
    max_position_embeddings,
    config.stages.length > 0 ? "the longest sequence_length of all stages" : "sequence_length",
  );
  if ("num_hidden_layers" in model) {
    const { hidden_size, num_attention_heads: heads } = model;
    derive(model.head_dim, "head_dim", hidden_size / heads, "hidden_size / num_attention_heads");
    derive(model.num_key_value_heads, "num_key_value_heads", heads, "num_attention_heads");
  }
  return derived;
}

/** Where tokens alone say how long the run is. */
function lengthInSteps({ steps, max_tokens }: PretrainConfig, resolved: ResolvedConfig) {
  if (steps !== undefined || max_tokens === undefined) return [];
  const timeline = timelineOf(resolved);
  const rule = timeline.stages.length > 1
    ? "max_tokens through the stages"
    : "max_tokens / (batch_size × sequence_length)";
  return [{ name: "steps", value: timeline.steps, rule }];
}

/** Sizes that were `auto`. */
export function autoNumbers(
  config: GivenSizes,
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

/** Rows that are on the device at once. */
export function microRows({ batch_size, accumulation }: BatchSizes): number {
  return batch_size / accumulation;
}
