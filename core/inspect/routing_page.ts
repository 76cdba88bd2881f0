/** What a model does inside while it reads, as a page of charts. */

import {
  barChart,
  charts,
  heatMap,
  type Markup,
  markup,
  page,
  type Section,
  table,
} from "../report/mod.ts";
import { dominant, type Finding, halfLife, type Insides, type Measured } from "./insides.ts";

/** One file; `title` names the model. */
export function routingPage(title: string, { findings, categories }: Insides): string {
  const sections: Section[] = [
    section("entropies", "How undecided routers are", entropies(findings)),
    section("shares", "Shares", shares(findings)),
    section("maps", "Maps of units", maps(findings)),
    section("scores", "By category", scores(findings)),
    section("gates", "Gates and decays", gates(findings)),
    section("change", "Change of the stream", changes(findings)),
    ...factors(findings),
  ].filter(({ content }) => content.html !== "");
  const read = table(
    ["category", "rows", "tokens"],
    categories.map(({ name, texts, tokens }) => [name, texts, tokens]),
  );
  return page({ title, lead: markup`<div class="scroll">${read}</div>`, sections });
}

function section(id: string, title: string, figures: readonly Markup[]): Section {
  return { id, title, content: figures.length > 0 ? charts(figures) : { html: "" } };
}

const kinds = (findings: readonly Finding[], ...wanted: Finding["kind"][]) =>
  findings.filter(({ kind }) => wanted.includes(kind));

/** The layer, and the pass of one that is passed again; of what is in no layer its path. */
export const layerOf = ({ path }: Finding): string =>
  path.match(/^layers\.(\d+)/)?.[1].concat(path.match(/, pass \d+$/)?.[0] ?? "") ?? path;

/** Findings of one name and kind of part, a row each. */
function groupsOf(findings: readonly Finding[]): Finding[][] {
  const key = ({ path, name, kind, over }: Finding) =>
    [path.replace(/^layers\.\d+/, "").replace(/, pass \d+$/, ""), name, kind, over].join(" ");
  return [...Map.groupBy(findings, key).values()];
}

/** One way of being undecided: of units by themselves, of units or tokens on the texts. */
export interface Undecided {
  readonly layer: string;
  readonly column: string;
  readonly value: number;
  /** What it is where all is even. */
  readonly most: number;
}

export function undecided(findings: readonly Finding[]): Undecided[] {
  return kinds(findings, "shares", "entropy").flatMap((finding) => {
    const { kind, over, name, labels, all, most = NaN } = finding, layer = layerOf(finding);
    if (kind === "entropy") return [{ layer, column: name, value: all.mean[0], most }];
    const { mean, ofMean } = all.entropy!, even = Math.log(labels.length);
    // on the texts, the part itself tells of its units' entropies, token by token
    if (over === "units") {
      return name === "static" ? [{ layer, column: name, value: mean, most: even }] : [];
    }
    return [
      { layer, column: `${name}, of a token`, value: mean, most: even },
      { layer, column: `${name}, of the mean`, value: ofMean, most: even },
    ];
  });
}

/** Of each column the mean over layers. */
export function meanUndecided(
  all: readonly Undecided[],
): Map<string, { readonly value: number; readonly most: number }> {
  const mean = (own: readonly Undecided[], of: (one: Undecided) => number) =>
    own.reduce((sum, one) => sum + of(one), 0) / own.length;
  return new Map(
    [...Map.groupBy(all, ({ column }) => column)].map(([column, own]) => [
      column,
      { value: mean(own, ({ value }) => value), most: mean(own, ({ most }) => most) },
    ]),
  );
}

function entropies(findings: readonly Finding[]): Markup[] {
  const all = undecided(findings), groups = [...new Set(all.map(({ column }) => column))];
  if (all.length === 0) return [];
  const layers = [...Map.groupBy(all, ({ layer }) => layer)];
  return [barChart({
    title: "Entropy of routers",
    note: `Where all choices are even it is ${
      Math.max(...all.map(({ most }) => most)).toFixed(3)
    }.`,
    names: { label: "layer" },
    values: { label: "entropy", unit: "nats" },
    groups,
    rows: layers.map(([name, own]) => ({
      name,
      bars: groups.map((group) => own.find(({ column }) => column === group)),
    })),
    wide: true,
  })];
}

/** A row for each layer, and for each category where there are several. */
function rowsOf(group: readonly Finding[]): { name: string; measured: Measured }[] {
  return group.flatMap((finding) => {
    const all = Object.entries(finding.byCategory), layer = layerOf(finding);
    return all.length < 2
      ? [{ name: layer, measured: finding.all }]
      : all.map(([name, measured]) => ({ name: `${layer} ${name}`, measured }));
  });
}

/** A map of means: rows of layers and categories, columns of what the last axis is. */
function meansMap(
  group: readonly Finding[],
  { title, x, scale, note }: {
    readonly title: string;
    readonly x: string;
    readonly scale: Parameters<typeof heatMap>[0]["scale"];
    readonly note?: string;
  },
): Markup {
  const rows = rowsOf(group), columns = Math.max(...group.map(({ labels }) => labels.length));
  return heatMap({
    title,
    note,
    x: { label: x },
    y: { label: "layer" },
    rows: rows.length,
    columns,
    values: rows.flatMap(({ measured: { mean } }) =>
      Array.from({ length: columns }, (_, i) => mean[i] ?? NaN)
    ),
    rowNames: rows.map(({ name }) => name),
    columnNames: group.find(({ labels }) => labels.length === columns)!.labels,
    scale,
  });
}

function shares(findings: readonly Finding[]): Markup[] {
  return groupsOf(kinds(findings, "shares")).map((group) =>
    meansMap(group, {
      title: `Shares, ${group[0].name}`,
      note: `Means over ${group[0].over}.`,
      x: "choice",
      scale: { label: "share", least: 0, most: 1 },
    })
  );
}

function maps(findings: readonly Finding[]): Markup[] {
  return groupsOf(kinds(findings, "shares").filter(({ over }) => over === "units"))
    .flatMap((group) => {
      const [{ labels, name }] = group, choices = group.map(dominant);
      const columns = Math.max(...choices.map(({ length }) => length));
      const shared = {
        x: { label: "unit" },
        y: { label: "layer" },
        rows: group.length,
        columns,
        rowNames: group.map(layerOf),
      };
      const cells = (row: number, of: (unit: number) => number) =>
        Array.from({ length: columns }, (_, i) => i < choices[row].length ? of(i) : NaN);
      return [
        heatMap({
          ...shared,
          title: `What each unit takes most of, ${name}`,
          values: choices.flatMap((units, row) => cells(row, (i) => units[i])),
          scale: { label: "choice", kinds: labels },
        }),
        heatMap({
          ...shared,
          title: `How much of it, ${name}`,
          values: group.flatMap(({ all: { units } }, row) =>
            cells(row, (i) => units![i * labels.length + choices[row][i]])
          ),
          scale: { label: "share", least: 1 / labels.length, most: 1 },
        }),
      ];
    });
}

function scores(findings: readonly Finding[]): Markup[] {
  return groupsOf(kinds(findings, "scores")).map((group) => {
    const size = Math.max(
      ...rowsOf(group).flatMap(({ measured: { mean } }) => mean.map((x) => Math.abs(x))),
    );
    return meansMap(group, {
      title: "What the router's net says",
      x: "choice",
      scale: { label: "score", least: -size, most: size, colours: "two-sided" },
    });
  });
}

function gates(findings: readonly Finding[]): Markup[] {
  return groupsOf(kinds(findings, "gate", "decay")).map((group) => {
    const [{ kind, name, over }] = group, means = group.flatMap(({ all }) => [...all.mean]);
    const lives = [Math.min(...means), Math.max(...means)].map((x) => halfLife(x).toFixed(1));
    return meansMap(group, {
      title: kind === "decay" ? `What is left of the ${name} after a token` : `Gate: ${name}`,
      ...kind === "decay" && { note: `Half-lives from ${lives[0]} to ${lives[1]} tokens.` },
      x: over === "part" ? "channel" : "head",
      scale: { label: kind === "decay" ? "part left" : "part let through", least: 0, most: 1 },
    });
  });
}

function changes(findings: readonly Finding[]): Markup[] {
  const own = kinds(findings, "change");
  if (own.length === 0) return [];
  return [barChart({
    title: "How much each layer changes the stream",
    note: "The root mean square of what is added, over that of what was there; means over tokens.",
    names: { label: "layer" },
    values: { label: "change, as a part of the stream" },
    groups: ["change"],
    rows: own.map((finding) => ({
      name: layerOf(finding),
      bars: [{ value: finding.all.mean[0] }],
    })),
    wide: true,
  })];
}

function factors(findings: readonly Finding[]): Section[] {
  const own = kinds(findings, "factor");
  if (own.length === 0) return [];
  const rows = own.map(({ path, name, all: { mean, std, least, most } }) => [
    path,
    name,
    mean.reduce((sum, x) => sum + x, 0) / mean.length,
    std,
    least,
    most,
  ]);
  const content = table(["part", "factor", "mean", "std", "least", "most"], rows);
  return [{
    id: "factors",
    title: "Factors that were learned",
    content: markup`<div class="scroll">${content}</div>`,
  }];
}
