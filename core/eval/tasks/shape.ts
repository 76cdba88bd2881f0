/**
 * The functions that a task's file may name to shape its documents: pure, from a row to the row with
 * more fields. A file can use these alone; nothing in it is executed.
 */
import { lastBoxed } from "../answers/boxed.ts";
import { normalizeMinerva } from "../answers/minerva.ts";
import { exitCodes, UserError } from "../../io/errors.ts";
import type { Doc } from "../types.ts";

export const shapes = {
  /** `query` and `choices` of HellaSwag: sentences of subtitles and of WikiHow without their marks. */
  hellaswag(doc: Doc) {
    const begun = `${text(doc, "ctx_a")} ${capitalized(text(doc, "ctx_b"))}`;
    return {
      query: withoutMarks(`${text(doc, "activity_label")}: ${begun}`),
      choices: texts(doc, "endings").map(withoutMarks),
    };
  },
  /** `before` and `after` the blank, `_`, of a sentence. */
  blank(doc: Doc) {
    const sentence = text(doc, "sentence"), at = sentence.indexOf("_");
    if (at < 0) throw fault("sentence", "has no blank: _");
    return { before: sentence.slice(0, at), after: sentence.slice(at + 1).trim() };
  },
  /** `context` and `last_word` of a text, parted at its last space. */
  last_word(doc: Doc) {
    const whole = text(doc, "text"), at = whole.lastIndexOf(" ");
    return { context: whole.slice(0, Math.max(0, at)), last_word: whole.slice(at + 1) };
  },
  /** `boxed`: what the last `\boxed{}` of the solution holds. */
  boxed(doc: Doc) {
    return { boxed: boxedIn(doc) };
  },
  /** `boxed`, and `normalized` as Minerva's answers are. */
  minerva(doc: Doc) {
    const boxed = boxedIn(doc);
    return { boxed, normalized: normalizeMinerva(boxed) };
  },
} as const satisfies Record<string, (doc: Doc) => Doc>;

export type ShapeName = keyof typeof shapes;

export const shapeNames = Object.keys(shapes) as [ShapeName, ...ShapeName[]];

/** As Python's `str.capitalize`: the first letter large, all others small. */
function capitalized(words: string): string {
  const [first = ""] = words, [head = "", ...tail] = first.toUpperCase();
  return head + (tail.join("") + words.slice(first.length)).toLowerCase();
}

function withoutMarks(words: string): string {
  return words.trim()
    .replaceAll(" [title]", ". ")
    .replaceAll(/\[[^\n]*?\]/g, "")
    .replaceAll("  ", " ");
}

function boxedIn(doc: Doc): string {
  const boxed = lastBoxed(text(doc, "solution"));
  if (boxed === undefined) throw fault("solution", "has no \\boxed{} answer");
  return boxed;
}

function text(doc: Doc, field: string): string {
  const value = doc[field];
  if (typeof value !== "string") {
    throw fault(field, value === undefined ? "is not there" : "is not text");
  }
  return value;
}

function texts(doc: Doc, field: string): readonly string[] {
  const value = doc[field];
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  throw fault(field, value === undefined ? "is not there" : "is not a list of texts");
}

function fault(field: string, what: string): UserError {
  return new UserError(`the field "${field}" ${what}`, { exitCode: exitCodes.failed });
}
