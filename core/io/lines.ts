/**
 * Lines of a byte stream, and UTF-8 that is checked.
 *
 * Only `\n` ends a line: U+2028, U+0085, vertical tab, form feed and a lone carriage return are text. A
 * byte order mark at the start of the stream and the `\r` of a CRLF do not belong to any line.
 *
 * @module
 */
import { exitCodes, UserError } from "./errors.ts";

const newline = 0x0a;
const carriageReturn = 0x0d;

/** One line, its ending removed. */
export interface Line {
  /** Counted from 1. */
  readonly number: number;
  /** Where its first byte stands in the stream. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Splits a byte stream into lines; a final line without an ending counts, an empty one after it does not. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let number = 1;
  let offset = 0; // of the line's first byte
  let pieces: Uint8Array[] = []; // of a line that began in an earlier chunk
  const lineOf = (bytes: Uint8Array): Line => {
    const line = lineBytes(bytes, number === 1);
    return { number, offset: offset + line.byteOffset - bytes.byteOffset, bytes: line };
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const bytes = joinBytes([...pieces, chunk.subarray(start, end)]);
      yield lineOf(bytes);
      number++;
      offset += bytes.length + 1;
      pieces = [];
      start = end + 1;
    }
    if (start < chunk.length) pieces.push(chunk.slice(start));
  }
  const last = joinBytes(pieces);
  if (last.length > 0) yield lineOf(last);
}

/** A line without a byte order mark, if it is the first, and without the `\r` of a CRLF. */
export function lineBytes(bytes: Uint8Array, isFirst: boolean): Uint8Array {
  const start = isFirst ? byteOrderMarkLength(bytes) : 0;
  const end = bytes.length - (bytes[bytes.length - 1] === carriageReturn ? 1 : 0);
  return bytes.subarray(start, Math.max(start, end));
}

/** How many bytes a byte order mark at the start takes: 3 or 0. */
export function byteOrderMarkLength(bytes: Uint8Array): number {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
}

/** Where bytes came from, for a message about them. */
export interface BytesOrigin {
  file: string;
  /** The line that the bytes begin in, counted from 1. */
  line: number;
  /** The position of the first byte in the file, counted from 0. */
  offset: number;
  /** What to try; how such text is left out of data unless given. */
  hint?: string;
}

/** Decodes UTF-8 and keeps every character; an invalid byte is an error that names file, line and byte. */
export function decodeUtf8(bytes: Uint8Array, origin: BytesOrigin): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    const at = error instanceof TypeError ? firstInvalidByte(bytes) : undefined;
    if (at === undefined) throw error;
    throw invalidByte(bytes, at, origin);
  }
}

function invalidByte(bytes: Uint8Array, at: number, origin: BytesOrigin): UserError {
  const line = origin.line + bytes.subarray(0, at).reduce((n, b) => n + (b === newline ? 1 : 0), 0);
  const byte = bytes[at].toString(16).padStart(2, "0");
  return new UserError(
    `not valid UTF-8: byte 0x${byte} at offset ${origin.offset + at} of the file`,
    {
      where: `${origin.file}:${line}`,
      hint: origin.hint ?? "convert the file to UTF-8",
      exitCode: exitCodes.failed,
    },
  );
}

/** The index of the first byte that cannot be part of UTF-8 text, by the table of RFC 3629, section 4. */
export function firstInvalidByte(bytes: Uint8Array): number | undefined {
  for (let i = 0; i < bytes.length;) {
    const length = sequenceLength(bytes, i);
    if (length === 0) return i;
    i += length;
  }
  return undefined;
}

/** How many bytes at the end may begin a character whose rest is to come. */
export function incompleteTail(bytes: Uint8Array): number {
  for (let tail = 1; tail <= Math.min(3, bytes.length); tail++) {
    const byte = bytes[bytes.length - tail];
    if (byte >= 0xc0) return tail < (byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4) ? tail : 0;
    if (byte < 0x80) return 0;
  }
  return 0;
}

/** The length of the well-formed sequence at `i`, or 0. */
function sequenceLength(bytes: Uint8Array, i: number): number {
  const lead = bytes[i];
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // overlong forms, surrogates and code points past U+10FFFF are excluded by the second byte
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (!(bytes[i + 1] >= low && bytes[i + 1] <= high)) return 0;
  for (let k = 2; k < length; k++) {
    if (!(bytes[i + k] >= 0x80 && bytes[i + k] <= 0xbf)) return 0;
  }
  return length;
}

/** One array of all the pieces' bytes; no copy where there is but one. */
export function joinBytes(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0];
  const joined = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}
