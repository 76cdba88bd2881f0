/**
 * Strict configs: YAML checked by a zod schema, with every fault shown where it stands in the file.
 *
 * Nothing is converted: a number where text is expected is an error, a key that the schema lacks is an
 * error with the nearest name, and a key that stands twice is one too.
 *
 * @module
 */
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  parseDocument,
  stringify,
} from "yaml";
import type { z } from "zod";
import { applyOverride, optionFor, type Override, parseOverride } from "./config_overrides.ts";
import { didYouMean, exitCodes, messageOf, nearestName, UserError } from "./errors.ts";
import { decodeUtf8 } from "./lines.ts";
import { type Path, type SchemaWalk, schemaWalk } from "./schema_walk.ts";

/** A config's text, the name to call it by, and the `a.b=c` of every `--set`. */
export interface ConfigSource {
  readonly text: string;
  readonly file: string;
  readonly overrides?: readonly string[];
}

/** Reads and checks a config file; `overrides` are the arguments of `--set`, in order. */
export async function loadConfig<S extends z.ZodType>(
  schema: S,
  file: string,
  overrides: readonly string[] = [],
): Promise<z.output<S>> {
  return parseConfig(schema, { text: await readConfigText(file), file, overrides });
}

/** Checks a config's text. Throws one `UserError` that lists every fault. */
export function parseConfig<S extends z.ZodType>(schema: S, source: ConfigSource): z.output<S> {
  const lines = new LineCounter();
  const document = parseDocument(source.text, {
    lineCounter: lines,
    prettyErrors: false,
    merge: true,
  });
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file: source.file, line, column: col, text: source.text.split("\n")[line - 1] ?? "" };
  };
  // a warning is a tag that has no meaning; what follows the first of YAML's errors is mostly its echo
  const [broken] = [...document.errors, ...document.warnings];
  if (broken) throw faultsError([{ place: place(broken.pos[0]), message: broken.message }]);
  const walk = schemaWalk(schema);
  const overrides = (source.overrides ?? []).map(parseOverride);
  const data = overrides.reduce((data, o) => applyOverride(data, o, walk), document.toJS() ?? {});
  const result = schema.safeParse(data);
  if (result.success) return result.data;
  const locate = (path: Path, key?: string) =>
    overriding(overrides, path) ?? place(offsetOf(document, path, key));
  const issues = result.error.issues.flatMap((issue) => flatten(issue, data));
  throw faultsError(issues.flatMap((issue) => faultsOf(issue, data, walk, locate)));
}

/** Where a fault stands: in the file, or in an override on the command line. */
type Place = { file: string; line: number; column: number; text: string } | Override;

interface Fault {
  place: Place;
  message: string;
}

type Issue = z.core.$ZodIssue;

/** A plain union reports its members' faults apart: those of the member that fits best are shown. */
function flatten(issue: Issue, data: unknown, prefix: Path = []): Issue[] {
  const path = [...prefix, ...issue.path];
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return [{ ...issue, path }];
  const members = issue.errors.map((member) =>
    member.flatMap((inner) => flatten(inner, data, path))
  );
  const scalar = scalarFault(members, path, valueAt(data, path));
  if (scalar !== undefined) return [{ code: "custom", path, message: scalar }];
  const ranks = new Map(members.map((issues) => [issues, misfit(issues, path, data)]));
  const [best] = members.sort((a, b) => {
    const [left, right] = [ranks.get(a)!, ranks.get(b)!];
    const place = left.findIndex((x, i) => x !== right[i]);
    return place < 0 ? 0 : left[place] - right[place];
  });
  return best;
}

/** What may stand where plain values and words are the choice, as in `batch_size: 8` or `auto`. */
function scalarFault(
  members: readonly Issue[][],
  path: Path,
  value: unknown,
): string | undefined {
  const issues = members.flatMap((member) => member.length === 1 ? member : []);
  const isPlain = issues.length === members.length &&
    issues.every((issue) =>
      issue.path.length === path.length &&
      (issue.code === "invalid_value" ||
        issue.code === "invalid_type" && ["number", "int", "boolean"].includes(issue.expected))
    );
  const words = issues.flatMap((issue) => issue.code === "invalid_value" ? issue.values : []);
  if (!isPlain || words.length === 0 || words.length === issues.length) return undefined;
  const kinds = issues.flatMap((issue) =>
    issue.code === "invalid_type" ? wordsFor(issue.expected) : []
  );
  const wanted = [...kinds, ...words].join(" or ");
  if (value === undefined) return `missing (${wanted})`;
  const near = typeof value === "string" ? didYouMean(value, words.map(String)) : "";
  const isQuoted = typeof value === "string" && value.trim() !== "" && !isNaN(Number(value));
  return `expected ${wanted}, found ${shown(value)}${near}` +
    (isQuoted ? "; leave out the quotes" : "");
}

/** How badly a union's member fits, the weightiest first: not its type or kind at all, faults near the top, many of them. */
function misfit(issues: readonly Issue[], path: Path, data: unknown): number[] {
  const isThere = valueAt(data, path) !== undefined; // what is missing is of no type
  const isOther = issues.some((issue) =>
    isThere && issue.code === "invalid_type" && issue.path.length === path.length
  );
  const lacksKind = issues.some((issue) =>
    issue.code === "invalid_union" && issue.path.length === path.length + 1 &&
    valueAt(data, issue.path) === undefined
  );
  const depth = Math.max(...issues.map((issue) => issue.path.length));
  const faults = issues.map((issue) => issue.code === "unrecognized_keys" ? issue.keys.length : 1);
  return [Number(isOther), Number(lacksKind), -depth, faults.reduce((a, b) => a + b)];
}

function valueAt(data: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => Object(at)[key], data);
}

function faultsOf(
  issue: Issue,
  data: unknown,
  walk: SchemaWalk,
  locate: (path: Path, key?: string) => Place,
): Fault[] {
  const { path } = issue;
  if (issue.code === "unrecognized_keys") {
    const known = walk.keysAt(path, data) ?? [];
    return issue.keys.map((key) => ({
      place: locate(path, key),
      message: `unknown key ${dotted([...path, key])}${suggestion([...path, key], known)}`,
    }));
  }
  const value = valueAt(data, path);
  const help = issue.code === "invalid_type" ? helpAt(path, data, walk) : "";
  return [{ place: locate(path), message: `${dotted(path)}: ${explain(issue, value)}${help}` }];
}

function explain(issue: Issue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      if (value === undefined) return `missing (${wordsFor(issue.expected)})`;
      if (issue.expected === "string" && typeof value !== "object") {
        return `expected text, found ${JSON.stringify(value)}; put it in quotes if text is meant`;
      }
      return `expected ${wordsFor(issue.expected)}, found ${shown(value)}`;
    case "too_small":
    case "too_big":
      return `expected ${limitOf(issue)}, found ${shown(value)}`;
    case "invalid_value":
      return choose(issue.values, value);
    case "invalid_union":
      return "options" in issue ? choose(issue.options ?? [], value) : issue.message;
    default:
      return issue.message.replace(/^Invalid input: /, "");
  }
}

function choose(choices: Iterable<unknown>, value: unknown): string {
  const names = [...choices].map(String);
  if (value === undefined) return `missing; one of: ${names.join(", ")}`;
  const near = typeof value === "string" ? nearestName(value, names) : undefined;
  const found = `found ${JSON.stringify(value)}, expected one of: ${names.join(", ")}`;
  return near === undefined ? found : `${found} (did you mean "${near}"?)`;
}

const typeWords: Readonly<Record<string, string>> = {
  number: "a number",
  int: "a whole number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "a map of keys",
  record: "a map of keys",
};

function wordsFor(type: string): string {
  return typeWords[type] ?? type;
}

type LimitIssue = Extract<Issue, { code: "too_small" | "too_big" }>;

/** "a number above 0", "text of at least 1". */
function limitOf(issue: LimitIssue): string {
  const [limit, words] = issue.code === "too_small"
    ? [issue.minimum, issue.inclusive === false ? "above" : "of at least"]
    : [issue.maximum, issue.inclusive === false ? "below" : "of at most"];
  const unit = issue.origin === "string"
    ? " characters"
    : issue.origin === "array"
    ? " places"
    : "";
  return `${wordsFor(issue.origin)} ${words} ${limit}${unit}`;
}

/** What was found, not at length. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a map";
  const text = typeof value === "number" ? String(value) : JSON.stringify(value) ?? String(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** An example, in YAML, of what may stand at a path; else its keys, if it has any. */
function helpAt(path: Path, data: unknown, walk: SchemaWalk): string {
  const example = walk.exampleAt(path, data), keys = walk.keysAt(path, data) ?? [];
  if (example === undefined) return keys.length === 0 ? "" : `; known here: ${keys.join(", ")}`;
  return `; for example ${stringify(example, { collectionStyle: "flow", lineWidth: 0 }).trimEnd()}`;
}

function suggestion(path: Path, known: readonly string[]): string {
  const near = nearestName(String(path.at(-1)), known), option = optionFor(path);
  if (option !== undefined) return `; it is an option of the command: ${option}`;
  if (near !== undefined) return ` (did you mean "${near}"?)`;
  return known.length === 0 ? "" : `; known here: ${known.join(", ")}`;
}

/** `model.blocks.0.mixer`; the root is called "the config". */
export function dotted(path: Path): string {
  return path.length === 0 ? "the config" : path.map(String).join(".");
}

/** The last override that set the value at `path`, something around it, or a part of it. */
function overriding(overrides: readonly Override[], path: Path): Override | undefined {
  const agrees = (o: Override) =>
    o.path.every((key, i) => i >= path.length || key === String(path[i]));
  return path.length === 0 ? undefined : overrides.findLast(agrees);
}

/** Where to point: at the key if one is named, else at the value, else at what is around it. */
function offsetOf(document: Document, path: Path, key?: string): number {
  const node = document.getIn(path, true);
  if (key !== undefined && isMap(node)) {
    const pair = node.items.find((p) => isScalar(p.key) && String(p.key.value) === key);
    if (isNode(pair?.key) && pair.key.range) return pair.key.range[0];
  }
  if (isNode(node) && node.range) return node.range[0];
  return path.length === 0 ? 0 : offsetOf(document, path.slice(0, -1));
}

/** One error of all faults; the first fault's place is its `where`. */
function faultsError(faults: readonly Fault[]): UserError {
  const [first, ...rest] = faults;
  const others = rest.map(({ place, message }) => `${whereOf(place)}: ${message}${caret(place)}`);
  return new UserError([first.message + caret(first.place), ...others].join("\n"), {
    where: whereOf(first.place),
  });
}

function whereOf(place: Place): string {
  return "argument" in place
    ? `--set ${place.argument}`
    : `${place.file}:${place.line}:${place.column}`;
}

const longestLine = 120;

/** The line of the file with a caret under the column. */
function caret(place: Place): string {
  if ("argument" in place) return "";
  const text = place.text.trimEnd().replaceAll(/\p{Cc}/gu, " "); // a tab is wider than the caret's space
  if (text === "") return "";
  const margin = `${place.line} | `;
  const shown = text.length > longestLine ? `${text.slice(0, longestLine)}…` : text;
  if (place.column > longestLine) return `\n  ${margin}${shown}`;
  const indent = " ".repeat(margin.length + place.column - 1);
  return `\n  ${margin}${shown}\n  ${indent}^`;
}

/** The text of a config's file. */
export async function readConfigText(file: string): Promise<string> {
  try {
    const origin = { file, line: 1, offset: 0, hint: "convert it to UTF-8" };
    return decodeUtf8(await Deno.readFile(file), origin);
  } catch (error) {
    const { where = file, hint } = error instanceof UserError ? error : {};
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file"
      : error instanceof Deno.errors.IsADirectory
      ? "this is a folder, a config file is expected"
      : messageOf(error);
    throw new UserError(reason, {
      where,
      exitCode: exitCodes.usage,
      cause: error,
      ...(hint !== undefined && { hint }),
    });
  }
}
