/**
 * Answers of Minerva's prompts (Lewkowycz et al. 2022, appendix D.1): found in an output, and
 * normalised. The order of the steps matters; deletion is plain removal of text wherever it stands,
 * so that `\left` loses its "ft".
 */

/** Where no final answer is stated. */
export const invalidAnswer = "[invalidanswer]";

const ending = "I hope it is correct.";

/** The answer that an output states in the words of Minerva's shots. */
export function minervaAnswer(output: string): string {
  // the dot behind the answer stands for any character in the published pattern, and does here
  const pattern = /Final Answer: The final answer is([^\n]*?)[^\n] I hope it is correct[^\n]/;
  return pattern.exec(output + ending)?.[1].trim() ?? invalidAnswer;
}

const replacements: readonly (readonly [string, string])[] = [
  ["an ", ""],
  ["a ", ""],
  [".$", "$"],
  ["\\$", ""],
  ["\\ ", ""],
  [" ", ""],
  ["mbox", "text"],
  [",\\text{and}", ","],
  ["\\text{and}", ","],
  ["\\text{m}", "\\text{}"],
];

const units = "square ways integers dollars mph inches ft hours km units \\ldots sue points feet " +
  "minutes digits cents degrees cm gm pounds meters meals edges students childrentickets multiples";

const deletions: readonly string[] = [
  ...units.split(" "),
  ..."\\text{s} \\text{.}".split(" "),
  "\\text{\ns}",
  ..."\\text{}^2 \\text{}^3".split(" "),
  "\\text{\n}",
  ...'\\text{} \\mathrm{th} ^\\circ ^{\\circ} \\; ,\\! {,} " \\dots'.split(" "),
];

/** What stands between dollars is the answer; wrappers go; `\frac12` and `\sqrt3` get their braces. */
const patterns: readonly (readonly [RegExp, string])[] = [
  [/[^\n]*?\$([^\n]*?)\$[^\n]*/g, "$$$1$$"],
  [/\\text\{([^\n]*?)\}/g, "$1"],
  [/\\textbf\{([^\n]*?)\}/g, "$1"],
  [/\\overline\{([^\n]*?)\}/g, "$1"],
  [/\\boxed\{([^\n]*)\}/g, "$1"],
  [/frac([^{])([^\n])/g, "frac{$1}{$2}"],
  [/sqrt([^{])/g, "sqrt{$1}"],
];

/** Steps in the order that they are taken in. */
export const minervaSteps = { replacements, deletions } as const;

export function normalizeMinerva(answer: string): string {
  let text = answer.split("=").at(-1)!;
  for (const [from, to] of replacements) text = text.replaceAll(from, () => to);
  for (const deleted of deletions) text = text.replaceAll(deleted, "");
  for (const [pattern, to] of patterns) text = text.replaceAll(pattern, to);
  text = text.replaceAll("$", "");
  const bare = text.replaceAll(",", "");
  return /^\p{Nd}+$/u.test(bare) ? bare : text;
}
