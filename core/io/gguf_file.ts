/**
 * Reading GGUF files, versions 2 and 3, little endian. Metadata, names, shapes and places are read and checked when a file is
 * opened; numbers when they are asked for, those of q8_0 as f32.
 *
 * @module
 */
import { type Dtype, dtypeBytes, type TensorData } from "./dtypes.ts";
import { exitCodes, UserError } from "./errors.ts";
import { type GgufType, ggufTypes } from "./gguf.ts";
import { EndOfPart, parseBeginning, RangeFile } from "./ranges.ts";
import type { TensorInfo } from "./safetensors.ts";
import type { TensorFile } from "./tensors.ts";

/** A value of the metadata; whole numbers beyond 2⁵³ lose their last digits. */
export type GgufMetadata = string | number | boolean | readonly (string | number | boolean)[];

interface Entry extends TensorInfo {
  readonly type: GgufType;
  /** From the start of the data. */
  readonly begin: number;
  readonly bytes: number;
}

/** Types of the format by their number, for messages: those that `ggufTypes` lacks are not read. */
const typeNames: Readonly<Record<number, string>> = {
  2: "q4_0",
  3: "q4_1",
  6: "q5_0",
  7: "q5_1",
  9: "q8_1",
  10: "q2_K",
  11: "q3_K",
  12: "q4_K",
  13: "q5_K",
  14: "q6_K",
  15: "q8_K",
  16: "iq2_xxs",
  17: "iq2_xs",
  18: "iq3_xxs",
  19: "iq1_s",
  20: "iq4_nl",
  21: "iq3_s",
  22: "iq2_s",
  23: "iq4_xs",
  24: "i8",
  25: "i16",
  26: "i32",
  27: "i64",
  28: "f64",
  29: "iq1_m",
  34: "tq1_0",
  35: "tq2_0",
  39: "mxfp4",
};
const readTypes: ReadonlyMap<number, GgufType> = new Map(
  Object.entries(ggufTypes).map(([name, { code }]) => [code, name as GgufType]),
);
const dtypes: Readonly<Record<GgufType, Dtype>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  q8_0: "F32", // as which it is read
};

const longestHeader = 128 << 20, longestName = 64, mostAxes = 4, mostAlignment = 2 ** 20;
const { block: blockLength, bytes: blockBytes } = ggufTypes.q8_0;

/** An open file; close it with `using`. */
export class GgufFile implements TensorFile {
  readonly metadata: ReadonlyMap<string, GgufMetadata>;
  /** In the file's order, the last axis lying together, as everywhere here. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #dataStart: number;
  readonly #file: RangeFile;

  constructor(readonly path: string) {
    using stack = new DisposableStack();
    this.#file = stack.use(new RangeFile(path));
    const { metadata, entries, dataStart } = readHeader(this.#file);
    this.metadata = metadata;
    this.#dataStart = dataStart;
    this.tensors = this.#entries = entries;
    stack.move();
  }

  /** The metadata, of arrays only how many values they have. */
  get about(): Readonly<Record<string, string>> {
    const said = [...this.metadata].map(([key, value]) => [
      key,
      Array.isArray(value) ? `${value.length} values` : String(value),
    ]);
    return Object.fromEntries(said);
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw broken(this.path, `there is no tensor named ${name}`);
    return entry;
  }

  read(name: string): TensorData {
    const { type, dtype, shape, begin } = this.#entry(name), count = numbersOf(shape);
    if (type !== "q8_0") return this.#file.values(this.#dataStart + begin, dtype, count);
    const values = new Float32Array(count);
    this.readInto(name, values, 0);
    return values;
  }

  readInto(name: string, into: Float32Array, at: number): void {
    const { type, dtype, shape, begin } = this.#entry(name);
    if (at + into.length > numbersOf(shape)) throw new RangeError(`${name} ends before`);
    const start = this.#dataStart + begin;
    if (type === "q8_0") this.#blocks(start, into, at);
    else this.#file.floats(start + at * dtypeBytes(dtype), dtype, into);
  }

  /** Blocks of 32: a scale in f16, and whole numbers of it. */
  #blocks(start: number, into: Float32Array, at: number): void {
    for (let done = 0; done < into.length;) {
      const first = Math.floor((at + done) / blockLength);
      const last = Math.min(
        Math.ceil((at + into.length) / blockLength),
        first + pieceBlocks,
      );
      const bytes = this.#file.read(start + first * blockBytes, (last - first) * blockBytes);
      const view = new DataView(bytes.buffer);
      const end = Math.min(into.length, last * blockLength - at);
      for (; done < end; done++) {
        const i = at + done - first * blockLength, inBlock = i % blockLength;
        const place = (i - inBlock) / blockLength * blockBytes;
        into[done] = view.getFloat16(place, true) * view.getInt8(place + 2 + inBlock);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Blocks that are converted at once. */
const pieceBlocks = 2 ** 12;

/** Opens a file: its header is read and checked, its values are not. */
export function openGguf(path: string): GgufFile {
  return new GgufFile(path);
}

function numbersOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function readHeader(file: RangeFile) {
  const { path } = file;
  let header: ReturnType<typeof parseHeader>;
  try {
    header = parseBeginning(file, longestHeader, (bytes) => parseHeader(bytes, path));
  } catch (error) {
    if (!(error instanceof EndOfPart)) throw error;
    throw broken(path, "its header does not end: truncated?");
  }
  const { metadata, described, end } = header;
  const alignment = metadata.get("general.alignment") ?? 32;
  const isAlignment = typeof alignment === "number" && Number.isInteger(alignment) &&
    alignment >= 1 && alignment <= mostAlignment && Number.isInteger(Math.log2(alignment));
  if (!isAlignment) throw broken(path, `general.alignment is ${shown(alignment)}`);
  const aligned = (at: number) => Math.ceil(at / alignment) * alignment;
  const dataStart = aligned(end), entries = new Map<string, Entry>();
  refuseTypes(described, path);
  let at = 0;
  for (const { name, shape, code, offset } of described) {
    const type = readTypes.get(code)!, { block, bytes: wide } = ggufTypes[type];
    const count = numbersOf(shape), bytes = count / block * wide;
    if (!Number.isSafeInteger(count) || shape.at(-1)! % block !== 0) {
      throw broken(path, `${name} is ${type} [${shape}]`);
    }
    if (offset !== at) {
      throw broken(path, `${name} begins at byte ${offset} of the data, not ${at}, where it is to`);
    }
    if (dataStart + at + bytes > file.bytes) {
      throw broken(path, `${name} ends beyond the file: truncated?`);
    }
    entries.set(name, { type, dtype: dtypes[type], shape, begin: at, bytes });
    at = aligned(at + bytes);
  }
  if (file.bytes - dataStart > at) {
    throw broken(path, `${file.bytes - dataStart - at} bytes follow its last tensor`);
  }
  return { metadata, entries, dataStart };
}

function refuseTypes(described: readonly Described[], path: string): void {
  const others = [...new Set(described.map(({ code }) => code))]
    .filter((code) => !readTypes.has(code));
  if (others.length === 0) return;
  const names = others.map((code) => typeNames[code] ?? `type ${code}`).join(", ");
  const [first] = described.filter(({ code }) => others.includes(code));
  throw new UserError(`quern does not read ${names}, as ${first.name} is stored`, {
    where: path,
    hint: `take a file of ${Object.keys(ggufTypes).join(", ")}`,
    exitCode: exitCodes.failed,
  });
}

interface Described {
  readonly name: string;
  readonly shape: readonly number[];
  readonly code: number;
  readonly offset: number;
}

function parseHeader(bytes: Uint8Array<ArrayBuffer>, path: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const refuse = (what: string) => broken(path, what);
  const take = (count: number): number => {
    if (!(count <= bytes.length - at)) throw new EndOfPart("the header is cut short");
    return (at += count) - count;
  };
  const u32 = () => view.getUint32(take(4), true);
  const u64 = () => Number(view.getBigUint64(take(8), true));
  const text = (): string => {
    const length = u64();
    if (length > longestHeader) throw refuse(`a text in its header claims ${length} bytes`);
    const from = take(length);
    // tokens of some vocabularies are no whole UTF-8
    return new TextDecoder().decode(bytes.subarray(from, at));
  };
  const scalars: Readonly<Record<number, readonly [bytes: number, read: () => number | boolean]>> =
    {
      0: [1, () => view.getUint8(take(1))],
      1: [1, () => view.getInt8(take(1))],
      2: [2, () => view.getUint16(take(2), true)],
      3: [2, () => view.getInt16(take(2), true)],
      4: [4, u32],
      5: [4, () => view.getInt32(take(4), true)],
      6: [4, () => view.getFloat32(take(4), true)],
      7: [1, () => view.getUint8(take(1)) !== 0],
      10: [8, u64],
      11: [8, () => Number(view.getBigInt64(take(8), true))],
      12: [8, () => view.getFloat64(take(8), true)],
    };
  const array = (key: string): readonly (string | number | boolean)[] => {
    const type = u32(), count = u64(), isText = type === 8, scalar = scalars[type];
    if (!isText && !scalar) throw refuse(`${shown(key)} is an array of type ${type}`);
    const least = isText ? 8 : scalar[0];
    if (!(count <= longestHeader / least)) {
      throw refuse(`${shown(key)} claims ${count} values`);
    }
    if (count * least > bytes.length - at) throw new EndOfPart("an array is cut short");
    const read = isText ? text : scalar[1], values: (string | number | boolean)[] = [];
    for (let i = 0; i < count; i++) values.push(read());
    return values;
  };
  if (new TextDecoder().decode(bytes.subarray(take(4), at)) !== "GGUF") {
    throw refuse("it does not begin with GGUF");
  }
  const version = u32();
  if (version !== 2 && version !== 3) throw refuse(`its version is ${version}; known: 2, 3`);
  const tensors = u64(), pairs = u64();
  // 24 bytes at least of a tensor, 13 of a pair
  if (!(24 * tensors + 13 * pairs <= longestHeader)) {
    throw refuse(`it claims ${tensors} tensors and ${pairs} metadata`);
  }
  const metadata = new Map<string, GgufMetadata>();
  for (let i = 0; i < pairs; i++) {
    const key = text(), type = u32();
    if (metadata.has(key)) throw refuse(`${shown(key)} comes twice in its metadata`);
    const read = type === 8 ? text : type === 9 ? () => array(key) : scalars[type]?.[1];
    if (!read) throw refuse(`${shown(key)} has the type ${type}`);
    metadata.set(key, read());
  }
  const described: Described[] = [], names = new Set<string>();
  for (let i = 0; i < tensors; i++) {
    const name = text();
    if (name === "" || name.length > longestName || /\p{Cc}/u.test(name)) {
      throw refuse(`a tensor is named ${shown(name)}`);
    }
    if (names.has(name)) throw refuse(`${name} comes twice`);
    names.add(name);
    const axes = u32();
    if (axes < 1 || axes > mostAxes) throw refuse(`${name} has ${axes} axes`);
    const shape = Array.from({ length: axes }, u64).reverse();
    if (!shape.every((size) => Number.isSafeInteger(size) && size > 0)) {
      throw refuse(`${name} is [${shape}]`);
    }
    described.push({ name, shape, code: u32(), offset: u64() });
  }
  return { metadata, described, end: at };
}

/** Of a file, in a message. */
function shown(value: GgufMetadata): string {
  const text = JSON.stringify(Array.isArray(value) ? `${value.length} values` : value);
  return text.length > 80 ? `${text.slice(0, 80)} …` : text;
}

function broken(path: string, what: string): UserError {
  return new UserError(`not a readable GGUF file: ${what}`, {
    where: path,
    exitCode: exitCodes.failed,
  });
}
