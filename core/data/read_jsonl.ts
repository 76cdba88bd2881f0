/**
 * Documents of a jsonl file: one a line.
 *
 * @module
 */
import { jsonFault } from "../io/errors.ts";
import { readInput } from "../io/input_file.ts";
import { decodeUtf8, splitLines } from "../io/lines.ts";
import type { Attempt, ReadOptions } from "./documents.ts";
import { recordFault, textOfRecord } from "./record.ts";

/** Reads a jsonl file line by line. */
export async function* readJsonl(
  path: string,
  { fields }: ReadOptions,
  onRead: (bytes: number) => void,
): AsyncGenerator<Attempt> {
  for await (const { bytes, number, offset } of splitLines(readInput(path, onRead))) {
    if (bytes.length === 0) continue;
    yield () => {
      const where = `${path}:${number}`;
      const line = decodeUtf8(bytes, { file: path, line: number, offset });
      return { text: textOfLine(line, fields, where), where, isWholeFile: false };
    };
  }
}

function textOfLine(line: string, fields: readonly string[], where: string): string {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw recordFault(jsonFault(error), where);
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw recordFault("not a JSON object", where);
  }
  return textOfRecord(record, fields, where);
}
