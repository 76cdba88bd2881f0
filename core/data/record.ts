/**
 * The text of a record: the fields that are asked for.
 *
 * @module
 */
import { didYouMean, exitCodes, UserError } from "../io/errors.ts";

/** What stands between two fields of a record. */
const fieldSeparator = "\n\n";

/** A record that cannot be used. */
export function recordFault(message: string, where: string, mend = "mend the record"): UserError {
  return new UserError(message, {
    where,
    hint: `${mend}, or leave such records out with --on-error skip`,
    exitCode: exitCodes.failed,
  });
}

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
