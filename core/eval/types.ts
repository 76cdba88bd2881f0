/**
 * What evaluating is made of: tasks turn documents into requests, a model answers them, tasks turn
 * the answers into values, and those are averaged. Names are the harness's (EleutherAI's
 * lm-evaluation-harness), so that results compare.
 *
 * The way: rows of a data set → `Task.documents` → shots and `Task.requests` → prompts (plain or by
 * a chat template) → tokens → answers → `Task.measure` → `Metric.aggregation` with its stderr.
 */

import type { Device } from "../device/types.ts";
import type { OpenedModel } from "../open/mod.ts";

/** A row of a data set. */
export type Doc = Readonly<Record<string, unknown>>;

/** Where a task's rows come from: the names on the Hugging Face hub, which are looked for in `--data`, too. */
export interface DatasetRef {
  /** `allenai/ai2_arc`; undefined of data that have no place there. */
  readonly path?: string;
  /** Its configuration, `ARC-Easy`. */
  readonly name?: string;
  /** A file beside the task's own, for tasks that users write: takes the place of the hub. */
  readonly file?: string;
  readonly test_split: string;
  /** Where shots are taken from; that of the test where the data set has no other. */
  readonly fewshot_split: string;
}

/**
 * What a task asks of the model about one document. `query` is the text after description and shots;
 * with a chat template it ends the user's message.
 */
export type TaskRequest =
  /** How likely is `continuation`, which begins with its delimiter, after the query? */
  | { readonly kind: "loglikelihood"; readonly query: string; readonly continuation: string }
  /** How likely is a whole text, read with as much context as the model has? */
  | { readonly kind: "loglikelihood_rolling"; readonly text: string }
  /** Greedy text up to the first of the stops, which is no part of it. */
  | {
    readonly kind: "generate_until";
    readonly query: string;
    readonly stops: readonly string[];
    readonly max_new_tokens: number;
  };

/** What the model said to a request, in the requests' order. */
export type Answer =
  | {
    readonly kind: "loglikelihood";
    /** The sum over the continuation's tokens, in nats. */
    readonly logprob: number;
    /** Whether each of them is the likeliest. */
    readonly is_greedy: boolean;
    readonly tokens: number;
  }
  | { readonly kind: "loglikelihood_rolling"; readonly logprob: number; readonly tokens: number }
  | { readonly kind: "generate_until"; readonly text: string; readonly tokens: number };

/** An example with its answer, without the delimiters that join them. */
export interface Shot {
  readonly question: string;
  readonly answer: string;
}

/**
 * One document's value of a metric. Of metrics that weigh documents (by words, by bytes) a sum and
 * its weight.
 */
export type Value = number | { readonly sum: number; readonly weight: number };

/** How documents' values become one number. */
export type Aggregation =
  | "mean"
  /** exp(−mean) of log-probabilities, one a document. */
  | "perplexity"
  /** exp(−Σ sum / Σ weight) */
  | "weighted_perplexity"
  /** −Σ sum / Σ weight / ln 2 */
  | "bits_per_byte";

export interface Metric {
  /** `acc`, `exact_match`, … */
  readonly name: string;
  /** `none`, or what was looked for in a generated text: `strict-match`, `flexible-extract`. */
  readonly filter: string;
  readonly aggregation: Aggregation;
  readonly higher_is_better: boolean;
}

/** A metric's name among values and results, as the harness writes it: `exact_match,strict-match`. */
export function metricKey({ name, filter }: Pick<Metric, "name" | "filter">): string {
  return `${name},${filter}`;
}

/** How shots are chosen: the first of the split, or drawn for each document as the harness does. */
export type FewShotSampler = "first_n" | "harness";

export interface ShotOptions {
  readonly sampler: FewShotSampler;
  readonly count: number;
  readonly seed: number;
  /** Whether the documents are rows of the pool themselves, which must not be their own shots. */
  readonly isSameSplit: boolean;
}

/** Chooses each document's shots from a pool; the documents' order matters to the harness's draws. */
export type ChooseShots = (
  pool: readonly Doc[],
  documents: readonly Doc[],
  options: ShotOptions,
) => readonly (readonly Doc[])[];

/** A task, made of its YAML file and its functions. Pure: nothing here reads a file or runs a model. */
export interface Task {
  readonly name: string;
  /** As tables call it, where that is another name. */
  readonly alias?: string;
  readonly version: number;
  readonly output_type: "multiple_choice" | TaskRequest["kind"];
  readonly dataset: DatasetRef;
  /** Shots unless `--num-fewshot` says otherwise. */
  readonly num_fewshot: number;
  /** How this task's shots are always chosen, whatever is asked for. */
  readonly fewshot_sampler?: FewShotSampler;
  /** Shots that the task brings itself, in their order; `fewshot_split` is then not read. */
  readonly fewshot_docs?: readonly Doc[];
  /** Stands before the shots. */
  readonly description: string;
  /** Between a question and its answer. */
  readonly target_delimiter: string;
  /** After each shot. */
  readonly fewshot_delimiter: string;
  readonly metrics: readonly Metric[];
  /** The YAML file as it was read, for the record. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Rows that are documents of the task, in their order, made ready; an error names the row. */
  documents(rows: readonly Doc[]): readonly Doc[];
  requests(doc: Doc): readonly TaskRequest[];
  shot(doc: Doc): Shot;
  /** What is right, for the log: a choice's index or a text. */
  target(doc: Doc): string | number;
  /** The document's value for each of `metrics`, by `metricKey`. */
  measure(doc: Doc, answers: readonly Answer[]): Readonly<Record<string, Value>>;
}

/** Tasks that are averaged together, each weighted by its documents. */
export interface TaskGroup {
  readonly name: string;
  readonly alias?: string;
  readonly version: number;
  /** Names of tasks. */
  readonly tasks: readonly string[];
  /** Metrics that are averaged, by `metricKey`. */
  readonly metrics: readonly string[];
}

/** What `--tasks` names: groups stand beside the tasks that they are made of. */
export interface TaskSelection {
  readonly tasks: readonly Task[];
  readonly groups: readonly TaskGroup[];
}

/** Finds tasks and groups by name, or by the path of a YAML file. */
export type OpenTasks = (names: readonly string[]) => Promise<TaskSelection>;

/** A text to be generated: all tokens that come before it, special ones among them. */
export interface GenerateRequest {
  readonly context: ArrayLike<number>;
  /** Texts that end it. */
  readonly stops: readonly string[];
  /** Tokens that end it besides the end of text: a chat's end of turn. */
  readonly stop_ids: readonly number[];
  readonly max_new_tokens: number;
}

/**
 * Generates greedily for many requests, in batches; what is done comes as it is done, in any order. No text depends on its
 * neighbours. `core/eval/generate.ts` has it; it opens a decoder over the model's weights for as long as it runs.
 */
export type GenerateAll = (
  opened: OpenedModel,
  device: Device,
  requests: readonly GenerateRequest[],
  options?: {
    /** Texts at once; as many as fit unless given. */
    readonly batch?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  },
) => AsyncGenerator<Generated, void>;

/** What came of a request. */
export interface Generated {
  /** Place of the request in the list. */
  readonly index: number;
  /** Up to the stop. */
  readonly text: string;
  readonly tokens: number;
}
