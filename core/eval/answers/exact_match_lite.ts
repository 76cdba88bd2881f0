/**
 * Whether two normalised answers are the same: as text, as numbers, or element by element. It stands in
 * for a computer algebra system and calls fewer pairs equal: formulas with unknowns are compared as text.
 */
import { latexValue } from "./latex_value.ts";

export function exactMatchLite(a: string, b: string): boolean {
  if (a === b) return true;
  const left = elementsOf(a), right = elementsOf(b);
  if (!left || !right) return isSameElement(a, b);
  return left.open === right.open && left.close === right.close &&
    left.elements.length === right.elements.length &&
    left.elements.every((element, i) => isSameElement(element, right.elements[i]));
}

function isSameElement(a: string, b: string): boolean {
  if (a === b) return true;
  const left = latexValue(a), right = latexValue(b);
  return left !== undefined && right !== undefined && isSameValue(left, right);
}

/** To 1e-9, and beyond a million to what rounding in double precision leaves. */
function isSameValue(a: number, b: number): boolean {
  return Math.abs(a - b) <= Math.max(1e-9, 1e-15 * Math.abs(a));
}

interface Elements {
  readonly open: string;
  readonly close: string;
  readonly elements: readonly string[];
}

/** The parts between the commas of a tuple, an interval, or a bare list; undefined of what has one part. */
function elementsOf(text: string): Elements | undefined {
  // normalising makes `\le(` of `\left(`
  const plain = text.replace(/^\\le(ft)?(?=[([])/, "").replace(/\\right(?=[)\]]$)/, "");
  const [, open, inner, close] = /^([([])(.*)([)\]])$/s.exec(plain) ?? ["", "", plain, ""];
  const elements = splitAtCommas(inner) ?? [];
  return elements.length > 1
    ? { open, close, elements: elements.map((element) => element.trim()) }
    : undefined;
}

/** At commas outside all brackets; undefined where brackets do not meet, as in `(1,2),(3,4)` without its ends. */
function splitAtCommas(text: string): string[] | undefined {
  const parts: string[] = [];
  let depth = 0, from = 0;
  for (let at = 0; at < text.length; at++) {
    if ("([{".includes(text[at])) depth++;
    if (")]}".includes(text[at]) && --depth < 0) return undefined;
    if (text[at] !== "," || depth > 0) continue;
    parts.push(text.slice(from, at));
    from = at + 1;
  }
  return depth === 0 ? [...parts, text.slice(from)] : undefined;
}
