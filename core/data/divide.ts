/**
 * What is held out for validation. A whole file is cut, its last part held out, as nanoGPT does; of
 * other documents one in each run of 1/fraction is drawn by the seed, so few are enough to hold some
 * out, and a regular order of the input cannot fall in step with the choice.
 *
 * @module
 */
import { purposes, uniformBelow } from "./philox.ts";

/** Whether the document of this number is held out. */
export function isHeldOut(number: number, fraction: number, seed: number): boolean {
  if (fraction <= 0) return false;
  const group = Math.floor(number * fraction);
  const first = Math.ceil(group / fraction);
  const size = Math.ceil((group + 1) / fraction) - first;
  return number - first === uniformBelow(seed, purposes.validation, group, size);
}

/** How many UTF-16 units of so many come before the held-out part. */
export function keptLength(length: number, fraction: number): number {
  return Math.floor(length * (1 - fraction) + 1e-9); // 1 - 0.9 is a little under 0.1
}

/** The two parts of a text cut at a place, or one before it where that is inside a character. */
export function cutText(text: string, place: number): [string, string] {
  const isInside = place > 0 && /[\uDC00-\uDFFF]/.test(text[place] ?? "");
  const cut = isInside ? place - 1 : place;
  return [text.slice(0, cut), text.slice(cut)];
}
