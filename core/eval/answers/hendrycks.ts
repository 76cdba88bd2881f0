/**
 * Equality of answers by their text alone, as the MATH data set's authors compare them (Hendrycks et
 * al. 2021): both are cleaned up in one order of steps, and must be the same then.
 */

/** What stands between the first and the last dollar of an output; all of it where there are fewer than two. */
export function dollarAnswer(output: string): string {
  const first = output.indexOf("$"), last = output.lastIndexOf("$");
  return first === last ? output : output.slice(first + 1, last);
}

export function isEquivalent(a: string, b: string): boolean {
  try {
    return cleanUp(a) === cleanUp(b);
  } catch (error) {
    if (!(error instanceof Unclean)) throw error;
    return a === b; // what cannot be cleaned up is compared as it stands
  }
}

/** A form that the steps do not reach: `\sqrt` with nothing behind, two units. */
class Unclean extends Error {}

const removals = ["\n", "\\!"];
const wrappers = ["\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"];

function cleanUp(answer: string): string {
  const without = (text: string, parts: readonly string[]) =>
    parts.reduce((rest, part) => rest.replaceAll(part, ""), text);
  let text = without(answer, removals).replaceAll("\\\\", "\\");
  text = text.replaceAll("tfrac", "frac").replaceAll("dfrac", "frac");
  text = without(withoutUnit(without(text, wrappers)), ["\\%"]);
  text = text.replaceAll(" .", " 0.").replaceAll("{.", "{0.");
  if (text === "") return text;
  if (text.startsWith(".")) text = `0${text}`;
  const sides = text.split("=");
  if (sides.length === 2 && sides[0].length <= 2) text = sides[1];
  text = braceFractions(braceRoots(text).replaceAll(" ", ""));
  if (text === "0.5") text = "\\frac{1}{2}";
  return slashToFraction(text);
}

/** A unit in upright letters stands behind the answer. */
function withoutUnit(text: string): string {
  const parts = text.split("\\text{ ");
  if (parts.length > 2) throw new Unclean("two units");
  return parts[0];
}

/** `\sqrt3` is `\sqrt{3}`. */
function braceRoots(text: string): string {
  const [head, ...rest] = text.split("\\sqrt");
  return rest.reduce((done, part) => {
    if (part === "") throw new Unclean("a root of nothing");
    return `${done}\\sqrt${part[0] === "{" ? part : `{${part[0]}}${part.slice(1)}`}`;
  }, head);
}

/** `\frac12` and `\frac1{2}` are `\frac{1}{2}`; a `\frac` with one character behind leaves all as it was. */
function braceFractions(text: string): string {
  const [head, ...rest] = text.split("\\frac");
  if (rest.includes("")) throw new Unclean("a fraction of nothing");
  if (rest.some((part) => part[0] !== "{" && part.length < 2)) return text;
  const braced = rest.map((part) => {
    if (part[0] === "{") return part;
    const [over, under] = part, tail = part.slice(2);
    return under === "{" ? `{${over}}{${tail}` : `{${over}}{${under}}${tail}`;
  });
  return [head, ...braced].join("\\frac");
}

/** `3/4` of two whole numbers is `\frac{3}{4}`. */
function slashToFraction(text: string): string {
  const [, over, under] = /^(0|-?[1-9]\d*)\/(0|-?[1-9]\d*)$/.exec(text) ?? [];
  return over === undefined ? text : `\\frac{${over}}{${under}}`;
}
