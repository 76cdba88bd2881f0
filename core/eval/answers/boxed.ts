/** The answer that a solution of the MATH data set boxes. */

/** What the last `\boxed{…}` (or `\fbox{…}`) holds; `\boxed ` with a space holds all up to the next `$`. */
export function lastBoxed(text: string): string | undefined {
  const spaced = text.split("\\boxed ");
  if (spaced.length > 1) return spaced.at(-1)!.split("$")[0];
  const command = ["\\boxed", "\\fbox"].find((name) => text.includes(name));
  if (command === undefined) return undefined;
  const start = text.indexOf("{", text.lastIndexOf(command));
  for (let at = start, depth = 0; start >= 0 && at < text.length; at++) {
    if (text[at] === "{") depth++;
    if (text[at] === "}" && --depth === 0) return text.slice(start + 1, at);
  }
  return undefined; // braces that do not close
}
