/**
 * `quern eval --compare`: two models on the same tasks.
 *
 * @module
 */
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { ComparedMetric } from "../core/eval/results/compare.ts";
import type { ReadResults } from "../core/eval/results/results_file.ts";
import { UserError } from "../core/io/errors.ts";
import { columns, shown } from "./eval_story.ts";
import { parsePath } from "./options.ts";
import { printFolded } from "./ui/terminal.ts";

export const compareHelp = `\
--compare shows the second of two evaluations less the first, with standard errors: by document where both have
samples of the same ones, which tells much smaller differences from chance, else from the errors of both.
What is said to be better or worse is so by more than two standard errors.`;

export const compareExamples = `\
  quern eval --compare evals/base evals/sft
  quern eval --compare evals/base evals/sft --html compared.html`;

/** Its options. */
export function addCompareOptions(command: CommandUnknownOpts): void {
  command
    .optionsGroup("Comparison:")
    .option(
      "--compare <folder...>",
      "two folders of --out, or results.json files",
      (path: string, before: readonly string[] | undefined) => [
        ...before ?? [],
        parsePath(path),
      ],
    )
    .option("--html <file>", "of a comparison, a page with charts", parsePath);
}

export interface CompareChoice {
  readonly html?: string | undefined;
  readonly json: boolean;
}

/** Compares, and prints the table. */
export async function compareTwo(
  [first, second]: readonly [string, string],
  { html, json }: CompareChoice,
): Promise<void> {
  const { readResults } = await import("../core/eval/results/results_file.ts");
  const { compareResults } = await import("../core/eval/results/compare.ts");
  const a = await readResults(first), b = await readResults(second);
  const compared = await compareResults(a, b);
  if (html !== undefined) {
    const { comparisonPage } = await import("../core/eval/results/comparison_page.ts");
    const { writeFileAtomic } = await import("../core/io/atomic.ts");
    await writeFileAtomic(html, comparisonPage(compared, [first, second]));
  }
  if (json) console.log(JSON.stringify(jsonOf(compared, [a, b])));
  else printFolded(describe(compared, [first, second]));
}

function describe(compared: readonly ComparedMetric[], [a, b]: readonly [string, string]): string {
  const metricOf = ({ metric }: ComparedMetric) =>
    metric.replace(/,none$/, "").replace(/,(.*)/, " ($1)");
  const rows = compared.map((one, i) => [
    one.task === compared[i - 1]?.task ? "" : one.task,
    metricOf(one),
    shown(one.a),
    shown(one.b),
    `${one.delta < 0 ? "" : "+"}${shown(one.delta)}`,
    Number.isFinite(one.stderr) ? `± ${shown(one.stderr)}` : "",
    verdict(one),
    one.by === "paired" ? "" : one.by,
  ]);
  const heads = ["task", "metric", "a", "b", "b − a", "± stderr", "", ""];
  const isPaired = compared.some(({ by }) => by === "paired");
  const shares = compared.filter(isShare), most = Math.max(...shares.map(reach));
  const bars = shares.map((one) => [`${one.task} ${metricOf(one)}`, bar(one, most)]);
  return [
    `a: ${a}`,
    `b: ${b}`,
    "",
    columns([heads, ...rows], [2, 3, 4]),
    ...isPaired ? ["errors are of the same documents, pair by pair, unless independent"] : [],
    ...bars.length > 0
      ? ["", columns([["b − a", `${shown(-most)}  0  ${shown(most)}`], ...bars], [])]
      : [],
  ].join("\n");
}

/** Beyond two standard errors. */
function verdict({ delta, stderr, higher_is_better }: ComparedMetric): string {
  if (!(Math.abs(delta) > 2 * stderr)) return "";
  if (higher_is_better === undefined) return "differs";
  return delta > 0 === higher_is_better ? "better" : "worse";
}

/** Parts of a whole share a scale; perplexities would dwarf them. */
const isShare = ({ a, b }: ComparedMetric) => a >= 0 && a <= 1 && b >= 0 && b <= 1;

/** Cells to either side. */
const half = 20;

const reach = ({ delta, stderr }: ComparedMetric) =>
  Math.abs(delta) + (Number.isFinite(stderr) ? stderr : 0);

/** The difference as a bar from the middle, its error as a line: `      │████──   `. */
function bar(one: ComparedMetric, most: number): string {
  const cells = new Array<string>(2 * half + 1).fill(" ");
  const place = (x: number) => Math.round(half + half * x / (most || 1));
  const { delta, stderr } = one, error = Number.isFinite(stderr) ? stderr : 0;
  const fill = (from: number, to: number, with_: string) => {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at++) {
      if (at >= 0 && at < cells.length) cells[at] = with_;
    }
  };
  fill(place(delta - error), place(delta + error), "─");
  fill(half, place(delta - Math.sign(delta) * Math.min(error, Math.abs(delta))), "█");
  cells[half] = "│";
  return cells.join("");
}

function jsonOf(compared: readonly ComparedMetric[], [a, b]: readonly ReadResults[]) {
  const known = (x: number) => Number.isFinite(x) ? x : null;
  return {
    a: a.folder,
    b: b.folder,
    metrics: compared.map((one) => ({
      ...one,
      a_stderr: known(one.a_stderr),
      b_stderr: known(one.b_stderr),
      stderr: known(one.stderr),
      higher_is_better: one.higher_is_better ?? null,
    })),
  };
}

/** What `--compare A B` names. */
export function twoPaths(
  given: readonly string[],
  model: string | undefined,
): readonly [string, string] {
  const [first, second] = given;
  if (given.length === 2 && model === undefined) return [first, second];
  throw new UserError(`--compare takes two evaluations, and nothing else`, {
    hint: "quern eval --compare A B",
  });
}
