/**
 * Documents from text and jsonl files: the text unchanged, every fault named by file and line.
 *
 * A text file is one document, or several where a separator stands between them. A jsonl file has one
 * document a line. Only `\n` ends a line, a byte order mark and the `\r` of a CRLF are no part of a record.
 *
 * @module
 */
import { didYouMean, exitCodes, messageOf, UserError } from "../io/errors.ts";
import { byteOrderMarkLength, type BytesOrigin, decodeUtf8, splitLines } from "../io/lines.ts";

/** The file formats that are read. */
export const inputFormats = ["text", "jsonl"] as const;
/** A file format that is read. */
export type InputFormat = typeof inputFormats[number];

/** How files become documents. */
export interface ReadOptions {
  /** "auto" takes files called .jsonl or .ndjson as jsonl and all others as text. */
  readonly format: InputFormat | "auto";
  /** The field of a jsonl record that holds the text. */
  readonly field: string;
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
}

/** Reads files one after the other. */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions,
  { onSkip, onEmpty }: ReadEvents,
): AsyncGenerator<SourceDocument> {
  for (const path of paths) {
    const read = formatOf(path, options.format) === "jsonl" ? readJsonl : readText;
    for await (const attempt of read(path, options)) {
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
  return /\.(jsonl|ndjson)$/i.test(path) ? "jsonl" : "text";
}

/** A document whose reading may fail, so that the caller decides what a failure means. */
type Attempt = () => SourceDocument;

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

async function* readText(path: string, { separator }: ReadOptions): AsyncGenerator<Attempt> {
  const file = await describingFailure(path, () => Deno.readFile(path));
  const start = byteOrderMarkLength(file);
  const parts = separator === undefined
    ? [{ bytes: file.subarray(start), offset: start }]
    : splitBytes(file, start, new TextEncoder().encode(separator));
  let line = 1, counted = 0;
  for (const { bytes, offset } of parts) {
    if (bytes.length === 0 && offset === file.length) break; // behind the last separator
    for (; counted < offset; counted++) if (file[counted] === 0x0a) line++;
    const origin = { file: path, line, offset };
    yield () => ({
      text: decodeText(bytes, origin),
      where: `${path}:${origin.line}`,
      isWholeFile: separator === undefined,
    });
  }
}

/** The parts of a file between separators; UTF-8 lets bytes be searched as they are. */
function* splitBytes(file: Uint8Array, start: number, separator: Uint8Array) {
  const haystack = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const matches = (at: number) => separator.every((byte, i) => haystack.getUint8(at + i) === byte);
  let from = start;
  for (let at = file.indexOf(separator[0], from); at >= 0; at = file.indexOf(separator[0], at)) {
    if (at + separator.length > file.length) break;
    if (!matches(at)) {
      at++;
      continue;
    }
    yield { bytes: file.subarray(from, at), offset: from };
    from = at += separator.length;
  }
  yield { bytes: file.subarray(from), offset: from };
}

function decodeText(bytes: Uint8Array, origin: BytesOrigin): string {
  try {
    return decodeUtf8(bytes, origin);
  } catch (error) {
    if (error instanceof UserError || bytes.length < 2 ** 29) throw error;
    throw new UserError(`a document of ${bytes.length} bytes is too long to be one text`, {
      where: origin.file,
      hint: "give --document-separator, or split the file",
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
}

async function* readJsonl(path: string, { field }: ReadOptions): AsyncGenerator<Attempt> {
  const file = await describingFailure(path, () => Deno.open(path));
  for await (const { bytes, number, offset } of splitLines(file.readable)) {
    if (bytes.length === 0) continue;
    yield () => {
      const where = `${path}:${number}`;
      const line = decodeUtf8(bytes, { file: path, line: number, offset });
      return { text: textOf(line, field, where), where, isWholeFile: false };
    };
  }
}

function textOf(line: string, field: string, where: string): string {
  const fault = (message: string) =>
    new UserError(message, {
      where,
      hint: "mend the line, or leave such lines out with --on-error skip",
      exitCode: exitCodes.failed,
    });
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw fault(`not JSON: ${messageOf(error)}`);
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw fault("not a JSON object");
  }
  if (!Object.hasOwn(record, field)) {
    throw fault(`there is no field "${field}"${didYouMean(field, Object.keys(record))}`);
  }
  const text: unknown = Reflect.get(record, field);
  if (typeof text !== "string") throw fault(`the field "${field}" is not text`);
  if (!text.isWellFormed()) throw fault(`the field "${field}" holds half a surrogate pair`);
  return text;
}

/** Turns the system's refusal of a file into one clear message. */
async function describingFailure<T>(path: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file"
      : error instanceof Deno.errors.IsADirectory
      ? "this is a folder, a file is expected"
      : messageOf(error);
    throw new UserError(reason, { where: path, cause: error });
  }
}
