/**
 * What Python does with values, for templates that were written for it.
 *
 * @module
 */

/** What Python counts as white space. */
const space = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/** Python's `strip`, `lstrip` or `rstrip`. */
export function strip(
  side: "both" | "left" | "right",
  text: unknown,
  characters?: unknown,
): string {
  if (typeof text !== "string") throw new Error("only text can be stripped");
  if (characters != null && typeof characters !== "string") {
    throw new Error("the characters to strip are no text");
  }
  if (characters === "") return text;
  const set = characters == null ? space : Array.from(characters, RegExp.escape).join("");
  const left = side === "right" ? text : text.replace(new RegExp(`^[${set}]+`, "u"), "");
  return side === "left" ? left : trimEnd(left, new RegExp(`[${set}]`, "u"));
}

/** From behind, as a search for an end would look at each run of such characters. */
function trimEnd(text: string, pattern: RegExp): string {
  const characters = Array.from(text);
  let end = characters.length;
  while (end > 0 && pattern.test(characters[end - 1])) end--;
  return characters.slice(0, end).join("");
}

/** A value of the library's. */
export interface JinjaValue {
  readonly type: string;
  readonly value: unknown;
}

/** Whether Python's `==` holds. */
export function isEqual(left: JinjaValue, right: JinjaValue): boolean {
  const [a, b] = [left.value, right.value];
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => isEqual(item, b[i]));
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size &&
      [...a].every(([key, item]) => b.has(key) && isEqual(item, b.get(key)));
  }
  const isNumber = (value: unknown) => typeof value === "number" || typeof value === "boolean";
  if (isNumber(a) && isNumber(b)) return Number(a) === Number(b);
  return left.type === right.type && a === b;
}

/** Python's `range`, as a list. */
export function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() has a step of 0");
  return Array.from(
    { length: Math.max(0, Math.ceil((to - from) / step)) },
    (_, i) => from + i * step,
  );
}
