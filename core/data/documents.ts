/**
 * Documents from text and jsonl files, compressed or not: the text unchanged, every fault named by
 * file and line.
 *
 * A text file is one document, or several where a separator stands between them. A jsonl file has one
 * document a line. Only `\n` ends a line, a byte order mark and the `\r` of a CRLF are no part of a record.
 *
 * @module
 */
import { UserError } from "../io/errors.ts";
import { plainName } from "../io/input_file.ts";
import { readJsonl } from "./read_jsonl.ts";
import { readText } from "./read_text.ts";

/** The file formats that are read. */
export const inputFormats = ["text", "jsonl"] as const;
/** A file format that is read. */
export type InputFormat = typeof inputFormats[number];

/** How files become documents. */
export interface ReadOptions {
  /** "auto" takes files called .jsonl or .ndjson as jsonl and all others as text. */
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
  /** The file and the line that it begins in. */
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

const readers = { text: readText, jsonl: readJsonl };

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
  return /\.(jsonl|ndjson)$/i.test(plainName(path)) ? "jsonl" : "text";
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
