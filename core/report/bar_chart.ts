/** Bars that lie, with names that are readable at any width. */

import {
  type Axis,
  axisText,
  colourOf,
  figure,
  legend,
  niceTicks,
  shortNumber,
  swatch,
} from "./figure.ts";
import { type Markup, markup } from "./html.ts";
import { table } from "./table.ts";

export interface Bar {
  readonly value: number;
  /** Half the length of its error bar. */
  readonly error?: number | undefined;
}

export interface BarChart {
  readonly title: string;
  readonly note?: string | undefined;
  /** What the names are: "task". */
  readonly names: Axis;
  /** What the bars' lengths are. */
  readonly values: Axis;
  /** Whose bars stand in each row, in order; the legend. */
  readonly groups: readonly string[];
  /** A name and a bar for each group; undefined where it has none. */
  readonly rows: readonly { readonly name: string; readonly bars: readonly (Bar | undefined)[] }[];
  /** What error bars are: "± 1 standard error". */
  readonly errors?: string;
  readonly wide?: boolean;
}

/** Groups of bars from zero, to either side, with error bars. */
export function barChart(chart: BarChart): Markup {
  const { title, note, names, values, groups, rows, errors, wide } = chart;
  const all = rows.flatMap(({ bars }) => bars).filter((bar) => bar && Number.isFinite(bar.value));
  const ends = all.flatMap((bar) => [-1, 1].map((side) => bar!.value + side * (bar!.error ?? 0)));
  const ticks = niceTicks(Math.min(0, ...ends), Math.max(0, ...ends)), [least] = ticks;
  const span = ticks.at(-1)! - least;
  const place = (value: number) => `${(100 * (value - least) / span).toFixed(2)}%`;
  const length = (value: number) => `${(100 * Math.abs(value) / span).toFixed(2)}%`;
  const drawn = (bar: Bar | undefined, group: number): Markup => {
    if (!bar || !Number.isFinite(bar.value)) return markup`<div class="bar"></div>`;
    const { value, error } = bar, colour = `background: ${colourOf(group)}`;
    const fill = `left: ${place(Math.min(0, value))}; width: ${length(value)}; ${colour}`;
    const whisker = error !== undefined && Number.isFinite(error) &&
      markup`<span class="error" style="left: ${place(value - error)}; width: ${
        length(2 * error)
      }"></span>`;
    return markup`<div class="bar" title="${groups[group]}: ${
      textOf(bar)
    }"><span class="fill" style="${fill}"></span>${whisker}</div>`;
  };
  const lines = rows.map(({ name, bars }) =>
    markup`<div class="name">${name}</div><div class="group">${bars.map(drawn)}</div>\n`
  );
  const marks = ticks.map((tick) =>
    markup`<span style="left: ${place(tick)}">${shortNumber(tick)}</span>`
  );
  const described = `${title}: ${axisText(values)} by ${names.label}; the numbers stand below`;
  return figure({
    kind: "bars",
    title,
    note,
    x: errors === undefined ? values : { ...values, label: `${values.label}, ${errors}` },
    y: names,
    ...(wide && { wide }),
    legend: legend(
      markup`${groups.map((name, colour) => markup`<span>${swatch({ colour })}${name}</span>`)}`,
    ),
    picture: markup`<div class="bars" role="img" aria-label="${described}">
${lines}<div class="name"></div><div class="ticks">${marks}</div></div>`,
    numbers: table(
      [names.label, ...groups],
      rows.map(({ name, bars }) => [name, ...bars.map((bar) => bar && textOf(bar))]),
    ),
  });
}

function textOf({ value, error }: Bar): string {
  return error === undefined ? shortNumber(value) : `${shortNumber(value)} ± ${shortNumber(error)}`;
}
