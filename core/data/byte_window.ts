/**
 * Bytes that were read and are not used yet, in one row.
 *
 * @module
 */

/** Where a byte stands in its file. */
export interface Place {
  /** Counted from 1. */
  readonly line: number;
  /** Counted from 0. */
  readonly offset: number;
}

/** A stream of bytes seen through a window that is moved forward. */
export class ByteWindow {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #memory = new Uint8Array(1 << 17);
  #start = 0;
  #end = 0;
  /** Of the window's first byte. */
  place: Place = { line: 1, offset: 0 };

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  get length(): number {
    return this.#end - this.#start;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#memory.subarray(this.#start, this.#end);
  }

  /** Adds the next chunk; false at the end of the stream. */
  async grow(): Promise<boolean> {
    const { done, value } = await this.#chunks.next();
    if (done) return false;
    if (this.#end + value.length > this.#memory.length) this.#makeRoom(value.length);
    this.#memory.set(value, this.#end);
    this.#end += value.length;
    return true;
  }

  /** Moves the window behind so many bytes. */
  drop(length: number): void {
    const { line, offset } = this.place;
    const dropped = this.bytes.subarray(0, length);
    this.place = { line: line + newlinesIn(dropped), offset: offset + length };
    this.#start += length;
  }

  /** A copy of the first bytes, and the window moves behind them. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const taken = this.bytes.slice(0, length);
    this.drop(length);
    return taken;
  }

  /** All that is left of the stream, chunk by chunk. */
  async *rest(): AsyncGenerator<Uint8Array> {
    do yield this.take(this.length); while (await this.grow());
  }

  /** Ends the stream early. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  #makeRoom(length: number): void {
    const { bytes } = this;
    const needed = bytes.length + length;
    const isWorthMoving = 2 * needed <= this.#memory.length;
    const memory = isWorthMoving ? this.#memory : new Uint8Array(2 * needed);
    if (isWorthMoving) memory.copyWithin(0, this.#start, this.#end);
    else memory.set(bytes);
    [this.#memory, this.#start, this.#end] = [memory, 0, bytes.length];
  }
}

/** Where `wanted` stands in `bytes` from `from` on, or -1; nothing is nowhere. */
export function indexOfBytes(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  if (wanted.length === 0) return -1;
  for (let at = bytes.indexOf(wanted[0], from); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (at + wanted.length > bytes.length) return -1;
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}

/** How many line feeds there are. */
export function newlinesIn(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) count++;
  return count;
}
