/**
 * Zstandard streams, frame by frame.
 *
 * node:zlib reads the first frame, ignores what follows, and takes a cut file for a whole one; files
 * that parallel tools write have many frames. So the frames are found here (RFC 8878, section 3.1)
 * and each is handed to a decompressor of its own.
 *
 * @module
 */
import { pipeline, Readable, type Transform } from "node:stream";
import { createZstdDecompress } from "node:zlib";
import { exitCodes, messageOf, UserError } from "./errors.ts";
import { joinBytes } from "./lines.ts";

const frameMagic = 0xfd2fb528;
/** The lowest of sixteen magic numbers of frames that hold no data. */
const skippableMagic = 0x184d2a50;

/** The bytes behind a zstd stream; `where` names it in errors. */
export async function* decompressZstd(
  chunks: AsyncIterable<Uint8Array>,
  where: string,
): AsyncGenerator<Uint8Array> {
  const source = new ByteSource(chunks, where);
  if (await source.isAtEnd()) throw damaged("the file is empty, without even a zstd frame", where);
  while (!await source.isAtEnd()) {
    const start = source.offset;
    const magic = await source.take(4);
    const kind = uint32(magic);
    if (kind === frameMagic) yield* decompress(frameBytes(source, magic), start, where);
    else if (((kind & 0xfffffff0) >>> 0) === skippableMagic) await skipFrame(source);
    else throw damaged(`byte ${start} does not begin a zstd frame`, where);
  }
}

async function* decompress(bytes: AsyncIterable<Uint8Array>, start: number, where: string) {
  try {
    yield* throughEngine(bytes, createZstdDecompress());
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw damaged(`the zstd frame at byte ${start}: ${messageOf(error)}`, where);
  }
}

/** What a stream of node:zlib makes of some bytes; an error of either side is thrown. */
export async function* throughEngine(
  bytes: AsyncIterable<Uint8Array>,
  engine: Transform,
): AsyncGenerator<Uint8Array> {
  pipeline(Readable.from(bytes), engine, () => {}); // iterating throws what goes wrong
  for await (const chunk of engine) yield chunk;
}

/** Compressed data that cannot be what was written. */
export function damaged(reason: string, where: string): UserError {
  return new UserError(`the compressed data is damaged: ${reason}`, {
    where,
    hint: "copy or download the file again",
    exitCode: exitCodes.failed,
  });
}

/** The bytes of one frame, block by block. */
async function* frameBytes(source: ByteSource, magic: Uint8Array): AsyncGenerator<Uint8Array> {
  yield magic;
  const descriptor = await source.take(1);
  const [bits] = descriptor;
  const isSingleSegment = (bits & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][bits & 3];
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][bits >> 6];
  yield descriptor;
  yield await source.take((isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes);
  for (let isLast = false; !isLast;) {
    const header = await source.take(3);
    const block = header[0] | (header[1] << 8) | (header[2] << 16);
    isLast = (block & 1) !== 0;
    const isRepeatedByte = ((block >> 1) & 3) === 1;
    yield header;
    yield* source.pass(isRepeatedByte ? 1 : block >> 3);
  }
  const hasChecksum = (bits & 4) !== 0;
  if (hasChecksum) yield await source.take(4);
}

async function skipFrame(source: ByteSource): Promise<void> {
  for await (const _ of source.pass(uint32(await source.take(4)))) { /* holds no data */ }
}

function uint32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/** Bytes by number, from chunks that come as they like. */
class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #where: string;
  #chunk: Uint8Array = new Uint8Array(0);
  /** How many bytes were taken. */
  offset = 0;

  constructor(chunks: AsyncIterable<Uint8Array>, where: string) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#where = where;
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const { done, value } = await this.#chunks.next();
      if (done) return true;
      this.#chunk = value;
    }
    return false;
  }

  /** Exactly this many bytes, in pieces. */
  async *pass(count: number): AsyncGenerator<Uint8Array> {
    while (count > 0) {
      if (await this.isAtEnd()) {
        throw damaged(`the file ends inside a zstd frame, at byte ${this.offset}`, this.#where);
      }
      const piece = this.#chunk.subarray(0, count);
      this.#chunk = this.#chunk.subarray(piece.length);
      this.offset += piece.length;
      count -= piece.length;
      yield piece;
    }
  }

  /** Exactly this many bytes, in one piece. */
  async take(count: number): Promise<Uint8Array> {
    return joinBytes(await Array.fromAsync(this.pass(count)));
  }
}
