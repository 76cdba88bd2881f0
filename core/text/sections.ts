/**
 * Texts cut at names that stand in them.
 *
 * @module
 */

/**
 * Cuts a text before and after these names; the longest counts where several begin. Texts and names
 * take turns, beginning and ending with a text, which may be empty.
 */
export function sectionSplitter(names: readonly string[]): (text: string) => string[] {
  if (names.length === 0) return (text) => [text];
  const longestFirst = names.toSorted((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map((name) => RegExp.escape(name)).join("|")})`);
  return (text) => text.split(pattern);
}
