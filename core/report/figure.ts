/** What all charts share: a frame with title, axes, legend and numbers for those who do not see the picture. */

import { type Markup, markup } from "./html.ts";

/** What an axis counts, and in what. */
export interface Axis {
  readonly label: string;
  /** Left out where numbers have none. */
  readonly unit?: string | undefined;
}

/** A colour of a legend: one of the page's series colours, that of its text, or a place on the way from the first line to the last. */
export type Colour = number | "text" | { readonly part: number };

export interface LegendEntry {
  readonly name: string;
  readonly colour: Colour;
  readonly style?: "line" | "faint" | "dashed";
}

export interface Frame {
  readonly kind: "lines" | "bars" | "heat";
  readonly title: string;
  readonly note?: string | undefined;
  readonly x: Axis;
  readonly y: Axis;
  readonly legend: Markup;
  /** Beside the title. */
  readonly tools?: Markup;
  readonly picture: Markup;
  /** Below it, beside the x axis. */
  readonly below?: Markup;
  /** The same as text. */
  readonly numbers: Markup;
  /** Takes the page's whole width. */
  readonly wide?: boolean;
}

/** "loss (nats a token)" */
export function axisText({ label, unit }: Axis): string {
  return unit === undefined ? label : `${label} (${unit})`;
}

/** A chart in its frame. */
export function figure(frame: Frame): Markup {
  const { kind, title, note, x, y, legend, tools, picture, below, numbers, wide } = frame;
  return markup`<figure class="chart${
    wide ? " wide" : ""
  }" data-chart="${kind}" aria-label="${title}">
<figcaption><h3>${title}</h3>${tools}${note && markup`<p class="note">${note}</p>`}</figcaption>
${legend}
<div class="above"><div class="axis y">${axisText(y)}</div><span class="at"></span></div>
${picture}
<div class="below">${below}<div class="axis x">${axisText(x)}</div></div>
<details class="numbers"><summary>Numbers</summary><div class="scroll">${numbers}</div></details>
</figure>
`;
}

/** A legend of what is given; `kind` is for the page's style. */
export function legend(entries: Markup, kind = ""): Markup {
  return markup`<div class="legend ${kind}" role="group" aria-label="Legend">${entries}</div>`;
}

/** The value of a CSS custom property that gives a swatch its colour. */
export function colourOf(colour: Colour): string {
  if (colour === "text") return "var(--text)";
  if (typeof colour === "number") return `var(--series-${colour % 8})`;
  return `hsl(${Math.round(265 - 235 * colour.part)} 62% 52%)`;
}

/** A swatch of a legend; the page's script reads line colours from it, so that both always agree. */
export function swatch({ colour, style = "line" }: Omit<LegendEntry, "name">): Markup {
  return markup`<i class="swatch ${style}" style="color: ${colourOf(colour)}"></i>`;
}

/** A number of four digits, as short as that can be. */
export function shortNumber(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-3)) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(4)));
}

/** Ends and steps of an axis that holds a range: round numbers, some `count` of them. */
export function niceTicks(least: number, most: number, count = 5): number[] {
  const size = Math.max(Math.abs(least), Math.abs(most));
  // what rounding makes of numbers this large is no range
  const hasRange = most - least > 1e-9 * size && most - least > 1e-300;
  const rough = (hasRange ? most - least : size > 1e-300 ? size : 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999)!;
  const from = Math.floor(least / step + 1e-9);
  const to = hasRange ? Math.ceil(most / step - 1e-9) : from + count;
  return Array.from(
    { length: to - from + 1 },
    (_, i) => Number(((from + i) * step).toPrecision(12)),
  );
}
