/** The part of an output that is taken for its answer. */

/** Which of several matches is the answer. */
export type Take = "first" | "last";

/** What stands for an answer where none was found; no gold answer equals it. */
export const invalid = "[invalid]";

/**
 * The first or last match of a pattern, stripped: the first group that holds anything, or the whole
 * match of a pattern without groups.
 */
export function extract(output: string, pattern: RegExp, take: Take): string {
  const match = [...output.matchAll(pattern)].at(take === "first" ? 0 : -1);
  if (!match) return invalid;
  const groups = match.slice(1);
  const found = groups.length === 0 ? match[0] : groups.find((group) => group);
  return found?.trim() ?? invalid;
}
