/** Two models on the same tasks: differences with their errors. */

import { exists } from "../../io/atomic.ts";
import { exitCodes, UserError } from "../../io/errors.ts";
import type { Aggregation } from "../types.ts";
import { influences, meanError } from "./aggregate.ts";
import { stderrKey } from "./results.ts";
import type { ReadResults } from "./results_file.ts";
import { readSamples, type Sample, samplesPath } from "./samples.ts";

export interface ComparedMetric {
  readonly task: string;
  /** `acc,none` */
  readonly metric: string;
  readonly a: number;
  readonly b: number;
  readonly a_stderr: number;
  readonly b_stderr: number;
  /** b − a */
  readonly delta: number;
  /** Standard error of `delta`. */
  readonly stderr: number;
  /** `paired`: by document, as both answered the same; `independent`: from both errors. */
  readonly by: "paired" | "independent";
  /** Of the documents that were compared pair by pair; 0 without. */
  readonly documents: number;
  readonly higher_is_better: boolean | undefined;
}

/** The metrics that both have, in the order of the first. */
export async function compareResults(a: ReadResults, b: ReadResults): Promise<ComparedMetric[]> {
  const compared: ComparedMetric[] = [];
  for (const [task, row] of Object.entries(a.results)) {
    const other = b.results[task];
    if (!other) continue;
    const pairs = await pairsOf(a, b, task);
    for (const [metric, value] of Object.entries(row)) {
      const [name] = metric.split(",");
      if (typeof value !== "number" || typeof other[metric] !== "number") continue;
      if (name.endsWith("_stderr") || !metric.includes(",")) continue;
      const [a_stderr, b_stderr] = [row, other].map((of) => numberOf(of[stderrKey(metric)]));
      const paired = pairedError(pairs, metric);
      const first = a.group_subtasks[task]?.[0] ?? task;
      compared.push({
        task,
        metric,
        a: value,
        b: other[metric],
        a_stderr,
        b_stderr,
        delta: other[metric] - value,
        stderr: paired ?? Math.hypot(a_stderr, b_stderr),
        by: paired === undefined ? "independent" : "paired",
        documents: paired === undefined ? 0 : pairs.reduce((sum, { a }) => sum + a.length, 0),
        higher_is_better: a.higher_is_better[first]?.[name] ?? undefined,
      });
    }
  }
  if (compared.length > 0) return compared;
  throw new UserError("the two have no task and metric in common", {
    where: `${a.folder}, ${b.folder}`,
    exitCode: exitCodes.failed,
  });
}

const numberOf = (value: unknown) => typeof value === "number" ? value : NaN;

/** A task of which both have the samples of the same documents. */
interface Pairs {
  readonly a: readonly Sample[];
  readonly b: readonly Sample[];
  readonly aggregation: Readonly<Record<string, string>>;
}

/** Of a task, or of each that a group is made of; none where one cannot be paired. */
async function pairsOf(a: ReadResults, b: ReadResults, task: string): Promise<Pairs[]> {
  const members = a.group_subtasks[task] ?? [], pairs: Pairs[] = [];
  for (const name of members.length > 0 ? members : [task]) {
    const [first, second] = [await samplesOf(a, name), await samplesOf(b, name)];
    if (!first || !second || !areSame(first, second)) return [];
    pairs.push({ a: first, b: second, aggregation: a.aggregation[name] ?? {} });
  }
  return pairs;
}

async function samplesOf({ folder }: ReadResults, task: string): Promise<Sample[] | undefined> {
  const path = samplesPath(folder, task);
  return await exists(path) ? await readSamples(path) : undefined;
}

function areSame(a: readonly Sample[], b: readonly Sample[]): boolean {
  const name = ({ doc_id, doc }: Sample) => JSON.stringify([doc_id, doc]);
  return a.length === b.length && a.every((sample, i) => name(sample) === name(b[i]));
}

/** The error of the difference of each document's contributions; of a group by their variance within its tasks. */
function pairedError(pairs: readonly Pairs[], metric: string): number | undefined {
  const all = pairs.reduce((sum, { a }) => sum + a.length, 0);
  let variance = 0;
  for (const { a, b, aggregation } of pairs) {
    const how = aggregation[metric] as Aggregation | undefined;
    if (how === undefined || a.length < 2) return undefined;
    const [first, second] = [a, b].map((samples) =>
      influences(samples.map(({ metrics }) => metrics[metric]), how)
    );
    const error = meanError(first.map((x, i) => second[i] - x));
    variance += (error * a.length / all) ** 2;
  }
  return pairs.length === 0 ? undefined : Math.sqrt(variance);
}
