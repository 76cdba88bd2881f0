/**
 * What a model does inside while it reads, as text: tables, bars and maps of letters.
 *
 * @module
 */
import process from "node:process";
import { plural } from "../core/io/words.ts";
import type { Finding, Insides, Measured } from "../core/inspect/insides.ts";
import { formatCount } from "./ui/numbers.ts";
import { bar, type Cell, fillingOf, stackedBar, textTable } from "./ui/table.ts";
import { columnsOf } from "./ui/terminal.ts";

/** What is computed of findings; handed in, so that the help loads nothing. */
export type Helpers =
  & Pick<typeof import("../core/inspect/insides.ts"), "dominant" | "halfLife">
  & Pick<
    typeof import("../core/inspect/routing_page.ts"),
    "layerOf" | "meanUndecided" | "undecided"
  >;

/** Everything, for a terminal of some width or a pipe. */
export function describeInsides(title: string, found: Insides, helpers: Helpers): string {
  const { findings, categories } = found;
  const read = categories.map(({ name, texts, tokens }) =>
    `${name} (${plural(texts, "row")}, ${plural(tokens, "token")})`
  );
  const columns = Math.max(40, columnsOf(process.stdout) ?? 100);
  const parts = [
    ...entropyLines(findings, columns, helpers),
    ...shareLines(found, columns, helpers),
    ...mapLines(findings, columns, helpers),
    ...categoryLines(found, helpers),
    ...gateLines(findings, columns, helpers),
    ...factorLines(findings),
    ...changeLines(findings, columns, helpers),
  ];
  return [
    title,
    `  read  ${read.join(", ")}`,
    ...parts.length > 0 ? parts : ["", "no part of this model tells of itself"],
  ].join("\n");
}

/** The kind of part, whichever layer it is in. */
const placeOf = ({ path }: Finding) => path.replace(/^layers\.\d+\./, "");
const of = (findings: readonly Finding[], ...kinds: Finding["kind"][]) =>
  findings.filter(({ kind }) => kinds.includes(kind));

function entropyLines(
  findings: readonly Finding[],
  columns: number,
  { meanUndecided, undecided }: Helpers,
): string[] {
  const all = undecided(findings);
  if (all.length === 0) return [];
  const names = [...new Set(all.map(({ column }) => column))];
  const taken = names.reduce((n, name) => n + Math.max(5, name.length) + 4, 10);
  const width = barWidth(columns, taken, names.length);
  const cells = (found: { value: number; most: number } | undefined) =>
    found ? [found.value, bar(found.value / found.most, width)] : [undefined, ""];
  const rows = [...Map.groupBy(all, ({ layer }) => layer)].map(([layer, own]): Cell[] => [
    layer,
    ...names.flatMap((name) => cells(own.find(({ column }) => column === name))),
  ]);
  const means = meanUndecided(all);
  if (rows.length > 1) rows.push(["all", ...names.flatMap((name) => cells(means.get(name)))]);
  const most = Math.max(...all.map(({ most }) => most));
  return [
    "",
    `entropy of routers, how undecided they are, in nats; all even is ${most.toFixed(3)}`,
    ...textTable(["layer", ...names.flatMap((name) => [name, ""])], rows),
  ];
}

const barWidth = (columns: number, taken: number, bars: number) =>
  Math.max(6, Math.min(24, Math.floor((columns - taken) / Math.max(1, bars))));

function shareLines(
  { findings, categories }: Insides,
  columns: number,
  { layerOf }: Helpers,
): string[] {
  const groups = Map.groupBy(
    of(findings, "shares"),
    (one) => `${placeOf(one).replace(/, pass \d+$/, "")} ${one.name}`,
  );
  return [...groups.values()].flatMap((own) => {
    const [{ labels, name, over }] = own, width = barWidth(columns, 12 + 8 * labels.length, 1);
    const what = over === "units" ? "units" : "tokens";
    const several = categories.length > 1 && name !== "static";
    const rows = own.flatMap((finding) => {
      const row = (label: string, { mean }: Measured): Cell[] => [
        label,
        stackedBar(mean, width),
        ...mean.map((share) => Math.round(1000 * share) / 1000),
      ];
      return [
        row(layerOf(finding), finding.all),
        ...several
          ? Object.entries(finding.byCategory).map(([name, one]) => row(`  ${name}`, one))
          : [],
      ];
    });
    const header = labels.map((label, i) => `${fillingOf(i)} ${label}`);
    return [
      "",
      `shares, ${name}: means over ${what}`,
      ...textTable(["layer", "", ...header], rows),
    ];
  });
}

/** Of each unit the choice that it makes most of; neighbours share a place where the line is too short. */
function mapLines(
  findings: readonly Finding[],
  columns: number,
  { dominant, layerOf }: Helpers,
): string[] {
  const groups = Map.groupBy(
    findings.filter(({ over, kind }) => over === "units" && kind === "shares"),
    ({ name }) => name,
  );
  return [...groups].flatMap(([name, own]) => {
    const { labels } = own[0], letters = lettersOf(labels), width = Math.min(96, columns - 12);
    const rows = own.map((finding) => {
      const choices = dominant(finding), cells = Math.min(width, choices.length);
      const cell = (i: number) => {
        const from = Math.floor(i * choices.length / cells);
        const to = Math.max(from + 1, Math.floor((i + 1) * choices.length / cells));
        const counts = labels.map((_, k) =>
          choices.subarray(from, to).filter((c) => c === k).length
        );
        return letters[counts.indexOf(Math.max(...counts))];
      };
      return [layerOf(finding), Array.from({ length: cells }, (_, i) => cell(i)).join("")];
    });
    const units = dominant(own[0]).length;
    const each = units > width ? `, ${significantCount(units / width)} in a place` : "";
    return [
      "",
      `map, ${name}: what each of ${formatCount(units)} units takes most of${each}: ${
        labels.map((label, i) => `${letters[i]} ${label}`).join(", ")
      }`,
      ...textTable(["layer", "units"], rows),
    ];
  });
}

const significantCount = (n: number) => n < 10 ? n.toFixed(1) : formatCount(n);

/** A letter of each name, another where several begin alike. */
function lettersOf(labels: readonly string[]): string[] {
  const taken = new Set<string>();
  return labels.map((label, i) => {
    const letter = [...label, String(i)].find((one) => /\w/.test(one) && !taken.has(one)) ?? "?";
    taken.add(letter);
    return letter;
  });
}

/** What routers' nets say of each category, and how far apart the categories are. */
function categoryLines({ findings, categories }: Insides, { layerOf }: Helpers): string[] {
  const own = of(findings, "scores");
  if (own.length === 0 || categories.length < 2) return [];
  const { labels } = own[0];
  const rows = own.flatMap((finding) => {
    const all = Object.values(finding.byCategory).map(({ mean }) => mean);
    const shift = labels.map((_, i) => {
      const values = all.map((mean) => mean[i]);
      return Math.max(...values) - Math.min(...values);
    });
    return [
      ...Object.entries(finding.byCategory).map(([name, { mean }]): Cell[] => [
        layerOf(finding),
        name,
        ...mean,
      ]),
      [layerOf(finding), "shift", ...shift],
    ];
  });
  return [
    "",
    "what the router's net says, by category",
    ...textTable(["layer", "category", ...labels], rows),
  ];
}

function gateLines(
  findings: readonly Finding[],
  columns: number,
  { halfLife, layerOf }: Helpers,
): string[] {
  const own = of(findings, "gate", "decay");
  const groups = Map.groupBy(own, ({ kind, name, over }) => `${kind} ${name} ${over}`);
  return [...groups.values()].flatMap((group) => {
    const [{ kind, name, over }] = group,
      width = barWidth(columns, 60, 1),
      decays = kind === "decay";
    const what = decays
      ? `what is left of the ${name} after a token`
      : `how far the gate is open: ${name}`;
    const rows = group.map((finding): Cell[] => {
      const { mean, least, most, std } = finding.all;
      const middle = mean.reduce((sum, x) => sum + x, 0) / mean.length;
      const heads = [Math.min(...mean), Math.max(...mean)].map((x) => x.toFixed(3)).join("–");
      const life = (x: number) => Number.isFinite(halfLife(x)) ? halfLife(x).toFixed(1) : "∞";
      return [
        layerOf(finding),
        middle,
        bar(middle, width),
        std,
        least,
        most,
        heads,
        ...decays ? [`${life(Math.min(...mean))}–${life(Math.max(...mean))}`] : [],
      ];
    });
    const places = over === "part" ? "channels" : "heads";
    return [
      "",
      what,
      ...textTable(
        [
          "layer",
          "mean",
          "",
          "std",
          "least",
          "most",
          `${places}' means`,
          ...decays ? ["half-lives, tokens"] : [],
        ],
        rows,
      ),
    ];
  });
}

function factorLines(findings: readonly Finding[]): string[] {
  const own = of(findings, "factor");
  if (own.length === 0) return [];
  const rows = own.map((finding): Cell[] => {
    const { mean, least, most, std } = finding.all;
    const middle = mean.reduce((sum, x) => sum + x, 0) / mean.length;
    const each = mean.length < 4 && mean.length > 1
      ? finding.labels.map((label, i) => `${label} ${mean[i].toFixed(3)}`).join(", ")
      : "";
    return [finding.path, finding.name, middle, std, least, most, each];
  });
  return [
    "",
    "factors that were learned, over channels",
    ...textTable(["part", "factor", "mean", "std", "least", "most", ""], rows),
  ];
}

function changeLines(
  findings: readonly Finding[],
  columns: number,
  { layerOf }: Helpers,
): string[] {
  const own = of(findings, "change");
  if (own.length === 0) return [];
  const largest = Math.max(...own.map(({ all }) => all.mean[0])), width = barWidth(columns, 40, 1);
  const rows = own.map((finding): Cell[] => {
    const { mean: [mean], least, most } = finding.all;
    return [layerOf(finding), mean, bar(mean / largest, width), least, most];
  });
  return [
    "",
    "how much each layer changes the stream, as a part of its size",
    ...textTable(["layer", "mean", "", "least", "most"], rows),
  ];
}
