/** One task: its documents as prompts, and the model's answers as samples. */

import { createHash } from "node:crypto";
import { exitCodes, UserError } from "../io/errors.ts";
import { plural } from "../io/words.ts";
import type { DataFinder } from "./datasets.ts";
import { type Prompt, promptOf, type Reader } from "./prompts.ts";
import type { Sample } from "./results/samples.ts";
import type { RowScore } from "./score/scorer.ts";
import type { TokenRow } from "./score/rows.ts";
import { chooseShots } from "./tasks/mod.ts";
import type { Answer, Doc, FewShotSampler, Generated, Task } from "./types.ts";

/** How tasks are put to a model. */
export interface TaskSettings {
  /** Instead of each task's own. */
  readonly num_fewshot?: number | undefined;
  readonly fewshot: FewShotSampler;
  readonly seed: number;
  /** Documents of each task at most. */
  readonly limit?: number | undefined;
}

/** A document with what is asked about it. */
export interface Question {
  readonly doc: Doc;
  readonly prompts: readonly Prompt[];
}

export interface PreparedTask {
  readonly task: Task;
  readonly shots: number;
  readonly questions: readonly Question[];
  /** Documents that the task has without a limit. */
  readonly documents: number;
  readonly files: readonly string[];
  /** SHA-256 of all that is asked and how it is measured. */
  readonly hash: string;
  /** Requests of which the model cannot read all at once. */
  readonly cut: number;
}

export async function prepareTask(
  task: Task,
  settings: TaskSettings,
  data: DataFinder,
  reader: Reader,
): Promise<PreparedTask> {
  const { test_split } = task.dataset;
  const { rows, files } = await data.read(task, test_split);
  const all = naming(files, () => task.documents(rows));
  const documents = all.slice(0, settings.limit);
  const count = shotsOf(task, settings), split = shotSplit(task, settings);
  const pool = split === undefined
    ? task.fewshot_docs ?? []
    : split === test_split
    ? all
    : await readShots(task, split, data);
  const chosen = naming([task.name], () =>
    chooseShots(pool, documents, {
      sampler: task.fewshot_sampler ?? settings.fewshot,
      count,
      seed: settings.seed,
      isSameSplit: split === test_split,
    }));
  const questions = documents.map((doc, i): Question => {
    const shots = chosen[i].map((shot) => task.shot(shot));
    return {
      doc,
      prompts: task.requests(doc).map((request) => promptOf(task, shots, request, reader)),
    };
  });
  return {
    task,
    shots: count,
    questions,
    documents: all.length,
    files,
    hash: hashOf(task, questions),
    cut: questions.flatMap(({ prompts }) => prompts)
      .filter((prompt) => isCut(prompt, reader.positions)).length,
  };
}

/** Finds the files of tasks, so that what is missing is said before any work. */
export async function requireData(
  tasks: readonly Task[],
  settings: TaskSettings,
  data: DataFinder,
): Promise<void> {
  for (const task of tasks) {
    await data.files(task, task.dataset.test_split);
    const split = shotSplit(task, settings);
    if (split !== undefined) await forShots(task, settings, () => data.files(task, split));
  }
}

const shotsOf = ({ num_fewshot }: Task, settings: TaskSettings) =>
  settings.num_fewshot ?? num_fewshot;

/** Where shots come from, where they are asked for and the task does not bring them. */
function shotSplit(task: Task, settings: TaskSettings): string | undefined {
  return shotsOf(task, settings) === 0 || task.fewshot_docs
    ? undefined
    : task.dataset.fewshot_split;
}

async function readShots(task: Task, split: string, data: DataFinder): Promise<readonly Doc[]> {
  const { rows, files } = await data.read(task, split);
  return naming(files, () => task.documents(rows));
}

async function forShots<T>(
  task: Task,
  settings: TaskSettings,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { message, where, hint, exitCode } = error;
    throw new UserError(`${message} (for its ${plural(shotsOf(task, settings), "shot")})`, {
      ...(where !== undefined && { where }),
      hint: `${hint === undefined ? "" : `${hint}; or `}ask without shots: --num-fewshot 0`,
      exitCode,
      cause: error,
    });
  }
}

/** Errors of documents name their row; here the file is known, too. */
function naming<T>(files: readonly string[], work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { message, where, hint } = error;
    throw new UserError(message, {
      where: where === undefined ? files[0] : `${files[0]}: ${where}`,
      exitCode: exitCodes.failed,
      ...(hint !== undefined && { hint }),
    });
  }
}

function hashOf({ name, version, metrics }: Task, questions: readonly Question[]): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([name, version, metrics]));
  for (const { prompts } of questions) hash.update(`${JSON.stringify(prompts)}\n`);
  return hash.digest("hex");
}

function isCut(prompt: Prompt, positions: number): boolean {
  if (prompt.kind === "loglikelihood") return prompt.row.ids.length > positions + 1;
  return prompt.kind === "generate_until" && prompt.is_cut;
}

/** Rows of one document: none of a prompt whose targets are none. */
export function rowsOf({ prompts }: Question): TokenRow[] {
  return prompts.flatMap(promptRows).filter(({ scored }) => scored > 0);
}

function promptRows(prompt: Prompt): readonly TokenRow[] {
  switch (prompt.kind) {
    case "loglikelihood":
      return [prompt.row];
    case "loglikelihood_rolling":
      return prompt.rows;
    case "generate_until":
      return [];
  }
}

/** The answers that scores of `rowsOf` are. */
export function scoredAnswers({ prompts }: Question, scores: readonly RowScore[]): Answer[] {
  let next = 0;
  return prompts.map((prompt): Answer => {
    const rows = promptRows(prompt).filter(({ scored }) => scored > 0);
    const found = rows.map(() => scores[next++]);
    const tokens = rows.reduce((sum, { scored }) => sum + scored, 0);
    let logprob = 0;
    for (const { logprobs } of found) for (const x of logprobs) logprob += x;
    if (prompt.kind === "loglikelihood_rolling") return { kind: prompt.kind, logprob, tokens };
    const is_greedy = found.every((score) => score.is_greedy);
    return { kind: "loglikelihood", logprob, is_greedy, tokens };
  });
}

export function generatedAnswer({ text, tokens }: Generated): Answer {
  return { kind: "generate_until", text, tokens };
}

/** What the log says of a document. */
export function sampleOf(
  task: Task,
  { doc, prompts }: Question,
  answers: readonly Answer[],
  doc_id: number,
): Sample {
  return {
    doc_id,
    doc,
    target: task.target(doc),
    arguments: prompts.map((prompt) =>
      prompt.kind === "loglikelihood"
        ? [prompt.context, prompt.continuation]
        : [prompt.kind === "generate_until" ? prompt.context : prompt.text]
    ),
    resps: answers.map((answer) =>
      answer.kind === "generate_until"
        ? answer.text
        : answer.kind === "loglikelihood"
        ? [answer.logprob, answer.is_greedy] as const
        : [answer.logprob] as const
    ),
    tokens: answers.map(({ tokens }) => tokens),
    metrics: task.measure(doc, answers),
  };
}
