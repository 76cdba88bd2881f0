/** What configs do not share. */

/** A field in which some differ, with the value that each has, as YAML writes small values; undefined where it has none. */
export interface Difference {
  readonly path: string;
  readonly values: readonly (string | undefined)[];
}

/** Fields whose values are not the same in all, in the order in which they come. */
export function differences(configs: readonly unknown[]): Difference[] {
  const flat = configs.map((config) => new Map(fieldsOf(config)));
  const paths = new Set(flat.flatMap((fields) => [...fields.keys()]));
  return [...paths]
    .map((path) => ({ path, values: flat.map((fields) => fields.get(path)) }))
    .filter(({ values }) => values.some((value) => value !== values[0]));
}

/** Lists of numbers and words are values; tables and lists of tables have fields. */
function fieldsOf(value: unknown, path = ""): [string, string][] {
  const isBranch = typeof value === "object" && value !== null &&
    Object.values(value).some((inner) => !Array.isArray(value) || typeof inner === "object");
  if (!isBranch) return [[path, JSON.stringify(value) ?? ""]];
  return Object.entries(value).flatMap(([name, inner]) =>
    fieldsOf(inner, path === "" ? name : `${path}.${name}`)
  );
}
