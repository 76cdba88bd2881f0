/**
 * Records of jsonl and parquet files with all their fields, as data sets have them.
 *
 * @module
 */
import { exitCodes, jsonFault, UserError } from "../io/errors.ts";
import { plainName, readInput } from "../io/input_file.ts";
import { decodeUtf8, splitLines } from "../io/lines.ts";

/** A record and the line or row where it stands. */
export interface PlacedRecord {
  readonly record: Readonly<Record<string, unknown>>;
  readonly where: string;
}

/** Whether a file's name says that records are read from it, compressed or not. */
export function isRecordsName(name: string): boolean {
  return /\.(jsonl|ndjson|parquet)$/i.test(plainName(name));
}

/** Reads a file of records; empty lines hold none. */
export async function* readRecords(path: string): AsyncGenerator<PlacedRecord> {
  if (/\.parquet$/i.test(plainName(path))) {
    const { readParquetRecords } = await import("./read_parquet.ts");
    let row = 0;
    for await (const record of readParquetRecords(path)) {
      yield { record, where: `${path}:row ${++row}` };
    }
    return;
  }
  for await (const { number, offset, bytes } of splitLines(readInput(path))) {
    if (bytes.length === 0) continue;
    const where = `${path}:${number}`, hint = "convert the file to UTF-8";
    const text = decodeUtf8(bytes, { file: path, line: number, offset, hint });
    yield { record: recordOf(text, where), where };
  }
}

function recordOf(text: string, where: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(jsonFault(error), { where, exitCode: exitCodes.failed, cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new UserError("not a JSON object", { where, exitCode: exitCodes.failed });
}
