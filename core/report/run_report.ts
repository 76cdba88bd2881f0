/** The report of a run, or of several side by side: from what their folders tell to a page. */

import { formatBytes, formatQuantity, plural, shellWord } from "../io/words.ts";
import { differences } from "./differences.ts";
import { shortNumber } from "./figure.ts";
import { type Markup, markup } from "./html.ts";
import { metricCharts, type XAxis } from "./metric_charts.ts";
import { charts, page, type Section } from "./page.ts";
import type { RunData, Sample, SessionFacts } from "./read_run.ts";
import { type RunSummary, summaryOf } from "./summary.ts";
import { table } from "./table.ts";

export interface ReportOptions {
  /** What charts stand over. */
  readonly by?: XAxis;
  /** Served by `quern watch`: see `Page`. */
  readonly revision?: string | undefined;
  readonly writtenAt: Date;
}

/** The page as one file. Runs that tell nothing yet have a report, too. */
export function runReport(
  given: readonly RunData[],
  { by = "step", revision, writtenAt }: ReportOptions,
): string {
  const runs = withOwnNames(given), isSingle = runs.length === 1;
  const figures = metricCharts(runs, by);
  const parts: (Section | undefined)[] = [
    isSingle ? undefined : resultsSection(runs),
    { id: "curves", title: "Curves", content: curves(runs, figures) },
    warningsSection(runs),
    samplesSection(runs),
    averagesSection(runs),
    isSingle ? checkpointsSection(runs[0]) : differencesSection(runs),
    isSingle ? configSection(runs[0]) : undefined,
    environmentSection(runs),
  ];
  const title = isSingle ? runs[0].name : runs.map(({ name }) => name).join(" · ");
  return page({
    title,
    lead: markup`${isSingle && leadOf(runs[0])}<p class="quiet">Written ${
      timeText(writtenAt)
    }. In a chart, drag to zoom, double-click to zoom out; the
legend hides lines.</p>`,
    sections: parts.filter((part) => part !== undefined),
    revision,
  });
}

/** Runs of one name are told apart by the folders that they are in. */
function withOwnNames(runs: readonly RunData[]): RunData[] {
  const isShared = ({ name }: RunData) => runs.filter((run) => run.name === name).length > 1;
  return runs.map((run) => isShared(run) ? { ...run, name: run.path } : run);
}

/** A manifest that somebody wrote may hold any text. */
function timeText(time: Date): string {
  if (Number.isNaN(time.getTime())) return "at an unknown time";
  return `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function leadOf(run: RunData): Markup {
  const found = summaryOf(run), { step, steps } = found;
  const fact = (name: string, value: string, more = "") =>
    markup`<div><dt>${name}</dt><dd>${value}${
      more !== "" && markup` <small>${more}</small>`
    }</dd></div>\n`;
  const number = (value: number, name: string, more = "") =>
    Number.isFinite(value) && fact(name, shortNumber(value), more);
  return markup`<p class="quiet">${run.path}</p>
<dl class="facts">${[
    fact("state", run.state),
    number(step, "step", steps === undefined ? "" : `of ${shortNumber(steps)}`),
    number(found.smoothedLoss, "loss, smoothed", "nats a token"),
    number(found.validationLoss, "validation loss", bestText(found)),
    number(found.bitsPerByte, "held-out text", "bits a byte"),
    Number.isFinite(found.tokens) && fact("tokens", formatQuantity(found.tokens)),
    number(found.tokensPerSecond, "speed, median", "tokens/s"),
  ]}</dl>`;
}

function bestText({ validationLoss, best: { loss, step } }: RunSummary): string {
  if (loss === validationLoss) return "the lowest";
  return `lowest ${shortNumber(loss)} at ${shortNumber(step)}`;
}

function curves(runs: readonly RunData[], figures: readonly Markup[]): Markup {
  const unread = runs.reduce((sum, { metrics }) => sum + metrics.unread, 0);
  return markup`${
    unread > 0 &&
    markup`<p class="alarm">${plural(unread, "line")} of metrics.jsonl could not be read.</p>`
  }${figures.length > 0 ? charts(figures) : markup`<p class="quiet">No step is logged yet.</p>`}`;
}

function resultsSection(runs: readonly RunData[]): Section {
  const content = table(
    [
      ...["run", "state", "step", "tokens", "loss, smoothed", "validation loss", "lowest"],
      ...["at step", "bits a byte", "tokens/s, median"],
    ],
    runs.map((run) => {
      const found = summaryOf(run);
      return [
        ...[run.name, run.state, found.step, found.tokens, found.smoothedLoss],
        ...[found.validationLoss, found.best.loss, found.best.step, found.bitsPerByte],
        found.tokensPerSecond,
      ];
    }),
  );
  return { id: "results", title: "Results", content: markup`<div class="scroll">${content}</div>` };
}

function warningsSection(runs: readonly RunData[]): Section | undefined {
  const rows = runs.flatMap(({ name, metrics: { faults } }) =>
    [...faults].map(([limit, { step, text, count }]) => [
      ...runs.length > 1 ? [name] : [],
      `router_health.${limit}`,
      text,
      step,
      count,
    ])
  );
  if (rows.length === 0) return undefined;
  const heads = ["limit", "the last time", "at step", "logged steps"];
  const content = table(runs.length > 1 ? ["run", ...heads] : heads, rows);
  return {
    id: "warnings",
    title: "Warnings",
    content: markup`<div class="scroll">${content}</div>`,
  };
}

/** So many of the newest texts stand in a report of one run, and so many characters of each. */
const mostTexts = 60, mostCharacters = 4000;

function samplesSection(runs: readonly RunData[]): Section | undefined {
  if (runs.every(({ samples }) => samples.length === 0)) return undefined;
  const content = runs.map(({ name, samples }) => {
    const whose = runs.length > 1 ? `${name}, ` : "", last = samples.at(-1)?.step;
    const [newest, older] = [
      samples.filter(({ step }) => step === last),
      samples.filter(({ step }) => step !== last).toReversed().slice(0, mostTexts),
    ];
    const card = (sample: Sample) => sampleCard(sample, whose);
    return markup`${newest.map(card)}${
      runs.length === 1 && older.length > 0 &&
      markup`<details><summary>${plural(older.length, "earlier text")}</summary>${
        older.map(card)
      }</details>`
    }`;
  });
  return { id: "samples", title: "Samples", content: markup`${content}` };
}

function sampleCard({ step, prompt, text, seed }: Sample, whose: string): Markup {
  const from = `${whose}step ${shortNumber(step)}${seed === undefined ? "" : `, seed ${seed}`}`;
  const shown = text.slice(0, mostCharacters), left = text.length - shown.length;
  return markup`<div class="card"><p class="note">${from}</p><pre><span class="prompt">${prompt}</span>${shown}</pre>${
    left > 0 && markup`<p class="note">and ${plural(left, "character")} more</p>`
  }</div>\n`;
}

function averagesSection(runs: readonly RunData[]): Section | undefined {
  const rows = runs.flatMap(({ name, metrics: { series } }) =>
    ["ema", "swa"].flatMap((kind) => {
      const loss = series.get(`${kind}/validation_loss`);
      const bits = series.get(`${kind}/bits_per_byte`);
      if (!loss) return [];
      const whose = runs.length > 1 ? `${name}: ${kind}` : kind;
      return [[whose, loss.steps.at(-1), loss.values.at(-1), bits?.values.at(-1)]];
    })
  );
  if (rows.length === 0) return undefined;
  const content = table(["average of the weights", "step", "validation loss", "bits a byte"], rows);
  return { id: "averages", title: "Averages", content };
}

function checkpointsSection({ checkpoints }: RunData): Section | undefined {
  if (checkpoints.length === 0) return undefined;
  const content = table(
    ["checkpoint", "validation loss", "size"],
    checkpoints.map((
      { name, bytes, validationLoss },
    ) => [name, validationLoss, formatBytes(bytes)]),
  );
  return { id: "checkpoints", title: "Checkpoints", content };
}

function differencesSection(runs: readonly RunData[]): Section {
  const found = differences(runs.map(({ config }) => config));
  const content = found.length === 0
    ? markup`<p class="quiet">All configs are the same.</p>`
    : markup`<details${found.length <= 40 && { html: " open" }}><summary>${
      plural(found.length, "field")
    }</summary><div class="scroll">${
      table(
        ["field", ...runs.map(({ name }) => name)],
        found.map(({ path, values }) => [path, ...values.map((value) => value ?? "–")]),
      )
    }</div></details>`;
  return { id: "config", title: "Config differences", content };
}

function configSection({ configText }: RunData): Section | undefined {
  if (configText === undefined) return undefined;
  const content = markup`<details><summary>${
    plural(configText.trimEnd().split("\n").length, "line")
  } of config.yaml</summary><div class="card"><pre>${configText}</pre></div></details>`;
  return { id: "config", title: "Config", content };
}

function environmentSection(runs: readonly RunData[]): Section | undefined {
  const known = runs.filter(({ manifest }) => manifest.sessions !== undefined);
  if (known.length === 0) return undefined;
  const content = known.map(({ name, manifest }) => {
    const { sessions = [], seed, data, tokenizer } = manifest;
    const what = table(["", "value"], [
      ["seed", seed === undefined ? undefined : String(seed)],
      ["tokenizer", tokenizer && `${tokenizer.kind ?? ""} ${shortHash(tokenizer.sha256)}`],
      ...dataRows(data),
    ]);
    return markup`${runs.length > 1 && markup`<h3>${name}</h3>`}<div class="scroll">${what}</div>${
      sessions.map(sessionCard)
    }`;
  });
  return { id: "environment", title: "Environment", content: markup`${content}` };
}

function sessionCard({ started, from_step, device, version, command, from }: SessionFacts): Markup {
  const facts = [
    started === undefined ? "" : timeText(new Date(started)),
    from_step === undefined ? "" : `from step ${shortNumber(from_step)}`,
    from === undefined ? "" : `weights of ${from}`,
    device?.name ?? "",
    version === undefined ? "" : `quern ${version}`,
  ];
  return markup`<div class="card"><p class="note">${
    facts.filter((fact) => fact !== "").join(", ")
  }</p><pre>${command?.map(shellWord).join(" ")}</pre></div>\n`;
}

/** Folders by the paths of the config; where they lie on a disk is nobody's business. */
function dataRows(data: unknown): [string, string][] {
  const sources = isTable(data) && Array.isArray(data.sources) ? data.sources : [data];
  return sources.filter(isTable).map(({ path, sha256, ...rest }) => {
    const counts = Object.entries(rest).filter(([, count]) => typeof count === "number")
      .map(([name, count]) => `${name.replaceAll("_", " ")} ${shortNumber(Number(count))}`);
    return ["data", [`${String(path ?? "")} ${shortHash(sha256)}`, ...counts].join(", ")];
  });
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function shortHash(hash: unknown): string {
  return typeof hash === "string" ? `(sha256 ${hash.slice(0, 12)}…)` : "";
}
