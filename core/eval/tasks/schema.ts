/**
 * What a task's file may say. Keys are those of lm-evaluation-harness where it has them; unlike there a file holds
 * texts, fields and names of functions alone, so that nothing is executed from it.
 */
import { z } from "zod";
import { answerNames } from "../answers/mod.ts";
import { shapeNames } from "./shape.ts";
import { templateFault } from "./template.ts";

/** A text with holes: `Question: {{question}}`. */
const template = z.string().check((ctx) => {
  const message = templateFault(ctx.value);
  if (message !== undefined) ctx.issues.push({ code: "custom", message, input: ctx.value });
});

const pattern = z.string().min(1).check((ctx) => {
  try {
    new RegExp(ctx.value);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    ctx.issues.push({ code: "custom", message, input: ctx.value });
  }
});

const name = z.string().regex(/^[\w.-]+$/, "letters, digits and _ . - alone");

/** Configurations by the ends of their tasks' names: `counting_and_prob: counting_and_probability`. */
const datasetNames = z.union([z.array(name).min(1), z.record(name, name)]);

const common = {
  task: name,
  /** As tables call it. */
  alias: z.string().optional(),
  /** The harness's, of the task that this one is. */
  version: z.int().nonnegative().default(1),
  /** On the Hugging Face hub. */
  dataset_path: z.string().optional(),
  /** A configuration, or several: the file is then a group of a task for each, `task_name`. */
  dataset_name: z.union([name, datasetNames]).optional(),
  /** Rows in a file beside this one. */
  data_file: z.string().min(1).optional(),
  test_split: z.string().default("test"),
  /** That of the test unless given. */
  fewshot_split: z.string().optional(),
  num_fewshot: z.int().nonnegative().default(0),
  /** Shots that are always the first of their split. */
  fewshot_sampler: z.literal("first_n").optional(),
  /** Shots in the file itself, instead of a split. */
  fewshot_docs: z.array(z.record(z.string(), z.unknown())).min(1).optional(),
  /** Adds fields to each row. */
  process_docs: z.enum(shapeNames).optional(),
  /** Before the shots; `{{dataset_name}}` is all that may be in it. */
  description: template.default(""),
  target_delimiter: z.string().default(" "),
  fewshot_delimiter: z.string().default("\n\n"),
};

/** An index, or the place of a field's value in a list. */
const choiceIndex = z.union([
  z.int().nonnegative(),
  template,
  z.strictObject({
    value: template,
    among: z.union([template, z.array(z.string()).min(1)]),
  }),
]);

const metric = <Name extends string>(...names: [Name, ...Name[]]) =>
  z.array(z.strictObject({ metric: z.enum(names) })).min(1);

const multipleChoice = z.strictObject({
  output_type: z.literal("multiple_choice"),
  ...common,
  doc_to_text: template,
  /** A field that holds a list, or a text for each choice. */
  doc_to_choice: z.union([template, z.array(template).min(1)]),
  doc_to_target: choiceIndex,
  /** Partial scoring: choices complete the text, and this is what is scored after each. */
  doc_to_continuation: template.optional(),
  metric_list: metric("acc", "acc_norm", "acc_bytes"),
});

const logLikelihood = z.strictObject({
  output_type: z.literal("loglikelihood"),
  ...common,
  doc_to_text: template,
  doc_to_target: template,
  metric_list: metric("acc", "perplexity"),
});

const rolling = z.strictObject({
  output_type: z.literal("loglikelihood_rolling"),
  ...common,
  doc_to_target: template,
  metric_list: metric("word_perplexity", "byte_perplexity", "bits_per_byte"),
});

/** When an answer is right. */
const matchConfig = z.union([
  z.strictObject({
    metric: z.literal("exact_match"),
    ignore_case: z.boolean().default(false),
    /** Deleted from both sides, one after the other. */
    regexes_to_ignore: z.array(pattern).default([]),
  }),
  /** The same after the MATH data set's own clean-up. */
  z.strictObject({ metric: z.literal("exact_match"), equality: z.literal("hendrycks") }),
  /** The same as text, number or elements. */
  z.strictObject({ metric: z.literal("exact_match_lite") }),
]);

const filterConfig = z.union([
  z.strictObject({
    name,
    regex_pattern: pattern,
    take: z.enum(["first", "last"]).default("first"),
  }),
  z.strictObject({ name, function: z.enum(answerNames) }),
]);

const generateUntil = z.strictObject({
  output_type: z.literal("generate_until"),
  ...common,
  doc_to_text: template,
  /** What a shot shows; and what is right, unless `doc_to_gold` says so. */
  doc_to_target: template,
  doc_to_gold: template.optional(),
  generation_kwargs: z.strictObject({
    until: z.array(z.string().min(1)).default([]),
    max_gen_toks: z.int().positive().default(256),
  }).prefault({}),
  /** Ways to find the answer in the output; the output itself unless given. */
  filter_list: z.array(filterConfig).min(1).optional(),
  metric_list: z.array(matchConfig).min(1),
});

/** Tasks of other files, averaged together. */
export const groupConfig = z.strictObject({
  group: name,
  alias: z.string().optional(),
  version: z.int().nonnegative().default(1),
  task: z.array(name).min(1),
});

export const taskConfig = z.discriminatedUnion("output_type", [
  multipleChoice,
  logLikelihood,
  rolling,
  generateUntil,
]).check((ctx) => {
  const { dataset_path, data_file } = ctx.value;
  if (dataset_path !== undefined || data_file !== undefined) return;
  ctx.issues.push({
    code: "custom",
    path: ["dataset_path"],
    message: "missing: say where the rows are, by dataset_path or data_file",
    input: ctx.value,
  });
});

export type TaskConfig = z.output<typeof taskConfig>;
export type TaskConfigOf<Kind extends TaskConfig["output_type"]> = Extract<
  TaskConfig,
  { output_type: Kind }
>;
export type GroupConfig = z.output<typeof groupConfig>;
export type FilterConfig = z.output<typeof filterConfig>;
export type MatchConfig = z.output<typeof matchConfig>;
