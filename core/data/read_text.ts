/**
 * Text files in blocks: whole documents where they are short, pieces of one that is long.
 *
 * @module
 */
import { readInput, stdinName } from "../io/input_file.ts";
import type { Block, LongDocuments } from "./blocks.ts";
import { ByteWindow, indexOfBytes } from "./byte_window.ts";
import type { ReadOptions } from "./documents.ts";
import { readLong } from "./read_long.ts";
import { lengthOf, spool, type TextLength } from "./spool.ts";

/** Reads a text file. */
export function readText(
  path: string,
  { separator = "" }: ReadOptions,
  long: LongDocuments,
  onRead: (bytes: number) => void,
): AsyncGenerator<Block> {
  const mark = new TextEncoder().encode(separator);
  return readMarked({ kind: "text", path, mark }, long, readInput(path, onRead));
}

/** A file whose documents end with a mark, or which is one as a whole where that is empty. */
interface MarkedFile {
  readonly kind: "text" | "jsonl";
  readonly path: string;
  readonly mark: Uint8Array;
}

/** Blocks that end behind a mark; UTF-8 lets bytes be searched as they are. */
export async function* readMarked(
  file: MarkedFile,
  long: LongDocuments,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Block> {
  const { kind, path, mark } = file;
  const { sizes, lastCut } = long;
  const longest = kind === "text" && lastCut !== undefined ? sizes.long : sizes.most;
  let window = new ByteWindow(chunks);
  let whole = 0, searched = 0; // bytes of documents that have ended; without another mark
  const block = (length: number): Block => {
    const { place } = window;
    [whole, searched] = [0, Math.max(0, searched - length)];
    return { kind, path, ...place, bytes: window.take(length) };
  };
  try {
    while (await window.grow()) {
      const { bytes } = window;
      for (let at; (at = indexOfBytes(bytes, mark, searched)) >= 0;) {
        whole = searched = at + mark.length;
      }
      searched = Math.max(searched, bytes.length - Math.max(0, mark.length - 1));
      if (whole >= sizes.block) yield block(whole);
      if (window.length - whole <= longest) continue;
      if (whole > 0) yield block(whole);
      const measured = await measure(file, long, window);
      window = measured.window;
      yield* readLong(window, { ...file, ...long, length: measured.length });
      searched = 0;
    }
    if (window.length > 0) yield block(window.length);
  } finally {
    await window.close();
  }
}

/** The length of a long document where its validation part hangs on it. */
async function measure(
  { path, mark }: MarkedFile,
  { lastCut, valFraction, spoolFolder }: LongDocuments,
  window: ByteWindow,
): Promise<{ window: ByteWindow; length: TextLength | undefined }> {
  const isCut = mark.length === 0 && lastCut !== undefined && valFraction > 0;
  if (!isCut) return { window, length: undefined };
  const isFile = path !== stdinName && (await Deno.stat(path)).isFile;
  if (isFile) return { window, length: await lengthOf(readInput(path)) };
  const { length, chunks } = await spool(window.rest(), spoolFolder);
  return { window: new ByteWindow(chunks), length };
}
