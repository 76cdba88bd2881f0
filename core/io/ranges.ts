/** Files of which parts are read where they lie. */

import { type Dtype, dtypeArrays, type TensorData, valuesOf, widen } from "./dtypes.ts";
import { exitCodes, UserError } from "./errors.ts";

/** An open file; close it with `using`. */
export class RangeFile implements Disposable {
  readonly #file: Deno.FsFile;
  /** How many there were when it was opened. */
  readonly bytes: number;

  constructor(readonly path: string) {
    this.#file = Deno.openSync(path);
    this.bytes = this.#file.statSync().size;
  }

  /** Reads from a position until memory, which may be shared, is full. */
  fill(into: Uint8Array, position: number): void {
    if (into.length === 0) return;
    this.#file.seekSync(position, Deno.SeekMode.Start);
    for (let done = 0; done < into.length;) {
      const count = this.#file.readSync(into.subarray(done));
      if (count === null) {
        throw new UserError(`it ended while being read, at byte ${position + done}`, {
          where: this.path,
          exitCode: exitCodes.failed,
        });
      }
      done += count;
    }
  }

  /** Bytes in memory of their own. Callers hold `length` against the file's first. */
  read(position: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    this.fill(bytes, position);
    return bytes;
  }

  /** So many values of a dtype. */
  values(position: number, dtype: Dtype, count: number): TensorData {
    return valuesOf(
      dtype,
      this.read(position, count * dtypeArrays[dtype].BYTES_PER_ELEMENT),
    );
  }

  /** Floats as f32, as many as `into` holds, without a second copy of them all. */
  floats(position: number, dtype: Dtype, into: Float32Array): void {
    if (dtype === "F32") {
      return this.fill(new Uint8Array(into.buffer, into.byteOffset, into.byteLength), position);
    }
    const width = dtypeArrays[dtype].BYTES_PER_ELEMENT;
    const piece = new Uint8Array(width * Math.min(pieceLength, into.length));
    for (let done = 0; done < into.length; done += pieceLength) {
      const count = Math.min(pieceLength, into.length - done);
      const bytes = piece.subarray(0, width * count);
      this.fill(bytes, position + width * done);
      widen(
        new dtypeArrays[dtype](bytes.buffer, 0, count),
        dtype,
        into.subarray(done, done + count),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Elements that are converted at once: they are still in the processor's cache. */
const pieceLength = 2 ** 16;

/** The first bytes of a file, few where it is short. */
export async function beginningOfFile(path: string, count: number): Promise<Uint8Array> {
  using file = await Deno.open(path);
  const bytes = new Uint8Array(count);
  let done = 0;
  while (done < count) {
    const read = await file.read(bytes.subarray(done));
    if (read === null) break;
    done += read;
  }
  return bytes.subarray(0, done);
}

/** Thrown by what parses a file's beginning where the part that it has is too short. */
export class EndOfPart extends Error {
  override readonly name = "EndOfPart";
}

/**
 * Parses what a file begins with, whose length only parsing tells: first few bytes, then more, at most `most`. `parse`
 * throws `EndOfPart` where it needs more; what is left then is for the caller.
 */
export function parseBeginning<T>(
  file: RangeFile,
  most: number,
  parse: (bytes: Uint8Array<ArrayBuffer>) => T,
): T {
  const all = Math.min(file.bytes, most);
  for (let length = Math.min(all, 2 ** 16);; length = Math.min(all, 8 * length)) {
    try {
      return parse(file.read(0, length));
    } catch (error) {
      if (!(error instanceof EndOfPart) || length >= all) throw error;
    }
  }
}
