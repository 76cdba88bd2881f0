/** Finding answers in generated texts, and comparing them. */

import { dollarAnswer } from "./hendrycks.ts";
import { minervaAnswer, normalizeMinerva } from "./minerva.ts";

export { lastBoxed } from "./boxed.ts";
export { cleaned, exactMatch, type ExactMatchRules } from "./exact_match.ts";
export { exactMatchLite } from "./exact_match_lite.ts";
export { extract, invalid, type Take } from "./extract.ts";
export { isEquivalent } from "./hendrycks.ts";
export { invalidAnswer, minervaSteps } from "./minerva.ts";
export { dollarAnswer, minervaAnswer, normalizeMinerva };

/** Ways to find an answer that a task's file may name. */
export const answerFunctions = {
  /** Behind "The final answer is", normalised. */
  minerva: (output: string) => normalizeMinerva(minervaAnswer(output)),
  /** Between the first and the last dollar. */
  dollars: dollarAnswer,
} as const;

export type AnswerName = keyof typeof answerFunctions;

export const answerNames = Object.keys(answerFunctions) as [AnswerName, ...AnswerName[]];
