/**
 * Tables and bars as text: nothing but characters, so that they are the same in a pipe and without colours.
 *
 * @module
 */
import { cutToWidth, displayWidth } from "./terminal.ts";

/** Numbers stand to the right, text to the left. */
export type Cell = string | number | undefined;

/** Lines of columns with two spaces between; the first line is the header. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  { indent = 2 }: { indent?: number } = {},
): string[] {
  const cells = rows.map((row) => header.map((_, i) => textOf(row[i])));
  const isNumber = header.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const widths = header.map((name, i) =>
    Math.max(displayWidth(name), ...cells.map((row) => displayWidth(row[i])))
  );
  const line = (row: readonly string[]) =>
    " ".repeat(indent) + row.map((text, i) => {
      const space = " ".repeat(widths[i] - displayWidth(text));
      return isNumber[i] ? space + text : text + space;
    }).join("  ").trimEnd();
  return [...header.some((name) => name !== "") ? [header] : [], ...cells].map(line);
}

function textOf(cell: Cell): string {
  if (typeof cell !== "number") return cell ?? "";
  if (!Number.isFinite(cell)) return String(cell);
  if (Number.isInteger(cell)) return cell.toLocaleString("en-US");
  const size = Math.abs(cell);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? cell.toExponential(2) : cell.toFixed(3);
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of `width` columns for the whole, drawn to an eighth of one. */
export function bar(part: number, width: number): string {
  const filled = Math.round(8 * width * Math.min(1, Math.max(0, part || 0)));
  return ("█".repeat(Math.floor(filled / 8)) + eighths[filled % 8]).padEnd(width);
}

const fillings = ["█", "▒", "░", "▞", "╱", "▄", "·", "+"];

/** What stands for share number `i` in a bar of shares. */
export const fillingOf = (i: number): string => fillings[i % fillings.length];

/** Shares side by side: `width` columns in all, each share's by its filling. */
export function stackedBar(shares: readonly number[], width: number): string {
  let sum = 0, done = 0;
  return shares.map((share, i) => {
    sum += share;
    const end = Math.round(width * Math.min(1, sum)), part = fillingOf(i).repeat(end - done);
    done = end;
    return part;
  }).join("").padEnd(width);
}

/** A text in one line of at most so many columns, line ends and what is not printed as escapes. */
export function oneLine(text: string, columns: number): string {
  return cutToWidth(escaped(text), columns);
}

/** In quotes, line ends and what is not printed as escapes. */
export const quoted = (text: string): string => `"${escaped(text)}"`;

/** As JSON writes it, without the quotes. */
function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
}
