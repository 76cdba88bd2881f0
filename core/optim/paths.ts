/** Patterns of parameters' paths: `*` stands for any text, and what names a part of the model all that is in it. */

import { z } from "zod";

export const pathPattern = z.string().min(1);
export type PathPattern = z.output<typeof pathPattern>;

/** Whether one of the patterns fits. */
export function takesPath(patterns: readonly PathPattern[], path: string): boolean {
  return patterns.some((pattern) =>
    new RegExp(`^${pattern.split("*").map(RegExp.escape).join(".*")}(\\..*)?$`).test(path)
  );
}
