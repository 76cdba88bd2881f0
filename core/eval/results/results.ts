/** Results in the shape of the harness's results.json. Pure. */

import type { PreparedTask } from "../task_run.ts";
import { type Aggregation, metricKey, type TaskGroup, type TaskSelection } from "../types.ts";
import { aggregate, type Estimate, pool } from "./aggregate.ts";
import type { SampleValues } from "./samples.ts";

/** A row of `results`: `acc,none` and `acc_stderr,none`, …, with the name that tables show. */
export type ResultRow = Readonly<Record<string, number | string>>;

export interface Results {
  readonly results: Readonly<Record<string, ResultRow>>;
  readonly groups: Readonly<Record<string, ResultRow>>;
  readonly group_subtasks: Readonly<Record<string, readonly string[]>>;
  readonly configs: Readonly<Record<string, unknown>>;
  readonly versions: Readonly<Record<string, number>>;
  readonly "n-shot": Readonly<Record<string, number>>;
  readonly higher_is_better: Readonly<Record<string, Readonly<Record<string, boolean>>>>;
  /** How documents' values became the number, by `metricKey`. */
  readonly aggregation: Readonly<Record<string, Readonly<Record<string, Aggregation>>>>;
  readonly "n-samples": Readonly<Record<string, { original: number; effective: number }>>;
  /** How it was done. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly date: number;
  readonly total_evaluation_time_seconds: number;
}

/** A task with a sample for each of its documents. */
export interface FinishedTask {
  readonly prepared: Pick<PreparedTask, "task" | "shots" | "documents">;
  readonly samples: readonly SampleValues[];
}

export function resultsOf(
  finished: readonly FinishedTask[],
  { groups }: TaskSelection,
  rest: Pick<Results, "config" | "date" | "total_evaluation_time_seconds">,
): Results {
  const estimates = new Map(finished.map((one) => [one.prepared.task.name, estimatesOf(one)]));
  const byTask = <T>(of: (one: FinishedTask) => T) =>
    Object.fromEntries(finished.map((one) => [one.prepared.task.name, of(one)]));
  const joined = Object.fromEntries(
    groups.map((group) => [group.name, rowOf(group, groupEstimates(group, estimates))]),
  );
  return {
    results: {
      ...joined,
      ...byTask(({ prepared: { task } }) => rowOf(task, estimates.get(task.name)!)),
    },
    groups: joined,
    group_subtasks: Object.fromEntries(groups.map(({ name, tasks }) => [name, tasks])),
    configs: byTask(({ prepared: { task, shots } }) => ({ ...task.config, num_fewshot: shots })),
    versions: {
      ...byTask(({ prepared }) => prepared.task.version),
      ...Object.fromEntries(groups.map(({ name, version }) => [name, version])),
    },
    "n-shot": byTask(({ prepared }) => prepared.shots),
    higher_is_better: byTask(({ prepared }) =>
      Object.fromEntries(
        prepared.task.metrics.map(({ name, higher_is_better }) => [name, higher_is_better]),
      )
    ),
    aggregation: byTask(({ prepared }) =>
      Object.fromEntries(
        prepared.task.metrics.map((metric) => [metricKey(metric), metric.aggregation]),
      )
    ),
    "n-samples": byTask(({ prepared, samples }) => ({
      original: prepared.documents,
      effective: samples.length,
    })),
    ...rest,
  };
}

type Estimates = ReadonlyMap<string, Estimate>;

function estimatesOf({ prepared: { task }, samples }: FinishedTask): Estimates {
  return new Map(task.metrics.map((metric) => {
    const key = metricKey(metric);
    return [key, aggregate(samples.map(({ metrics }) => metrics[key]), metric.aggregation)];
  }));
}

function groupEstimates(
  { tasks, metrics }: TaskGroup,
  estimates: ReadonlyMap<string, Estimates>,
): Estimates {
  return new Map(
    metrics.map((key) => [key, pool(tasks.map((task) => estimates.get(task)!.get(key)!))]),
  );
}

function rowOf(
  { name, alias = name }: { readonly name: string; readonly alias?: string },
  estimates: Estimates,
): ResultRow {
  const numbers = [...estimates].flatMap(([key, { value, stderr }]) => [
    [key, value],
    // JSON has no NaN; the harness says so, too
    [stderrKey(key), Number.isFinite(stderr) ? stderr : "N/A"],
  ]);
  return { alias, ...Object.fromEntries(numbers) };
}

/** `acc,none` → `acc_stderr,none` */
export function stderrKey(key: string): string {
  const [name, filter] = key.split(",");
  return `${name}_stderr,${filter}`;
}
