/**
 * Questions to a zod schema, answered from its JSON schema: which keys may stand at a path, and whether
 * text is all that may. JSON schema is plain data, so no library internals are read.
 *
 * @module
 */
import { z } from "zod";

/** Keys and indices from the root of a config. */
export type Path = readonly PropertyKey[];

/** The part of a JSON schema that is read here. */
interface JsonSchema {
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
  type?: string | string[];
  const?: unknown;
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema | boolean;
  prefixItems?: JsonSchema[];
  examples?: unknown[];
}

/** A schema ready to be asked. */
export interface SchemaWalk {
  /** The keys an object at `path` may have; undefined where any key may stand. */
  keysAt(path: Path, data: unknown): string[] | undefined;
  /** Whether text, and nothing but text, may stand at `path`. */
  isText(path: Path, data: unknown): boolean;
  /** What the schema gives as an example of the value at `path`. */
  exampleAt(path: Path, data: unknown): unknown;
}

/** Prepares a schema; `data` in the questions picks the member of a union by its `kind`. */
export function schemaWalk(schema: z.ZodType): SchemaWalk {
  const root = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as JsonSchema;
  const at = (path: Path, data: unknown) => alternativesAt(root, path, data);
  return {
    keysAt(path, data) {
      const alternatives = at(path, data).filter(isObject);
      if (alternatives.length === 0 || alternatives.some((s) => s.additionalProperties !== false)) {
        return undefined;
      }
      return [...new Set(alternatives.flatMap((s) => Object.keys(s.properties ?? {})))];
    },
    isText(path, data) {
      const types = at(path, data).flatMap((s) => s.type ?? "unknown");
      return types.length > 0 && types.every((type) => type === "string");
    },
    exampleAt: (path, data) => at(path, data).flatMap(({ examples = [] }) => examples)[0],
  };
}

function alternativesAt(root: JsonSchema, path: Path, data: unknown): JsonSchema[] {
  let alternatives = expand(root, root).filter((s) => mayDescribe(s, data));
  for (const key of path) {
    data = child(data, key);
    alternatives = alternatives
      .flatMap((s) => step(s, key))
      .flatMap((s) => expand(root, s))
      .filter((s) => mayDescribe(s, data));
  }
  return alternatives;
}

/** The plain alternatives that unions, intersections and references stand for. */
function expand(root: JsonSchema, schema: JsonSchema): JsonSchema[] {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace("#/$defs/", "");
    return expand(root, name === "#" ? root : root.$defs?.[name] ?? {});
  }
  const members = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  return members === undefined ? [schema] : members.flatMap((member) => expand(root, member));
}

/** False for a member of a union whose `kind` is another than the data's. */
function mayDescribe(schema: JsonSchema, data: unknown): boolean {
  return Object.entries(schema.properties ?? {}).every(([key, { const: wanted }]) => {
    const given = child(data, key);
    return wanted === undefined || given === undefined || given === wanted;
  });
}

function step(schema: JsonSchema, key: PropertyKey): JsonSchema[] {
  const named = schema.properties?.[String(key)];
  if (named !== undefined) return [named];
  const item = schema.prefixItems?.[Number(key)] ?? schema.items;
  return [item, schema.additionalProperties].filter((s) => typeof s === "object");
}

function child(data: unknown, key: PropertyKey): unknown {
  return typeof data === "object" && data !== null ? Reflect.get(data, key) : undefined;
}

function isObject(schema: JsonSchema): boolean {
  return schema.properties !== undefined || schema.type === "object";
}
