/**
 * Names of special tokens that someone typed, hidden while a template is rendered: what it writes
 * itself is a special token, what stands in a message is text. All else of a message is as it was,
 * so a template may look at it and cut it.
 *
 * @module
 */
import { sectionSplitter } from "../sections.ts";
import type { Piece } from "./template.ts";

/** A way to hide names, for the messages of one conversation. */
export interface Disguise {
  /** The value with all names in all of its texts hidden. */
  hide<T>(value: T): T;
  /** Characters that occur nowhere else, to find a place in a rendered text again. */
  readonly marks: { readonly start: string; readonly end: string };
  /** A rendered text cut before and after special tokens, hidden names still hidden. */
  cut(rendered: string): Piece[];
  /** The text with the hidden names back in their places. */
  show(text: string): string;
}

/** A disguise for the names of special tokens; `given` is all that goes into the rendered text. */
export function disguise(names: Iterable<string>, given: unknown): Disguise {
  const known = [...names].filter((name) => name !== "");
  const split = cutter(known);
  const [before, behind, start, end] = unusedCharacters(given, 4);
  const hidden = new RegExp(`${before}(\\d+)${behind}`, "g");
  const hide = (text: string) =>
    split(text).map(({ text, isControl }) =>
      isControl ? `${before}${known.indexOf(text)}${behind}` : text
    ).join("");
  return {
    hide: (value) => mapTexts(value, hide),
    marks: { start, end },
    cut: split,
    show: (text) => text.replaceAll(hidden, (_, number) => known[Number(number)]),
  };
}

/** Cuts a text before and after names of special tokens. */
export function cutter(names: readonly string[]): (text: string) => Piece[] {
  const split = sectionSplitter(names);
  return (text) => split(text).map((text, i) => ({ text, isControl: i % 2 === 1 }));
}

/** Of private use, which nobody can say the meaning of. */
const privateUse = { first: 0x100000, last: 0x10fffd };

function unusedCharacters(given: unknown, count: number): string[] {
  let all = "";
  mapTexts(given, (text) => {
    all += text;
    return text;
  });
  const found: string[] = [];
  for (let point = privateUse.first; found.length < count && point <= privateUse.last; point++) {
    const character = String.fromCodePoint(point);
    if (!all.includes(character)) found.push(character);
  }
  return found;
}

/** A value with every text in it changed; names of fields stay as they are. */
function mapTexts<T>(value: T, change: (text: string) => string): T;
function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)]),
  );
}
