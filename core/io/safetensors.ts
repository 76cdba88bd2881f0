/**
 * The safetensors format: eight bytes of header length, a JSON header, then the tensors' bytes.
 *
 * Writing streams: one tensor's values exist at a time. Reading is lazy: opening reads and checks the
 * header only, so the names and shapes of a large file cost nothing.
 *
 * @module
 */
import { writeAllBytes } from "./atomic.ts";
import { type Dtype, dtypeArrays, dtypeBytes, isDtype, type TensorData } from "./dtypes.ts";
import { exitCodes, jsonFault, UserError } from "./errors.ts";
import { RangeFile } from "./ranges.ts";

/** An element type of the format, by the format's own name. */
export type SafetensorsDtype = Dtype;

export type { TensorData } from "./dtypes.ts";

/** The same over any memory. */
export type TensorArray = TensorData | Float32Array;

/** What the header says of a tensor. */
export interface TensorInfo {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

/** A tensor to write; `data` is called when its turn comes and may be any view of the right size. */
export interface TensorSource extends TensorInfo {
  readonly name: string;
  readonly data: () => ArrayBufferView | Promise<ArrayBufferView>;
}

interface Entry extends TensorInfo {
  readonly begin: number; // bytes after the header
  readonly end: number;
}

const longestName = 1000, mostAxes = 64;
const maxHeaderBytes = 100_000_000; // the format's own limit

/** The bytes that a tensor's values take. */
export function tensorBytes({ dtype, shape }: TensorInfo): number {
  return shape.reduce((product, size) => product * size, dtypeBytes(dtype));
}

/**
 * Writes tensors to `path` and syncs it to disk. Wide dtypes come first so that every tensor is
 * aligned for readers that map the file. Not atomic by itself: see `writeFileAtomic`.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Record<string, string> = {},
): Promise<void> {
  const width = (t: TensorSource) => dtypeBytes(t.dtype);
  const ordered = [...tensors].sort((a, b) => width(b) - width(a)); // stable: else as given
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  await writeAllBytes(file, encodeHeader(ordered, metadata));
  for (const tensor of ordered) {
    const view = await tensor.data();
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (bytes.length !== tensorBytes(tensor)) {
      throw new RangeError(
        `safetensors: ${tensor.name} is ${tensor.dtype} [${tensor.shape}], ` +
          `${tensorBytes(tensor)} bytes, but ${bytes.length} bytes came`,
      );
    }
    await writeAllBytes(file, bytes);
  }
  await file.sync();
}

function encodeHeader(tensors: readonly TensorSource[], metadata: Record<string, string>) {
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) entries.push(["__metadata__", metadata]);
  const names = new Set(["__metadata__"]);
  let begin = 0;
  for (const tensor of tensors) {
    if (names.has(tensor.name)) throw new RangeError(`safetensors: ${tensor.name} comes twice`);
    names.add(tensor.name);
    const end = begin + tensorBytes(tensor);
    entries.push([tensor.name, {
      dtype: tensor.dtype,
      shape: tensor.shape,
      data_offsets: [begin, end],
    }]);
    begin = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20); // spaces, as the format asks
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return header;
}

/** An open file of tensors; close it with `using`. */
export class SafetensorsFile implements Disposable {
  /** The tensors in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #file: RangeFile;
  readonly #dataStart: number;

  constructor(readonly path: string) {
    using stack = new DisposableStack();
    this.#file = stack.use(new RangeFile(path));
    const header = readHeader(this.#file);
    this.metadata = header.metadata;
    this.#dataStart = header.dataStart;
    this.tensors = this.#entries = header.entries;
    stack.move();
  }

  get about(): Readonly<Record<string, string>> {
    return this.metadata;
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw broken(this.path, `there is no tensor named ${name}`);
    return entry;
  }

  /** The values of one tensor, read now into memory of their own. */
  read(name: string): TensorData {
    const { begin, end, dtype } = this.#entry(name);
    return this.#file.values(this.#dataStart + begin, dtype, (end - begin) / dtypeBytes(dtype));
  }

  /** The values from element `at` on of a tensor of floats, as f32, as many as `into` holds. */
  readInto(name: string, into: Float32Array, at: number): void {
    const { begin, end, dtype } = this.#entry(name), width = dtypeBytes(dtype);
    if ((at + into.length) * width > end - begin) throw new RangeError(`${name} ends before`);
    this.#file.floats(this.#dataStart + begin + at * width, dtype, into);
  }

  /** The values of one tensor, some at a time, so that its size does not matter. */
  *chunks(name: string, elements: number): Generator<TensorData> {
    const { begin, end, dtype } = this.#entry(name), bytes = elements * dtypeBytes(dtype);
    for (let at = begin; at < end; at += bytes) {
      const count = Math.min(bytes, end - at) / dtypeBytes(dtype);
      yield this.#file.values(this.#dataStart + at, dtype, count);
    }
  }

  /** Whether a tensor is bf16, so that `readBf16Into` reads it as it is. */
  storesBf16(name: string): boolean {
    return this.#entry(name).dtype === "BF16";
  }

  readBf16Into(name: string, into: Uint16Array, at: number): void {
    const { begin, end, dtype } = this.#entry(name);
    if (dtype !== "BF16") throw new RangeError(`${name} is ${dtype}`);
    if (2 * (at + into.length) > end - begin) throw new RangeError(`${name} ends before`);
    const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    this.#file.fill(bytes, this.#dataStart + begin + 2 * at);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Opens a safetensors file: its header is read and checked, its values are not. */
export function openSafetensors(path: string): SafetensorsFile {
  return new SafetensorsFile(path);
}

function readHeader(file: RangeFile) {
  const { path, bytes: fileBytes } = file;
  if (fileBytes < 8) {
    throw broken(path, `it ends after ${fileBytes} bytes, inside the header's length`);
  }
  const length = Number(new DataView(file.read(0, 8).buffer).getBigUint64(0, true));
  if (length > maxHeaderBytes) throw broken(path, `its header claims ${length} bytes`);
  if (8 + length > fileBytes) {
    throw broken(path, `its header claims ${length} bytes but the file ends after ${fileBytes}`);
  }
  const text = decodeHeader(path, file.read(8, length));
  const { __metadata__: metadata, ...rest } = parseHeader(path, text);
  const entries = new Map(
    Object.entries(rest)
      .map(([name, value]) => [name, checkEntry(path, name, value)] as const)
      .sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end),
  );
  checkLayout(path, entries, fileBytes - 8 - length);
  return { entries, metadata: checkMetadata(path, metadata), dataStart: 8 + length };
}

function decodeHeader(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw broken(path, "its header is not UTF-8");
  }
}

function parseHeader(path: string, text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw broken(path, `its header is ${jsonFault(error)}`);
  }
  if (!isRecord(header)) throw broken(path, "its header is not a JSON object");
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw broken(path, `${repeated} stands twice in its header`);
  return header;
}

/**
 * The first key that a JSON object's text holds twice at its top level; JSON.parse keeps the last. A pattern would take
 * stack for each character of a long text.
 */
function repeatedKey(text: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (sign === "{" || sign === "[") depth++;
    else if (sign === "}" || sign === "]") depth--;
    else if (sign === '"') {
      const end = closingQuote(text, at);
      if (depth === 1 && isBeforeColon(text, end + 1)) {
        const key: string = JSON.parse(text.slice(at, end + 1));
        if (seen.has(key)) return key;
        seen.add(key);
      }
      at = end;
    }
  }
  return undefined;
}

function closingQuote(text: string, from: number): number {
  for (let at = from + 1;; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at;
  }
}

function isBeforeColon(text: string, from: number): boolean {
  let at = from;
  while (" \t\n\r".includes(text[at])) at++;
  return text[at] === ":";
}

function checkEntry(path: string, name: string, value: unknown): Entry {
  if (name.length > longestName || /\p{Cc}/u.test(name)) {
    throw broken(path, `it names a tensor ${shown(name)}`);
  }
  if (!isRecord(value)) throw broken(path, `${name} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) {
    throw broken(
      path,
      `${name} has dtype ${shown(dtype)}; known: ${Object.keys(dtypeArrays).join(" ")}`,
    );
  }
  if (!isSizes(shape) || shape.length > mostAxes) {
    throw broken(path, `${name} has the shape ${shown(shape)}`);
  }
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw broken(path, `${name} has the offsets ${shown(offsets)}`);
  }
  const [begin, end] = offsets;
  const needed = tensorBytes({ dtype, shape });
  if (end - begin !== needed) {
    throw broken(path, `${name} is ${dtype} [${shape}], ${needed} bytes, but has ${end - begin}`);
  }
  return { dtype, shape, begin, end };
}

/** The tensors must fill the data exactly: no overlap, no hole, nothing missing, nothing after. */
function checkLayout(path: string, entries: ReadonlyMap<string, Entry>, dataBytes: number): void {
  let at = 0;
  let before = "the header";
  for (const [name, { begin, end }] of entries) {
    if (begin < at) throw broken(path, `${name} overlaps ${before}`);
    if (begin > at) {
      throw broken(path, `${begin - at} bytes between ${before} and ${name} are unused`);
    }
    if (end > dataBytes) {
      throw broken(
        path,
        `${name} ends at byte ${end} of the data but the file holds ${dataBytes}: truncated?`,
      );
    }
    [at, before] = [end, name];
  }
  if (at !== dataBytes) throw broken(path, `${dataBytes - at} bytes follow its last tensor`);
}

function checkMetadata(path: string, metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  const isText = isRecord(metadata) && Object.values(metadata).every((v) => typeof v === "string");
  if (!isText) throw broken(path, "its __metadata__ is not a map from text to text");
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, String(value)]));
}

function broken(path: string, what: string): UserError {
  return new UserError(`not a readable safetensors file: ${what}`, {
    where: path,
    exitCode: exitCodes.failed,
  });
}

/** A value of JSON in a message, however long or deep. */
function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : shallow(value, 0);
  return text.length > longestShown ? `${text.slice(0, longestShown)} …` : text;
}

const longestShown = 80;

function shallow(value: unknown, depth: number): string {
  if (!Array.isArray(value)) return isRecord(value) ? "{…}" : JSON.stringify(value);
  if (depth > 2) return "[…]";
  return `[${value.slice(0, longestShown).map((one) => shallow(one, depth + 1)).join()}]`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
