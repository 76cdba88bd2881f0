/** The schema of a config of supervised fine-tuning, and what it means once model and data are known. */

import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { readingFields } from "../data/chat/mod.ts";
import { conversationPackings } from "../data/conversation_rows.ts";
import { UserError } from "../io/errors.ts";
import { type CompleteModelConfig, modelConfig } from "../model/mod.ts";
import { completeOptimizer, spanConfig } from "../optim/mod.ts";
import { type Disagreement, trainingDisagreements } from "../train/agreements.ts";
import { type BatchSizes, givenSizes, trainingFields } from "../train/config.ts";
import { weight } from "../train/data_config.ts";
import { samplesConfig } from "../train/samples_config.ts";

const positive = z.int().positive();

/** Files, folders, or patterns. */
const files = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)])
  .meta({ examples: ["chat.jsonl"] });

const source = z.strictObject({
  path: files,
  ...readingFields,
  /** The part of the rows that come from it, over the sum of all. Left out of all: as many as each has. */
  weight: weight.optional(),
});

export const conversationConfig = z.strictObject({
  /** Conversations: jsonl or parquet files, also .gz or .zst, folders of them, or patterns. */
  path: files.optional(),
  ...readingFields,
  /** In place of `path`: several such sources. Each has epochs of its own. */
  sources: z.array(source).min(1).optional().meta({
    examples: [[{ path: "chat.jsonl", weight: 2 }, { path: "maths.parquet", weight: 1 }]],
  }),
  /** What is measured: a part of each source that is held out, or files of their own. */
  validation: z.union([
    z.strictObject({ fraction: z.number().min(0).lt(1) }),
    z.strictObject({ path: files, ...readingFields }),
  ]).default({ fraction: 0.05 }),
  /** A conversation with more than sequence_length tokens to be read loses its end, is left out, or ends the work. */
  overlong: z.enum(["truncate", "drop", "error"]).default("truncate"),
  /** A record that cannot be read, or not be trained on by the template, ends the work, or is left out. */
  on_error: z.enum(["stop", "skip"]).default("stop"),
  /**
   * `packed`: several conversations in a row, kept apart. `buckets`: one in a row, padded to the shortest of a few lengths; for
   * models whose parts look at whole rows.
   */
  packing: z.enum(conversationPackings).default("packed"),
  /** Of `buckets`: lengths of rows besides sequence_length, all shorter. Left out: its quarter and its half. */
  bucket_lengths: z.array(positive).optional(),
});
export type ConversationConfig = z.output<typeof conversationConfig>;

const { max_tokens: _, stages: __, ...shared } = trainingFields;

const forms = z.strictObject({
  kind: z.literal("sft"),
  /** What is tuned: a run, one of its checkpoints, or a folder in Hugging Face's layout. --from says another. */
  from: z.string().min(1).optional(),
  /** The model of `from`, with what it scheduled as it stood at its end. Runs have it; leave it out. */
  model: modelConfig.optional(),
  data: conversationConfig,
  /** `chatml`, a Jinja template's file, or a tokenizer_config.json. Left out: that of `from`, or else chatml. */
  template: z.string().min(1).optional(),
  /** The special token before each conversation, or null. Left out: that before each text that `from` learned. */
  beginning: z.string().min(1).nullable().optional(),
  /** Loss on every answer, each as much as its message's weight, or on the last alone. */
  loss_on: z.enum(["all", "last"]).default("all"),
  /** How often each conversation is seen; says the number of steps. null: it is not said so. */
  epochs: z.number().positive().nullable().optional(),
  ...shared,
  /** Other sizes from a moment on; what a stage leaves out stays as it was before. */
  stages: z.array(z.strictObject({
    from: spanConfig,
    batch_size: positive.optional(),
    accumulation: positive.optional(),
  })).default([]),
  /** Answers while the model trains; each prompt is what a user says. */
  samples: samplesConfig.extend({ prompts: z.array(z.string()).min(1).default(["Hello!"]) })
    .prefault({}),
});

export type SftConfig = z.output<typeof forms>;

export const sftConfig = forms.check((ctx) => {
  if (ctx.issues.length > 0) return; // a field that has a fault of its own agrees with nothing
  for (const { path, message } of sftDisagreements(ctx.value)) {
    ctx.issues.push({ code: "custom", input: ctx.value, path, message });
  }
});

/** A config that leaves nothing open: what a run is made from, and what `config.yaml` in its folder says. */
export type ResolvedSft =
  & Omit<SftConfig, keyof BatchSizes | "model" | "from" | "template" | "beginning" | "epochs">
  & BatchSizes
  & {
    readonly model: CompleteModelConfig;
    readonly from: string;
    readonly template: string;
    readonly beginning: string | null;
  };

const readingDefaults = z.strictObject(readingFields).parse({});

function sftDisagreements(config: SftConfig): Disagreement[] {
  const { steps, max_minutes, data, sequence_length } = config, epochs = config.epochs ?? undefined;
  if (steps !== undefined && epochs !== undefined && config.model === undefined) {
    const message =
      "steps says how long the run is, too: one of them only (--set epochs=null drops it)";
    return [{ path: ["epochs"], message }];
  }
  if (steps === undefined && epochs === undefined && max_minutes === 0) {
    const message = "how long is the run? epochs, steps or max_minutes says so";
    return [{ path: ["epochs"], message }];
  }
  if ((data.path === undefined) === (data.sources === undefined)) {
    const message = data.path === undefined
      ? "missing: path (files of conversations) or sources (several, with weights)"
      : "there is a path, too: one of them only (--set 'data={sources: [...]}' drops it)";
    return [{ path: data.path === undefined ? ["data"] : ["data", "sources"], message }];
  }
  const misplaced = data.sources &&
    Object.keys(readingFields).find((name) =>
      !isDeepStrictEqual(Reflect.get(data, name), Reflect.get(readingDefaults, name))
    );
  if (misplaced) {
    return [{ path: ["data", misplaced], message: "say it in each of the sources" }];
  }
  const unweighed = data.sources?.findIndex(({ weight }) => weight === undefined) ?? -1;
  if (unweighed >= 0 && data.sources!.some(({ weight }) => weight !== undefined)) {
    const message = "weight: missing, where another source has one";
    return [{ path: ["data", "sources", unweighed], message }];
  }
  const { packing, bucket_lengths: lengths } = data;
  if (lengths && packing !== "buckets") {
    return [{ path: ["data", "bucket_lengths"], message: `packing is ${packing}, not buckets` }];
  }
  const isSorted = lengths?.every((length, i) => length > (lengths[i - 1] ?? 0));
  if (lengths && (!isSorted || lengths.some((length) => length >= sequence_length))) {
    const message = `lengths rise, and all are below sequence_length (${sequence_length})`;
    return [{ path: ["data", "bucket_lengths"], message }];
  }
  return trainingDisagreements(config);
}

/** What a config does not say itself. */
export interface SftFacts {
  /** The path that its weights come from. */
  readonly from: string;
  readonly model: CompleteModelConfig;
  readonly template: string;
  readonly beginning: string | null;
  /** Rows of an epoch of each source. */
  readonly rows: readonly number[];
  /** Rows of the first so many epochs of all sources. */
  rowsIn(epochs: number): number;
}

/** Fills in what follows from the model, the data, and sizes that were `auto`. */
export function resolveSft(
  config: SftConfig,
  { model, from, template, beginning, rows, rowsIn }: SftFacts,
  sizes: BatchSizes = givenSizes(config),
): ResolvedSft {
  const { epochs, ...given } = config, { data, sequence_length } = config;
  // a run has steps; who changes its length may say it in epochs
  const steps = epochs == null ? config.steps : Math.ceil(rowsIn(epochs) / sizes.batch_size);
  const resolved = {
    ...given,
    ...sizes,
    from,
    template,
    beginning,
    model,
    ...(steps !== undefined && { steps }),
    data: {
      ...data,
      ...(data.sources && {
        sources: data.sources.map(({ weight = undefined, ...source }, i) => ({
          ...source,
          weight: weight ?? rows[i],
        })),
      }),
      ...(data.packing === "buckets" && {
        bucket_lengths: data.bucket_lengths ?? defaultBuckets(sequence_length),
      }),
    },
    optimizer: completeOptimizer(config.optimizer),
  };
  const [fault] = trainingDisagreements(resolved);
  if (fault) throw new UserError(fault.message, { where: fault.path.join(".") });
  return resolved;
}

/** Lengths of rows besides the longest. */
export function defaultBuckets(sequence_length: number): number[] {
  return [4, 2].map((part) => Math.floor(sequence_length / part)).filter((length) => length > 0);
}

/** All lengths of rows, the shortest first. */
export function rowLengths({ data, sequence_length }: Pick<SftConfig, "data" | "sequence_length">) {
  if (data.packing === "packed") return [sequence_length];
  return [...data.bucket_lengths ?? defaultBuckets(sequence_length), sequence_length];
}
