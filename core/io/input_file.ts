/**
 * The bytes of an input: a file, or standard input as `-`; `.gz` and `.zst` are decompressed as they
 * are read.
 *
 * @module
 */
import { createGunzip } from "node:zlib";
import { messageOf, UserError } from "./errors.ts";
import { damaged, decompressZstd, throughEngine } from "./zstd.ts";

/** The name of standard input. */
export const stdinName = "-";

const compressionSuffix = /\.(gz|zst)$/i;

/** A file's name without the ending that says how it is compressed. */
export function plainName(path: string): string {
  return path.replace(compressionSuffix, "");
}

/** How the name says that a file is compressed. */
export function compressionOf(path: string): "gz" | "zst" | undefined {
  const ending = path.match(compressionSuffix)?.[1].toLowerCase();
  return ending === "gz" || ending === "zst" ? ending : undefined;
}

/** Reads an input, decompressed; `onRead` hears of the bytes on disk. */
export async function* readInput(
  path: string,
  onRead: (bytes: number) => void = () => {},
): AsyncGenerator<Uint8Array> {
  const bytes = readRaw(path, onRead);
  const compression = compressionOf(path);
  if (compression === "zst") yield* decompressZstd(bytes, path);
  else if (compression === "gz") yield* decompressGzip(bytes, path);
  else yield* bytes;
}

/** The bytes as they lie on disk; whatever goes wrong while they are read is said with the file. */
async function* readRaw(path: string, onRead: (bytes: number) => void) {
  try {
    const { readable } = path === stdinName ? Deno.stdin : await Deno.open(path);
    for await (const chunk of readable) {
      onRead(chunk.length);
      yield chunk;
    }
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** All members of a gzip file, each with its checksum; zeros after the last are padding. */
async function* decompressGzip(bytes: AsyncIterable<Uint8Array>, path: string) {
  try {
    yield* throughEngine(bytes, createGunzip());
  } catch (error) {
    const isZlibs = error instanceof Error && "code" in error && /^Z_/.test(String(error.code));
    throw isZlibs ? damaged(`gzip: ${messageOf(error)}`, path) : error;
  }
}

/** The system's refusal of a file as one clear message. */
export function unreadable(path: string, error: unknown): UserError {
  const reason = error instanceof Deno.errors.NotFound
    ? "there is no such file"
    : error instanceof Deno.errors.IsADirectory
    ? "this is a folder, a file is expected"
    : messageOf(error);
  return new UserError(reason, { where: path, cause: error });
}
