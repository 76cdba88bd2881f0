/**
 * Documents from text, jsonl and parquet files: the text unchanged, every fault named by file and
 * line or row. Files are read in blocks, and a block's documents can be found in any thread.
 *
 * A text file is one document, or several where a separator stands between them. A jsonl file has one
 * document a line, a parquet file one a row. Only `\n` ends a line, a byte order mark and the `\r` of a CRLF are no part of a record.
 *
 * @module
 */
import { plainName } from "../io/input_file.ts";
import { byteOrderMarkLength, decodeUtf8 } from "../io/lines.ts";
import {
  type Block,
  type BytesBlock,
  errorOf,
  type LongDocuments,
  type PieceBlock,
  type RowsBlock,
  sizeOf,
} from "./blocks.ts";
import { indexOfBytes, newlinesIn } from "./byte_window.ts";
import { linesOf, readJsonl } from "./read_jsonl.ts";
import { readText } from "./read_text.ts";

/** The file formats that are read. */
export const inputFormats = ["text", "jsonl", "parquet"] as const;
/** A file format that is read. */
export type InputFormat = typeof inputFormats[number];

/** How files become documents. */
export interface ReadOptions {
  /** "auto" goes by a file's name: .jsonl or .ndjson, .parquet, all others text. */
  readonly format: InputFormat | "auto";
  /** The fields of a record that hold the text, joined by a blank line. */
  readonly fields: readonly string[];
  /** What stands between two documents of a text file. */
  readonly separator: string | undefined;
  /** What a document that cannot be read does: end the work, or be counted and left out. */
  readonly onError: "stop" | "skip";
}

/** One document of the input. */
export interface SourceDocument {
  readonly text: string;
  /** The file and the line that it begins in, or the row. */
  readonly where: string;
  /** A whole file: it may be divided where a part of it is to be held out. */
  readonly isWholeFile: boolean;
}

/** A document whose reading may fail, so that the caller decides what a failure means. */
export type Attempt = () => SourceDocument;

/** The library is only loaded for files that need it. */
async function* readParquetLater(...args: Parameters<typeof readText>): AsyncGenerator<Block> {
  const { readParquet } = await import("./read_parquet.ts");
  yield* readParquet(...args);
}

const readers = { text: readText, jsonl: readJsonl, parquet: readParquetLater };

/** Reads files one after the other; blocks come in batches, so that small files make no small work. */
export async function* readBatches(
  paths: readonly string[],
  options: ReadOptions,
  long: LongDocuments,
  onRead: (bytes: number) => void = () => {},
): AsyncGenerator<readonly Block[]> {
  let batch: Block[] = [], size = 0;
  for (const path of paths) {
    const read = readers[formatOf(path, options.format)];
    for await (const block of read(path, options, long, onRead)) {
      batch.push(block);
      size += sizeOf(block);
      if (size < long.sizes.block) continue;
      yield batch;
      [batch, size] = [[], 0];
    }
  }
  if (batch.length > 0) yield batch;
}

/** The documents of a block that holds whole ones. */
export function documentsOf(
  block: BytesBlock | RowsBlock,
  options: ReadOptions,
): Iterable<Attempt> {
  if (block.kind !== "rows") return { jsonl: linesOf, text: partsOf }[block.kind](block, options);
  return block.rows.map((row) => () => {
    if ("message" in row) throw errorOf(row);
    return { ...row, isWholeFile: false };
  });
}

/** The text of a piece of a document. */
export function textOfPiece({ path, bytes, line, offset, fault }: PieceBlock): string {
  if (fault !== undefined) throw errorOf(fault);
  return decodeUtf8(bytes, { file: path, line, offset });
}

/** The parts of a text between separators; behind the last one there must be text to make a part. */
function* partsOf({ path, bytes, ...place }: BytesBlock, { separator = "" }: ReadOptions) {
  const mark = new TextEncoder().encode(separator);
  let { line } = place;
  for (let from = 0, next; from < bytes.length; from = next) {
    const found = indexOfBytes(bytes, mark, from);
    const end = found < 0 ? bytes.length : found;
    next = found < 0 ? bytes.length : found + mark.length;
    const start = place.offset + from === 0 ? byteOrderMarkLength(bytes) : from;
    const origin = { file: path, line, offset: place.offset + start };
    if (start < next) {
      yield () => ({
        text: decodeUtf8(bytes.subarray(start, end), origin),
        where: `${path}:${origin.line}`,
        isWholeFile: separator === "",
      });
    }
    line += newlinesIn(bytes.subarray(from, next));
  }
}

/** The format of a file, by its name unless it is given. */
export function formatOf(path: string, format: ReadOptions["format"]): InputFormat {
  if (format !== "auto") return format;
  const name = plainName(path);
  if (/\.(jsonl|ndjson)$/i.test(name)) return "jsonl";
  return /\.parquet$/i.test(name) ? "parquet" : "text";
}
