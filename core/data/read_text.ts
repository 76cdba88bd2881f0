/**
 * Documents of a text file: the whole of it, or the parts between separators.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { readInput } from "../io/input_file.ts";
import { byteOrderMarkLength, type BytesOrigin, decodeUtf8, joinBytes } from "../io/lines.ts";
import type { Attempt, ReadOptions } from "./documents.ts";

/** Reads a text file; only one document of it is in memory at a time. */
export async function* readText(
  path: string,
  { separator }: ReadOptions,
  onRead: (bytes: number) => void,
): AsyncGenerator<Attempt> {
  const mark = new TextEncoder().encode(separator ?? "");
  let line = 1, offset = 0;
  for await (const { bytes, isLast } of splitBytes(readInput(path, onRead), mark)) {
    const start = offset === 0 ? byteOrderMarkLength(bytes) : 0;
    const text = bytes.subarray(start);
    if (isLast && text.length === 0) return; // behind the last separator
    const origin = { file: path, line, offset: offset + start };
    yield () => ({
      text: decodeText(text, origin),
      where: `${path}:${origin.line}`,
      isWholeFile: separator === undefined,
    });
    line += newlinesIn(bytes) + newlinesIn(mark);
    offset += bytes.length + mark.length;
  }
}

/** The parts between marks, or all in one if the mark is empty; UTF-8 lets bytes be searched as they are. */
export async function* splitBytes(chunks: AsyncIterable<Uint8Array>, mark: Uint8Array) {
  let pieces: Uint8Array[] = []; // of the part that is being read, searched already
  let open: Uint8Array = new Uint8Array(0); // its end, where a mark may have begun
  for await (const chunk of chunks) {
    const bytes = joinBytes([open, chunk].filter(({ length }) => length > 0));
    let from = 0;
    for (let at = indexOfBytes(bytes, mark, 0); at >= 0; at = indexOfBytes(bytes, mark, from)) {
      yield { bytes: joinBytes([...pieces, bytes.subarray(from, at)]), isLast: false };
      pieces = [];
      from = at + mark.length;
    }
    const searched = Math.max(from, bytes.length - Math.max(0, mark.length - 1));
    if (searched > from) pieces.push(bytes.slice(from, searched));
    open = bytes.slice(searched);
  }
  yield { bytes: joinBytes([...pieces, open]), isLast: true };
}

/** Where `wanted` stands in `bytes` from `from` on, or -1; nothing is nowhere. */
function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  if (wanted.length === 0) return -1;
  for (let at = bytes.indexOf(wanted[0], from); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (at + wanted.length > bytes.length) return -1;
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}

function newlinesIn(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) count++;
  return count;
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
