/**
 * Text on a terminal of some width: what fits into a line, and what must be folded. Pipes get every
 * line as it is.
 *
 * @module
 */
import process from "node:process";

/** A stream of the process, as far as its terminal is concerned. */
interface Stream {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** How many columns the terminal has; COLUMNS overrides it. Undefined where there is no terminal. */
export function columnsOf(stream: Stream): number | undefined {
  if (!stream.isTTY) return undefined;
  const asked = Number(Deno.env.get("COLUMNS") || NaN);
  return Number.isSafeInteger(asked) && asked > 0 ? asked : stream.columns || 80;
}

/** Prints a result to stdout, its lines folded if that is a terminal. */
export function printFolded(text: string): void {
  const columns = columnsOf(process.stdout);
  console.log(columns === undefined ? text : fold(text, columns));
}

/** Says something on stderr, its lines folded if that is a terminal, then styled, as styles take no columns. */
export function noteFolded(text: string, style = (text: string) => text): void {
  const columns = columnsOf(process.stderr);
  console.error(style(columns === undefined ? text : fold(text, columns)));
}

/** The columns that a text takes; East Asian characters and emoji take two. */
export function displayWidth(text: string): number {
  return cellsOf(text).reduce((sum, { width }) => sum + width, 0);
}

/**
 * One line of at most so many columns, `…` standing for what is cut off. Whatever would move the cursor is shown
 * as a space.
 */
export function cutToWidth(text: string, columns: number): string {
  const line = text.replaceAll(/\p{Cc}/gu, " ");
  if (displayWidth(line) <= columns) return line;
  let kept = "", width = 1;
  for (const cell of cellsOf(line)) {
    width += cell.width;
    if (width > columns) break;
    kept += cell.text;
  }
  return columns < 1 ? "" : `${kept}…`;
}

/**
 * Breaks lines that are too long between words; what follows stands under the line's last column of text, that is
 * behind its last gap of two spaces. A word that is longer than a line is left whole: it may be a path to copy.
 */
export function fold(text: string, columns: number): string {
  return text.split("\n").map((line) => foldLine(line, columns)).join("\n");
}

/**
 * As `fold`, for help: sentences that go on in the next line are folded as one, indented lines are commands and stay
 * whole, as commander's own lines do, which it has folded.
 */
export function foldProse(text: string, columns: number): string {
  const lines = text.split("\n");
  if (lines.every((line) => line.startsWith(" ") || displayWidth(line) <= columns)) return text;
  return text.replaceAll(/(?<=[^.:\s])\n(?=[^\s])/g, " ").split("\n")
    .map((line) => line.startsWith(" ") ? line : foldLine(line, columns)).join("\n");
}

function foldLine(line: string, columns: number): string {
  if (displayWidth(line) <= columns) return line;
  const start = displayWidth(line.match(/^.*\S {2,}(?=\S)|^ */)?.[0] ?? "");
  const indent = " ".repeat(Math.min(start, Math.floor(columns / 2)));
  const lines: string[] = [];
  let current = "";
  for (const [word] of line.matchAll(/ *[^ ]+/g)) {
    if (current.trim() !== "" && displayWidth(current + word) > columns) {
      lines.push(current);
      current = indent + word.trimStart();
    } else current += word;
  }
  return [...lines, current].join("\n");
}

interface Cell {
  readonly text: string;
  readonly width: number;
}

const segmenter = new Intl.Segmenter();
const wide =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|\ufe0f/u;
const alone = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;

/** What the cursor moves over at once. */
function cellsOf(text: string): Cell[] {
  return [...segmenter.segment(text)].map(({ segment }) => ({
    text: segment,
    width: alone.test(segment) ? 0 : wide.test(segment) ? 2 : 1,
  }));
}
