/** Exact match, after what does not matter is deleted from both sides. */

export interface ExactMatchRules {
  /** What is deleted, one after the other. */
  readonly ignored: readonly RegExp[];
  readonly ignoreCase: boolean;
}

/** A text as `exactMatch` compares it. */
export function cleaned(text: string, { ignored, ignoreCase }: ExactMatchRules): string {
  const rest = ignored.reduce((rest, pattern) => rest.replace(pattern, ""), text);
  return ignoreCase ? rest.toLowerCase() : rest;
}

export function exactMatch(found: string, gold: string, rules: ExactMatchRules): boolean {
  return cleaned(found, rules) === cleaned(gold, rules);
}
