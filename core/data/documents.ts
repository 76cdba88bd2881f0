/**
 * Documents from text, jsonl and parquet files: the text unchanged, every fault named by file and
 * line or row.
 *
 * A text file is one document, or several where a separator stands between them. A jsonl file has one
 * document a line, a parquet file one a row. Only `\n` ends a line, a byte order mark and the `\r` of a CRLF are no part of a record.
 *
 * @module
 */
import { UserError } from "../io/errors.ts";
import { plainName } from "../io/input_file.ts";
import { readJsonl } from "./read_jsonl.ts";
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

/** Who is told of documents that are left out. */
export interface ReadEvents {
  /** One that cannot be used, where `skip` is wanted. */
  onSkip(fault: UserError): void;
  /** One of nothing but white space. */
  onEmpty(): void;
  /** So many more bytes were read from disk, compressed if the file is. */
  onRead?(bytes: number): void;
}

/** The library is only loaded for files that need it. */
async function* readParquetLater(...args: Parameters<typeof readText>): AsyncGenerator<Attempt> {
  const { readParquet } = await import("./read_parquet.ts");
  yield* readParquet(...args);
}

const readers = { text: readText, jsonl: readJsonl, parquet: readParquetLater };

/** Reads files one after the other. */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions,
  { onSkip, onEmpty, onRead = () => {} }: ReadEvents,
): AsyncGenerator<SourceDocument> {
  for (const path of paths) {
    const read = readers[formatOf(path, options.format)];
    for await (const attempt of read(path, options, onRead)) {
      const document = attemptOrSkip(attempt, options.onError, onSkip);
      if (document === undefined) continue;
      if (/\S/.test(document.text)) yield document;
      else onEmpty();
    }
  }
}

/** The format of a file, by its name unless it is given. */
export function formatOf(path: string, format: ReadOptions["format"]): InputFormat {
  if (format !== "auto") return format;
  const name = plainName(path);
  if (/\.(jsonl|ndjson)$/i.test(name)) return "jsonl";
  return /\.parquet$/i.test(name) ? "parquet" : "text";
}

/** A document whose reading may fail, so that the caller decides what a failure means. */
export type Attempt = () => SourceDocument;

function attemptOrSkip(
  attempt: Attempt,
  onError: ReadOptions["onError"],
  onSkip: (fault: UserError) => void,
): SourceDocument | undefined {
  try {
    return attempt();
  } catch (error) {
    if (onError === "stop" || !(error instanceof UserError)) throw error;
    onSkip(error);
    return undefined;
  }
}
