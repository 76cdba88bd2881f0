/**
 * How an evaluation is told: where it stands, and its results as a table.
 *
 * @module
 */
import type { EvalEvent } from "../core/eval/evaluate.ts";
import { type ResultRow, type Results, stderrKey } from "../core/eval/results/results.ts";
import type { Catalog } from "../core/eval/tasks/mod.ts";
import type { TaskSelection } from "../core/eval/types.ts";
import { plural } from "../core/io/words.ts";
import { formatCount, formatDuration } from "./ui/numbers.ts";
import { type Progress, progressLine } from "./ui/progress.ts";

type ProgressEvent = Extract<EvalEvent, { kind: "progress" }>;

/** Tells of the work on stderr. */
export class EvalStory {
  readonly #progress: Progress;
  #last: ProgressEvent | undefined;
  #known = 0;

  constructor({ quiet }: { readonly quiet: boolean }) {
    this.#progress = progressLine(quiet ? "quiet" : "normal");
  }

  note(line: string): void {
    this.#progress.note(line);
  }

  tell(event: EvalEvent): void {
    switch (event.kind) {
      case "task":
        this.#close();
        this.#known = event.known;
        return this.note(startLine(event));
      case "progress":
        this.#last = event;
        return this.#progress.update(() => progressText(event, this.#known));
      case "unknown": {
        this.#close();
        const count = [...event.characters.values()].reduce((sum, n) => sum + n, 0);
        const some = [...event.characters.keys()].slice(0, 8).map((c) => JSON.stringify(c));
        return this.note(
          `${plural(count, "character")} that the tokenizer does not know were left out: ` +
            `${some.join(" ")}${event.characters.size > some.length ? " …" : ""}`,
        );
      }
      case "results":
        return this.#close();
    }
  }

  #close(): void {
    const { done, documents, tokens, seconds } = this.#last ?? { seconds: 0 };
    if (this.#last && done === documents) {
      const rate = formatCount(tokens! / Math.max(seconds, 1e-9));
      this.note(`  ${formatDuration(seconds)}, ${rate} tokens/s${sharedText(this.#last)}`);
    }
    this.#last = undefined;
  }

  end(): void {
    this.#close();
    this.#progress.end();
  }
}

function startLine(
  { task, documents, requests, known, shots, cut }: Extract<EvalEvent, { kind: "task" }>,
): string {
  const parts = [
    plural(documents, "document"),
    ...requests === documents ? [] : [plural(requests, "request")],
    ...shots > 0 ? [plural(shots, "shot")] : [],
    ...known > 0 ? [`${formatCount(known)} done before`] : [],
    ...cut > 0
      ? [`${formatCount(cut)} longer than the model's context: their beginning is cut`]
      : [],
  ];
  return `${task}: ${parts.join(", ")}`;
}

function progressText(event: ProgressEvent, known: number): string {
  const { task, done, documents, tokens, seconds } = event;
  const left = (documents - done) * seconds / Math.max(1, done - known);
  return `${task} ${formatCount(done)}/${formatCount(documents)}, ` +
    `${formatCount(tokens / Math.max(seconds, 1e-9))} tokens/s, ${formatDuration(left)} left`;
}

function sharedText({ computed, tokens }: ProgressEvent): string {
  const part = 1 - computed / tokens;
  return part >= 0.005 ? `, ${Math.round(100 * part)} % of them shared` : "";
}

/** A line for each metric of each task, groups before their tasks. */
export function describeResults(results: Results, { groups }: TaskSelection): string {
  const inGroup = new Set(groups.flatMap(({ tasks }) => tasks));
  const rows: string[][] = [["task", "shots", "docs", "metric", "value", "± stderr"]];
  const add = (name: string, row: ResultRow, label: string, members: readonly string[]) => {
    const shots = [...new Set(members.map((task) => results["n-shot"][task]))];
    const count = members.reduce((sum, task) => sum + results["n-samples"][task].effective, 0);
    const metrics = Object.entries(row).filter(([key]) => isMetric(key));
    metrics.forEach(([key, value], i) => {
      const error = row[stderrKey(key)];
      const [metric, filter] = key.split(",");
      rows.push([
        i === 0 ? label : "",
        i === 0 ? shots.join("/") : "",
        i === 0 ? formatCount(count) : "",
        filter === "none" ? metric : `${metric} (${filter})`,
        shown(Number(value)),
        typeof error === "number" ? `± ${shown(error)}` : "",
      ]);
    });
    if (metrics.length === 0) rows.push([label, "", formatCount(count), name, "", ""]);
  };
  for (const { name, tasks } of groups) {
    add(name, results.groups[name], String(results.groups[name].alias), tasks);
    for (const task of tasks) {
      add(task, results.results[task], `  ${results.results[task].alias}`, [task]);
    }
  }
  for (const task of Object.keys(results["n-shot"])) {
    if (!inGroup.has(task)) {
      add(task, results.results[task], String(results.results[task].alias), [task]);
    }
  }
  return columns(rows, [1, 2, 4]);
}

/** `acc,none`, not its error, nor the name. */
export function isMetric(key: string): boolean {
  return key.includes(",") && !key.split(",")[0].endsWith("_stderr");
}

/** Four digits behind the point, fewer of large numbers. */
export function shown(value: number): string {
  const size = Math.abs(value);
  return size >= 1e6 ? value.toExponential(3) : value.toFixed(size >= 100 ? 2 : 4);
}

/** Text in columns, those of the given numbers to the right. */
export function columns(rows: readonly (readonly string[])[], right: readonly number[]): string {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) =>
    row.map((cell, i) => right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))
      .join("  ").trimEnd()
  ).join("\n");
}

/** What `--tasks list` prints. */
export function describeTasks({ tasks, groups }: Catalog): string {
  const members = new Set([...groups.values()].flatMap((group) => group.tasks));
  const alone = [...tasks.values()].filter(({ name }) => !members.has(name));
  const rows = [
    ["task", "data set", "split", "shots", "metrics"],
    ...alone.map(({ name, dataset, num_fewshot, metrics }) => [
      name,
      dataset.name === undefined ? dataset.path ?? "" : `${dataset.path} (${dataset.name})`,
      dataset.test_split,
      String(num_fewshot),
      [...new Set(metrics.map(({ name }) => name))].join(", "),
    ]),
  ];
  const grouped = [...groups.values()].map(({ name, tasks }) => [
    name,
    plural(tasks.length, "task"),
    tasks.length > 3 ? `${tasks.slice(0, 3).join(", ")}, …` : tasks.join(", "),
  ]);
  return `${columns(rows, [3])}\n\n${columns([["group", "", "of"], ...grouped], [])}`;
}
