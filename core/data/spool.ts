/**
 * Text whose length must be known before it is used.
 *
 * @module
 */
import { join } from "node:path";
import { byteOrderMarkLength } from "../io/lines.ts";

/** How long a text is. */
export interface TextLength {
  readonly bytes: number;
  /** In UTF-16, without a byte order mark at the start. */
  readonly units: number;
}

/** The length of some UTF-8. */
export async function lengthOf(chunks: AsyncIterable<Uint8Array>): Promise<TextLength> {
  let units = 0, bytes = 0;
  const start: number[] = [];
  for await (const chunk of chunks) {
    if (start.length < 3) start.push(...chunk.subarray(0, 3 - start.length));
    for (let i = 0; i < chunk.length; i++) units += utf16Units(chunk[i]);
    bytes += chunk.length;
  }
  return { bytes, units: units - (byteOrderMarkLength(Uint8Array.from(start)) > 0 ? 1 : 0) };
}

/** The UTF-16 units of the character that a byte begins; none if it continues one. */
export function utf16Units(byte: number): number {
  return (byte & 0xc0) === 0x80 ? 0 : byte < 0xf0 ? 1 : 2;
}

/** Lays a stream in a file that is gone when it has been read, or when the process is. */
export async function spool(
  chunks: AsyncIterable<Uint8Array>,
  folder: string,
): Promise<{ length: TextLength; chunks: AsyncGenerator<Uint8Array> }> {
  await Deno.mkdir(folder, { recursive: true });
  const path = join(folder, `.spool-${crypto.randomUUID()}`);
  const file = await Deno.open(path, { read: true, write: true, createNew: true });
  try {
    await Deno.remove(path); // an open file lives on without its name
    const length = await lengthOf(writing(chunks, file));
    await file.seek(0, Deno.SeekMode.Start);
    return { length, chunks: reading(file) };
  } catch (error) {
    file.close();
    throw error;
  }
}

async function* writing(chunks: AsyncIterable<Uint8Array>, file: Deno.FsFile) {
  for await (const chunk of chunks) {
    for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
    yield chunk;
  }
}

async function* reading(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  yield* file.readable; // closes it
}
