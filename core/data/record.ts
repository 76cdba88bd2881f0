/**
 * The text of a record: the fields that are asked for.
 *
 * @module
 */
import { didYouMean, exitCodes, jsonFault, UserError } from "../io/errors.ts";

/** What stands between two fields of a record. */
const fieldSeparator = "\n\n";

/** A record that cannot be used. */
export function recordFault(message: string, where: string, help = mend): UserError {
  return new UserError(message, { where, hint: help, exitCode: exitCodes.failed });
}

/** The fault of a record where there is an option to leave such records out; `option` says how it is called. */
export function orLeaveOut(fault: UserError, option: string): UserError {
  const { message, where, hint, exitCode, cause } = fault;
  const leave = `leave such records out with ${option}`;
  return new UserError(message, {
    ...(where !== undefined && { where }),
    hint: hint === undefined ? leave : `${hint}, or ${leave}`,
    exitCode,
    cause,
  });
}

/** The record of a line. */
export function recordOfLine(line: string, where: string): object {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw recordFault(jsonFault(error), where, line.trimStart().startsWith("[") ? ofList : mend);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw recordFault("not a JSON object", where, Array.isArray(value) ? ofList : mend);
}

const mend = "mend the record";
/** What a file that is one JSON list needs. */
const ofList = "write a record a line: jq -c '.[]' data.json > data.jsonl makes them of a list";

/** The fields' text, a blank line between two; an empty field adds none. */
export function textOfRecord(record: object, fields: readonly string[], where: string): string {
  return fields.map((field) => textOfField(record, field, where))
    .filter((text) => text !== "" || fields.length === 1)
    .join(fieldSeparator);
}

function textOfField(record: object, field: string, where: string): string {
  if (!Object.hasOwn(record, field)) {
    const names = Object.keys(record), shown = names.slice(0, 12).join(", ");
    const mend = names.length === 0
      ? "the record is empty: mend it"
      : `name one with --field: ${shown}${names.length > 12 ? ", …" : ""}`;
    throw recordFault(`there is no field "${field}"${didYouMean(field, names)}`, where, mend);
  }
  const text: unknown = Reflect.get(record, field);
  if (typeof text !== "string") throw recordFault(`the field "${field}" is not text`, where);
  if (!text.isWellFormed()) {
    throw recordFault(`the field "${field}" holds half a surrogate pair`, where);
  }
  return text;
}
