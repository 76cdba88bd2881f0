/**
 * Jsonl files: one document a line.
 *
 * @module
 */
import { readInput } from "../io/input_file.ts";
import { decodeUtf8, lineBytes } from "../io/lines.ts";
import type { Block, BytesBlock, LongDocuments } from "./blocks.ts";
import type { Attempt, ReadOptions } from "./documents.ts";
import { readMarked } from "./read_text.ts";
import { recordOfLine, textOfRecord } from "./record.ts";

const newline = 0x0a;

/** Reads a jsonl file in blocks of whole lines. */
export function readJsonl(
  path: string,
  _options: ReadOptions,
  long: LongDocuments,
  onRead: (bytes: number) => void,
): AsyncGenerator<Block> {
  const mark = Uint8Array.of(newline);
  return readMarked({ kind: "jsonl", path, mark }, long, readInput(path, onRead));
}

/** The documents of a block of lines; empty lines hold none. */
export function* linesOf(
  { path, bytes, line, offset }: BytesBlock,
  { fields }: ReadOptions,
): Generator<Attempt> {
  let number = line;
  for (let from = 0, end; from < bytes.length; from = end + 1, number++) {
    const found = bytes.indexOf(newline, from);
    end = found < 0 ? bytes.length : found;
    const record = lineBytes(bytes.subarray(from, end), number === 1);
    if (record.length === 0) continue;
    const origin = {
      file: path,
      line: number,
      offset: offset + record.byteOffset - bytes.byteOffset,
    };
    yield () => {
      const where = `${path}:${origin.line}`;
      const text = textOfRecord(recordOfLine(decodeUtf8(record, origin), where), fields, where);
      return { text, where, isWholeFile: false };
    };
  }
}
