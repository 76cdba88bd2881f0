/**
 * Texts with holes for a document's fields: `{{question}}`, `{{choices.text}}`, `{{choices[0]}}`,
 * `{{passage | strip}}`. Nothing else is understood, and nothing is left out silently.
 */
import { didYouMean, exitCodes, UserError } from "../../io/errors.ts";
import type { Doc } from "../types.ts";

type TextFunction = (text: string) => string;

/** What may stand behind a `|`, as Python's strings do it. */
export const textFunctions = {
  strip: (text) => text.trim(),
  lstrip: (text) => text.trimStart(),
  spaced: (text) => text.replaceAll("_", " "),
} as const satisfies Record<string, TextFunction>;

const holePattern = /\{\{([^{}]*)\}\}/g;
const expressionPattern = /^\s*([A-Za-z_]\w*(?:\.\w+|\[\d+\])*)\s*((?:\|\s*\w+\s*)*)$/;

interface Hole {
  readonly path: readonly string[];
  readonly functions: readonly TextFunction[];
}

/** What is wrong with a template; undefined where nothing is. */
export function templateFault(template: string): string | undefined {
  try {
    for (const [, expression] of template.matchAll(holePattern)) parseHole(expression);
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
  const rest = template.replaceAll(holePattern, "");
  return /\{\{|\{%|\{#/.test(rest) ? "a hole is {{field}}; there are no other marks" : undefined;
}

/** The template with a document's values. Values are texts or numbers. */
export function render(template: string, doc: Doc): string {
  return template.replaceAll(holePattern, (_, expression: string) => {
    const { path, functions } = parseHole(expression), value = valueAt(doc, path);
    if (!["string", "number", "bigint"].includes(typeof value)) {
      throw wrongField(path, "text", value);
    }
    return functions.reduce((text, change) => change(text), String(value));
  });
}

/** What the only hole of a template holds, unchanged: a list, for example. */
export function valueOf(template: string, doc: Doc): unknown {
  const [hole] = template.matchAll(holePattern);
  if (hole?.[0] !== template) return render(template, doc);
  const { path, functions } = parseHole(hole[1]);
  return functions.length > 0 ? render(template, doc) : valueAt(doc, path);
}

function parseHole(expression: string): Hole {
  const [, path, calls] = expressionPattern.exec(expression) ?? [];
  if (path === undefined) {
    throw new UserError(`{{${expression}}} is not a field, such as {{question}} or {{choices[0]}}`);
  }
  const names = calls.split("|").slice(1).map((name) => name.trim());
  return {
    path: path.replaceAll(/\[(\d+)\]/g, ".$1").split("."),
    functions: names.map((name) => functionNamed(name)),
  };
}

function functionNamed(name: string): TextFunction {
  if (Object.hasOwn(textFunctions, name)) return textFunctions[name as keyof typeof textFunctions];
  const known = Object.keys(textFunctions);
  throw new UserError(
    `there is no function "${name}"${didYouMean(name, known)}; there are ${known.join(", ")}`,
  );
}

function valueAt(doc: Doc, path: readonly string[]): unknown {
  let value: unknown = doc;
  for (const [depth, key] of path.entries()) {
    const isHolder = typeof value === "object" && value !== null;
    if (!isHolder || !Object.hasOwn(value as object, key)) {
      const keys = isHolder && !Array.isArray(value) ? Object.keys(value as object) : [];
      throw fieldError(path.slice(0, depth + 1), "is not there", didYouMean(key, keys));
    }
    value = Reflect.get(value as object, key);
  }
  return value;
}

function wrongField(path: readonly string[], wanted: string, value: unknown): UserError {
  const found = Array.isArray(value) ? "a list" : value === null ? "nothing" : typeof value;
  return fieldError(path, `holds ${found}, not ${wanted}`);
}

function fieldError(path: readonly string[], what: string, near = ""): UserError {
  return new UserError(`the field "${path.join(".")}" ${what}${near}`, {
    exitCode: exitCodes.failed,
  });
}
