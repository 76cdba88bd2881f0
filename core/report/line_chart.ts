/** Line charts, drawn by uPlot where the page is opened. */

import {
  type Axis,
  axisText,
  type Colour,
  figure,
  legend,
  type LegendEntry,
  shortNumber,
  swatch,
} from "./figure.ts";
import { embedJson, type Markup, markup } from "./html.ts";
import { type Points, summarize, type Summary, thin } from "./series.ts";
import { table } from "./table.ts";

export interface Line extends Points {
  readonly name: string;
  /** Left out: by the line's place; along a scale where there are more than eight. */
  readonly colour?: Colour;
  /** `faint` stands behind others. */
  readonly style?: "line" | "faint" | "dashed";
}

export interface LineChart {
  readonly title: string;
  readonly note?: string | undefined;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
  /** Places that are named: where a run went on, say. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[];
  /** Whether y begins as a scale of powers; a button changes it. */
  readonly log?: boolean;
  readonly wide?: boolean;
}

/** Points of one chart at most, however many lines it has: bounds the page's size. */
const mostPoints = 12_000;
/** More columns than that no screen gives to a chart. */
const mostColumns = 800;

/**
 * Lines over a shared x axis, with values at the pointer, zoom by dragging, and a switch to a scale of powers. Series of any
 * length: what is drawn is thinned to the least and greatest of each column.
 */
export function lineChart(
  { title, note, x, y, lines, marks = [], log = false, wide }: LineChart,
): Markup {
  const columns = Math.max(20, Math.min(mostColumns, Math.floor(mostPoints / 4 / lines.length)));
  const styled = lines.map((line, i) => ({
    ...line,
    colour: line.colour ?? colourAt(i, lines.length),
    style: line.style ?? "line",
    summary: summarize(line),
  }));
  const drawn = styled.map(({ name, style, ...line }) => {
    const points = thin(line, columns);
    return { name, style, x: points.x, y: points.y.map(rounded) };
  });
  const described = describe(title, { x, y }, styled);
  return figure({
    kind: "lines",
    title,
    note,
    x,
    y,
    ...(wide && { wide }),
    tools: markup`<button type="button" class="log" aria-pressed="${
      String(log)
    }">log scale</button>`,
    legend: legend(markup`${styled.map(entry)}`),
    picture: markup`<div class="plot" role="img" aria-label="${described}"></div>${
      embedJson("data", { x, y, lines: drawn, marks })
    }`,
    numbers: numbersOf(styled, x),
  });
}

type Styled = LegendEntry & { readonly summary: Summary | undefined };

/** A line of the legend, which hides and shows it. */
function entry({ name, colour, style, summary }: Styled): Markup {
  const last = shortNumber(summary?.last), sign = swatch({ colour, style });
  return markup`<button type="button" aria-pressed="true">${sign}${name} <output>${last}</output></button>`;
}

function colourAt(i: number, count: number): Colour {
  return count <= 8 ? i : { part: i / (count - 1) };
}

/** Six digits are more than a screen shows; JSON has no NaN. */
function rounded(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}

type Summarized = { readonly name: string; readonly summary: Summary | undefined };

function describe(
  title: string,
  { x, y }: { x: Axis; y: Axis },
  lines: readonly Summarized[],
): string {
  const ends = lines.slice(0, 8).flatMap(({ name, summary }) =>
    summary ? [`${name} from ${shortNumber(summary.first)} to ${shortNumber(summary.last)}`] : []
  );
  const more = lines.length > 8 ? `, and ${lines.length - 8} more` : "";
  return `${title}: ${axisText(y)} over ${axisText(x)}; ${ends.join(", ") || "no points"}${more}`;
}

function numbersOf(lines: readonly Summarized[], x: Axis): Markup {
  return table(
    ["", "points", "first", "last", "least", `at ${x.label}`, "most", `at ${x.label}`],
    lines.map(({ name, summary: s }) =>
      s
        ? [name, s.count, s.first, s.last, s.least.y, s.least.x, s.most.y, s.most.x]
        : [name, 0, ...Array(6).fill(undefined)]
    ),
  );
}
