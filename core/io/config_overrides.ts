/**
 * `--set a.b=c`: a value of the config given on the command line, typed by the schema.
 *
 * @module
 */
import { parse, YAMLParseError } from "yaml";
import { nearestName, UserError } from "./errors.ts";
import type { Path, SchemaWalk } from "./schema_walk.ts";

/** One parsed `--set`. */
export interface Override {
  /** As it was typed: `train.steps=5`. */
  readonly argument: string;
  readonly path: readonly string[];
  readonly text: string;
}

/** Splits `a.b=c` at its first equals sign. */
export function parseOverride(argument: string): Override {
  const [, name, text] = argument.match(/^([^=]+)=(.*)$/s) ?? [];
  if (name === undefined || name.split(".").includes("")) {
    throw new UserError("an override has the form path.to.key=value", {
      where: `--set ${argument}`,
      hint: "for example: --set steps=500",
    });
  }
  return { argument, path: name.split("."), text };
}

/**
 * The config with one value set. Where the schema wants text the value is taken as it is typed;
 * elsewhere it is read as YAML, so numbers, lists and maps can be given.
 */
export function applyOverride(data: unknown, override: Override, walk: SchemaWalk): unknown {
  override.path.forEach((key, i) => {
    const known = walk.keysAt(override.path.slice(0, i), data);
    if (known !== undefined && !known.includes(key)) throw unknownKey(override, i, known);
  });
  const value = walk.isText(override.path, data) ? override.text : parseValue(override);
  return setAt(data, override.path, value, override);
}

/** Where the command line says what a key on top seems to. */
const options: ReadonlyMap<string, string> = new Map([
  ["out", "--out FOLDER"],
  ["resume", "--resume RUN"],
  ["from", "--from RUN"],
  ["device", "--device NAME"],
  ["threads", "--threads N"],
  ["memory", "--memory SIZE"],
]);

/** The option that a key which no config has stands for. */
export function optionFor(path: Path): string | undefined {
  return path.length === 1 ? options.get(String(path[0])) : undefined;
}

function unknownKey({ argument, path }: Override, at: number, known: readonly string[]): UserError {
  const around = path.slice(0, at);
  const near = nearestName(path[at], known), option = optionFor(path.slice(0, at + 1));
  const meant = option !== undefined
    ? `it is an option of the command: ${option}`
    : near === undefined
    ? `known here: ${known.join(", ")}`
    : `did you mean ${[...around, near].join(".")}?`;
  return new UserError(`unknown key ${path.slice(0, at + 1).join(".")}`, {
    where: `--set ${argument}`,
    hint: meant,
  });
}

function parseValue({ argument, text }: Override): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new UserError(`the value is not YAML: ${error.message.split("\n")[0]}`, {
      where: `--set ${argument}`,
      cause: error,
    });
  }
}

function setAt(data: unknown, path: readonly string[], value: unknown, from: Override): unknown {
  if (path.length === 0) return value;
  const [key, ...rest] = path;
  if (Array.isArray(data)) {
    if (!/^\d+$/.test(key) || Number(key) >= data.length) {
      throw new UserError(`${key} is not one of the list's ${data.length} places`, {
        where: `--set ${from.argument}`,
        hint: "places count from 0",
      });
    }
    return data.map((item, i) => i === Number(key) ? setAt(item, rest, value, from) : item);
  }
  const map: Record<string, unknown> = typeof data === "object" && data !== null ? { ...data } : {};
  return { ...map, [key]: setAt(map[key], rest, value, from) };
}
