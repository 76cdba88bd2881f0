/** Tasks put to a model: events while it works, results at the end. */

import type { Device } from "../device/types.ts";
import type { OpenedModel } from "../open/mod.ts";
import type { ChatTemplate } from "../text/chat/mod.ts";
import { dataFinder, type DataPlaces } from "./datasets.ts";
import { lenient, type LenientTokenizer } from "./lenient.ts";
import type { Prompt, Reader, Tokenization } from "./prompts.ts";
import { type FinishedTask, type Results, resultsOf } from "./results/results.ts";
import { openSampleLog, type SampleLog, samplesPath } from "./results/samples.ts";
import { openSettings, type SettingsFile, weightsHash } from "./results/settings.ts";
import type { Sharing } from "./score/rows.ts";
import { Scorer } from "./score/scorer.ts";
import {
  generatedAnswer,
  type PreparedTask,
  prepareTask,
  requireData,
  rowsOf,
  sampleOf,
  scoredAnswers,
  type TaskSettings,
} from "./task_run.ts";
import type { GenerateAll, GenerateRequest, Task, TaskSelection } from "./types.ts";

export interface EvalSettings extends TaskSettings {
  readonly tokenization: Tokenization;
  readonly sharing: Sharing;
  /** Left out: no chat. */
  readonly chat?: ChatTemplate | undefined;
  /** Rows or texts at once; as many as fit unless given. */
  readonly batch?: number | undefined;
  /** Of generated texts, whatever a task says. */
  readonly max_new_tokens?: number | undefined;
}

export interface EvalJob {
  readonly opened: OpenedModel;
  readonly device: Device;
  readonly selection: TaskSelection;
  readonly places: DataPlaces;
  readonly settings: EvalSettings;
  readonly generate: GenerateAll;
  /** Where samples are written as they come; an evaluation that was stopped goes on from them. */
  readonly out?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type EvalEvent =
  | {
    readonly kind: "task";
    readonly task: string;
    readonly documents: number;
    readonly requests: number;
    /** Documents whose samples were there. */
    readonly known: number;
    readonly shots: number;
    /** Requests that are longer than the model's context. */
    readonly cut: number;
    readonly files: readonly string[];
  }
  | {
    readonly kind: "progress";
    readonly task: string;
    readonly done: number;
    readonly documents: number;
    /** Tokens that the model read or wrote for this task so far, and what they stand for without sharing. */
    readonly computed: number;
    readonly tokens: number;
    readonly seconds: number;
  }
  /** Characters that the tokenizer does not know were left out. */
  | { readonly kind: "unknown"; readonly characters: ReadonlyMap<string, number> }
  | { readonly kind: "results"; readonly results: Results };

/** Evaluates tasks; those that are scored come before those that generate. */
export async function* evaluate(job: EvalJob): AsyncGenerator<EvalEvent, void> {
  const { opened, device, selection, out, signal } = job, began = performance.now();
  const tokenizer = lenient(opened.tokenizer), reader = readerOf(job, tokenizer);
  const data = dataFinder(job.places);
  await requireData(selection.tasks, job.settings, data);
  const settings = await settingsFile(job);
  using stack = new DisposableStack();
  let scorer: Scorer | undefined;
  const getScorer = () => scorer ??= stack.use(Scorer.create(opened, device, job.settings));
  const finished = new Map<Task, FinishedTask>();
  for (
    const task of [...selection.tasks].sort((a, b) => Number(generates(a)) - Number(generates(b)))
  ) {
    const prepared = await prepareTask(task, job.settings, data, reader);
    await settings?.join(task.name, prepared.hash);
    await using log = await openSampleLog(out && samplesPath(out, task.name));
    yield startOf(prepared, log);
    if (generates(task)) yield* generateTask(job, prepared, log);
    else yield* scoreTask(getScorer, prepared, log, signal);
    signal?.throwIfAborted();
    finished.set(task, { prepared, samples: await log.finish() });
  }
  if (tokenizer.unknown.size > 0) yield { kind: "unknown", characters: tokenizer.unknown };
  const inOrder = selection.tasks.map((task) => finished.get(task)!);
  const results = resultsOf(inOrder, selection, {
    config: configOf(job),
    date: Date.now() / 1000,
    total_evaluation_time_seconds: (performance.now() - began) / 1000,
  });
  yield { kind: "results", results };
}

const generates = ({ output_type }: Task) => output_type === "generate_until";

function readerOf({ opened, settings }: EvalJob, tokenizer: LenientTokenizer): Reader {
  return {
    tokenizer,
    beginning: opened.beginning,
    tokenization: settings.tokenization,
    chat: settings.chat,
    positions: opened.model.dims.max_position_embeddings,
    max_new_tokens: settings.max_new_tokens,
  };
}

async function settingsFile(
  { out, opened, device, settings }: EvalJob,
): Promise<SettingsFile | undefined> {
  if (out === undefined) return undefined;
  const { tokenization, sharing, batch, chat } = settings;
  return await openSettings(out, {
    model_sha256: weightsHash(opened.file),
    tokenizer_sha256: opened.tokenizer.hash,
    device: device.info.kind,
    tokenization,
    sharing,
    batch: batch ?? null,
    chat_template: chat?.name ?? null,
  });
}

function startOf({ task, questions, shots, cut, files }: PreparedTask, { known }: SampleLog) {
  return {
    kind: "task",
    task: task.name,
    documents: questions.length,
    requests: questions.reduce((sum, { prompts }) => sum + prompts.length, 0),
    known: known.size,
    shots,
    cut,
    files,
  } as const;
}

async function* scoreTask(
  getScorer: () => Scorer,
  { task, questions }: PreparedTask,
  log: SampleLog,
  signal: AbortSignal | undefined,
): AsyncGenerator<EvalEvent> {
  if (questions.every((_, doc) => log.known.has(doc))) return;
  const told = teller(task, questions.length, log.known.size);
  const rows = questions.map(rowsOf);
  // nothing of these is to be scored
  const empty = [...questions.keys()].filter((doc) => rows[doc].length === 0);
  const sample = (doc: number, scores: Parameters<typeof scoredAnswers>[1]) =>
    sampleOf(task, questions[doc], scoredAnswers(questions[doc], scores), doc);
  await log.add(empty.filter((doc) => !log.known.has(doc)).map((doc) => sample(doc, [])));
  const isKnown = (doc: number) => log.known.has(doc);
  for await (const scored of getScorer().score({ families: rows, isKnown, signal })) {
    await log.add(scored.families.map(({ family, scores }) => sample(family, scores)));
    yield told(scored.families.length, scored);
  }
}

async function* generateTask(
  { opened, device, settings, generate, signal }: EvalJob,
  { task, questions }: PreparedTask,
  log: SampleLog,
): AsyncGenerator<EvalEvent> {
  const left = [...questions.keys()].filter((doc) => !log.known.has(doc));
  if (left.length === 0) return;
  const told = teller(task, questions.length, log.known.size);
  const requests = left.map((doc) => generateRequest(questions[doc].prompts));
  for await (
    const made of generate(opened, device, requests, { batch: settings.batch, signal })
  ) {
    const doc = left[made.index], answers = [generatedAnswer(made)];
    const tokens = requests[made.index].context.length + made.tokens;
    await log.add([sampleOf(task, questions[doc], answers, doc)]);
    yield told(1, { computed: tokens, tokens });
  }
}

function generateRequest(prompts: readonly Prompt[]): GenerateRequest {
  const [prompt] = prompts;
  if (prompts.length === 1 && prompt.kind === "generate_until") return prompt.request;
  throw new TypeError("a task that generates asks for one text about each document");
}

/** Adds up what is done, as events tell it. */
function teller(task: Task, documents: number, known: number) {
  const began = performance.now(), sums = { done: known, computed: 0, tokens: 0 };
  return (done: number, { computed, tokens }: { computed: number; tokens: number }): EvalEvent => {
    sums.done += done;
    sums.computed += computed;
    sums.tokens += tokens;
    const seconds = (performance.now() - began) / 1000;
    return { kind: "progress", task: task.name, documents, ...sums, seconds };
  };
}

/** How it was done, under the harness's names where it has one. */
function configOf({ opened, device, settings }: EvalJob): Record<string, unknown> {
  const { chat, batch, limit, fewshot, seed, tokenization, sharing, max_new_tokens } = settings;
  return {
    model: "quern",
    model_args: opened.checkpoint,
    model_num_parameters: parametersOf(opened),
    step: opened.step,
    batch_size: batch ?? "auto",
    device: device.info.kind,
    limit: limit ?? null,
    fewshot_sampler: fewshot,
    fewshot_seed: seed,
    tokenization,
    prefix_sharing: sharing,
    add_bos_token: opened.beginning !== undefined,
    chat_template: chat?.name ?? null,
    max_new_tokens: max_new_tokens ?? null,
    max_length: opened.model.dims.max_position_embeddings,
  };
}

function parametersOf({ file }: OpenedModel): number {
  return [...file.tensors.values()]
    .reduce((sum, { shape }) => sum + shape.reduce((size, n) => size * n, 1), 0);
}
