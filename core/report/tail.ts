/** Files of lines that others append to, read as far as they have come. */

/** Who is told of lines. */
export interface LineReader {
  line(text: string): void;
  /** The file is another one, or shorter: its lines come from the first on. */
  restart(): void;
}

/** Bytes that are read at once. */
const chunkBytes = 1 << 20;

/**
 * Follows a file: each call reads the whole lines that came since the one before, and says whether anything changed. A file
 * that is not there has no lines. Half a last line waits for its end.
 */
export function followLines(path: string, { line, restart }: LineReader): () => Promise<boolean> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let read = 0, of: number | null | undefined;
  const nothing = () => {
    const isNews = read > 0;
    if (isNews) restart();
    [read, of] = [0, undefined];
    return isNews;
  };
  return async () => {
    using file = await openIfThere(path);
    if (!file) return nothing();
    const { size, ino } = await file.stat();
    const isOther = (of !== undefined && ino !== of) || size < read;
    if (isOther) nothing();
    of = ino;
    if (size === read) return isOther;
    await file.seek(read, Deno.SeekMode.Start);
    const before = read;
    for await (const bytes of wholeLines(file)) {
      read += bytes.length;
      for (const text of decoder.decode(bytes.subarray(0, -1)).split("\n")) line(text);
    }
    return isOther || read > before;
  };
}

/** Some lines at a time, each with its end. */
async function* wholeLines(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  const newline = 10;
  let bytes = new Uint8Array(chunkBytes), held = 0;
  for (;;) {
    if (held === bytes.length) { // a line that is longer than that
      const longer = new Uint8Array(2 * bytes.length);
      longer.set(bytes);
      bytes = longer;
    }
    const count = await file.read(bytes.subarray(held));
    if (count === null) return;
    held += count;
    const end = bytes.lastIndexOf(newline, held - 1) + 1;
    if (end === 0) continue;
    yield bytes.subarray(0, end);
    bytes.copyWithin(0, end, held);
    held -= end;
  }
}

async function openIfThere(path: string): Promise<Deno.FsFile | undefined> {
  try {
    return await Deno.open(path);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return undefined;
    throw error;
  }
}
