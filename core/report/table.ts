/** Tables of text and numbers. */

import { shortNumber } from "./figure.ts";
import { type Markup, markup } from "./html.ts";

export type Cell = string | number | undefined | Markup;

/** The first column names the rows. Numbers stand to the right, in four digits; nothing is a dash. */
export function table(
  columns: readonly string[],
  rows: readonly (readonly Cell[])[],
  caption?: string,
): Markup {
  const cell = (value: Cell) =>
    value === undefined || typeof value === "number"
      ? markup`<td class="number">${shortNumber(value)}</td>`
      : markup`<td>${value}</td>`;
  const heads = columns.map((name) => markup`<th scope="col">${name}</th>`);
  const lines = rows.map(([name, ...cells]) =>
    markup`<tr><th scope="row">${name}</th>${cells.map(cell)}</tr>\n`
  );
  const title = caption !== undefined && markup`<caption>${caption}</caption>`;
  return markup`<table>${title}<thead><tr>${heads}</tr></thead><tbody>${lines}</tbody></table>`;
}
