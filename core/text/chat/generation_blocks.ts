/**
 * `{% generation %}` blocks, with which a template says itself what a model is to write.
 *
 * @module
 */
import type { Span } from "./answers.ts";
import { chatFault } from "./message.ts";

/** Whether a source has such blocks. */
export function hasGenerationBlocks(source: string): boolean {
  return /\{%[-+]?\s*generation\s*[-+]?%\}/.test(source);
}

/** The variables that hold the marks of a block's start and end. */
export const markNames = { start: "generation_start_", end: "generation_end_" } as const;

/**
 * The source with a mark written where a block starts and where it ends. White space around the
 * tags goes as around all others: before a tag on its line, and the line feed behind it.
 */
export function withBlockMarks(source: string): string {
  const tag = /(^[ \t]*)?\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}(\r?\n)?/gm;
  return source.replaceAll(tag, (_, indent = "", left, end, right, newline = "") => {
    const name = end ? markNames.end : markNames.start;
    const open = left === "-" ? "{{-" : "{{", close = right === "-" ? "-}}" : "}}";
    return `${left === "+" ? indent : ""}${open} ${name} ${close}${right === "+" ? newline : ""}`;
  });
}

/**
 * The text without marks, and the blocks in it, one for each answer; an error where they do not fit
 * but must.
 */
export function readBlocks(
  marked: string,
  { start, end }: { readonly start: string; readonly end: string },
  answers: readonly number[],
  required: readonly number[],
): { readonly whole: string; readonly spans: readonly Span[] } {
  const spans: Span[] = [];
  let whole = "", opened: number | undefined, isNested = false;
  for (const part of marked.split(new RegExp(`(${start}|${end})`))) {
    if (part === start) {
      isNested ||= opened !== undefined;
      opened = whole.length;
    } else if (part === end) {
      if (opened === undefined) isNested = true;
      else spans.push({ start: opened, end: whole.length, answer: answers[spans.length] });
      opened = undefined;
    } else whole += part;
  }
  if (!isNested && opened === undefined && spans.length === answers.length) return { whole, spans };
  if (required.length === 0) return { whole, spans: [] };
  throw chatFault(
    `the chat template writes ${spans.length} {% generation %} blocks for ${answers.length} answers: one each is needed`,
    "mend the template, or take the tags out: then the answers are found by the prompts before them",
  );
}
