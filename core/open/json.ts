/** JSON files whose fields are looked at one by one. */

import { jsonFault, UserError } from "../io/errors.ts";

export async function readJson(path: string): Promise<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(jsonFault(error), { where: path, cause: error });
  }
  if (isRecord(value)) return value;
  throw new UserError("a JSON object is expected", { where: path });
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
