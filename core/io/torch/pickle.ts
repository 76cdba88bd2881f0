/**
 * A reader of the part of Python's pickles that plain data needs: numbers, texts, lists, tuples, dicts. A pickle is a
 * program for a small machine with a stack; this machine has no instruction that calls anything. What a pickle names (`GLOBAL`)
 * and applies (`REDUCE`) is looked up in the caller's table and nowhere else.
 *
 * @module
 */
import { EndOfPart } from "../ranges.ts";

/** A value: lists and tuples are arrays, dicts are maps, whole numbers beyond 2⁵³ are bigints. */
export type Pickled =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Pickled[]
  | Map<Pickled, Pickled>
  | Opaque;

/** What a table's function makes, or a name that the table has. */
export interface Opaque {
  readonly kind: string;
}

/** What a pickle may name, and what comes of it. */
export interface PickleTable {
  /** By `module.name`; `call` is what applying it to arguments gives. */
  readonly globals: ReadonlyMap<string, PickledGlobal>;
  /** A reference to something outside of the pickle. */
  persistent(id: Pickled): Opaque;
}

export interface PickledGlobal extends Opaque {
  readonly call?: (args: readonly Pickled[]) => Pickled;
}

/** Why a pickle is not read. */
export class PickleFault extends Error {
  override readonly name = "PickleFault";
}

const mark = Symbol("mark");
type Slot = Pickled | typeof mark;

/** Objects that a pickle may hold: each costs a hundred bytes and more, for one byte in the file. */
const mostObjects = 2 ** 20;
const longestLine = 200;

/** Reads one pickle from `at` on; `end` is where the next may begin. */
export function readPickle(
  bytes: Uint8Array,
  table: PickleTable,
  at = 0,
): { readonly value: Pickled; readonly end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: Slot[] = [], memo = new Map<number, Pickled>();
  let objects = 0;

  const take = (count: number): number => {
    if (!(count <= bytes.length - at)) throw new EndOfPart("the pickle is cut short");
    return (at += count) - count;
  };
  const u8 = () => bytes[take(1)];
  const u16 = () => view.getUint16(take(2), true);
  const u32 = () => view.getUint32(take(4), true);
  const u64 = () => Number(view.getBigUint64(take(8), true));
  const made = <T extends Pickled>(value: T): T => {
    if (++objects > mostObjects) throw new PickleFault(`more than ${mostObjects} objects`);
    return value;
  };
  const text = (length: number): string => {
    const from = take(length);
    try {
      return made(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(from, at)));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new PickleFault("a text in it is not UTF-8");
    }
  };
  const line = (): string => {
    const from = at;
    while (u8() !== 10) if (at - from > longestLine) throw new PickleFault("a name has no end");
    return String.fromCharCode(...bytes.subarray(from, at - 1));
  };
  const pop = (): Pickled => {
    const value = stack.pop();
    if (value === undefined || value === mark) throw new PickleFault("its stack is empty");
    return value;
  };
  const top = (): Pickled => {
    const value = stack.at(-1);
    if (value === undefined || value === mark) throw new PickleFault("its stack is empty");
    return value;
  };
  const sinceMark = (): Pickled[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) throw new PickleFault("a mark is missing");
    return made(stack.splice(from).slice(1) as Pickled[]);
  };
  const popped = (count: number): Pickled[] => {
    const values = Array.from({ length: count }, pop);
    return made(values.reverse());
  };
  const global = (module: Pickled, name: Pickled): Opaque => {
    const full = `${module}.${name}`, found = table.globals.get(full);
    if (found) return found;
    throw new PickleFault(`it asks for ${JSON.stringify(full.slice(0, longestLine))}`);
  };
  const apply = (): Pickled => {
    const args = pop(), callee = pop() as PickledGlobal;
    if (!Array.isArray(args) || typeof callee?.call !== "function") {
      throw new PickleFault("it applies what is no function");
    }
    return made(callee.call(args));
  };
  const append = (values: readonly Pickled[]) => {
    const list = top();
    if (!Array.isArray(list)) throw new PickleFault("it appends to what is no list");
    for (const value of values) list.push(value);
  };
  const put = (pairs: readonly Pickled[]) => {
    const dict = top();
    if (!(dict instanceof Map) || pairs.length % 2 !== 0) {
      throw new PickleFault("it puts into what is no dict");
    }
    for (let i = 0; i < pairs.length; i += 2) dict.set(pairs[i], pairs[i + 1]);
  };
  const recall = (index: number): Pickled => {
    const value = memo.get(index);
    if (value === undefined) throw new PickleFault("it recalls what it never kept");
    return value;
  };

  /** By their codes; what is not here is refused. */
  const steps: Record<number, () => Pickled | typeof mark | void> = {
    0x28: () => mark,
    0x4e: () => null, // NONE
    0x88: () => true,
    0x89: () => false,
    0x4a: () => view.getInt32(take(4), true), // BININT
    0x4b: u8,
    0x4d: u16,
    0x8a: () => wholeNumber(bytes.subarray(take(u8()), at)), // LONG1
    0x47: () => view.getFloat64(take(8)), // BINFLOAT, big-endian
    0x58: () => text(u32()), // BINUNICODE
    0x8c: () => text(u8()),
    0x8d: () => text(u64()),
    0x54: () => text(u32()), // BINSTRING, Python 2's
    0x55: () => text(u8()),
    0x42: () => made(bytes.slice(take(u32()), at)), // BINBYTES
    0x43: () => made(bytes.slice(take(u8()), at)),
    0x5d: () => made([]), // EMPTY_LIST
    0x29: () => made([]), // EMPTY_TUPLE
    0x7d: () => made(new Map()), // EMPTY_DICT
    0x74: sinceMark, // TUPLE
    0x85: () => popped(1),
    0x86: () => popped(2),
    0x87: () => popped(3),
    0x61: () => append([pop()]), // APPEND
    0x65: () => append(sinceMark()),
    0x73: () => put([pop(), pop()].reverse()), // SETITEM
    0x75: () => put(sinceMark()),
    0x71: () => void memo.set(u8(), top()), // BINPUT
    0x72: () => void memo.set(u32(), top()),
    0x94: () => void memo.set(memo.size, top()), // MEMOIZE
    0x68: () => recall(u8()), // BINGET
    0x6a: () => recall(u32()),
    0x63: () => global(line(), line()), // GLOBAL
    0x93: () => { // STACK_GLOBAL
      const name = pop();
      return global(pop(), name);
    },
    0x52: apply, // REDUCE
    0x62: () => { // BUILD: attributes of a dict, such as versions of modules, say nothing of its items
      pop();
      if (!(top() instanceof Map)) throw new PickleFault("it sets what is no dict's");
    },
    0x51: () => made(table.persistent(pop())), // BINPERSID
    0x80: () => { // PROTO
      const protocol = u8();
      if (protocol > 5) throw new PickleFault(`it is of protocol ${protocol}`);
    },
    0x95: () => void u64(), // FRAME: only a hint
  };
  for (;;) {
    const code = u8();
    if (code === 0x2e) return { value: pop(), end: at }; // STOP
    const step = steps[code];
    if (!step) throw new PickleFault(`it has the instruction 0x${code.toString(16)}`);
    const value = step();
    if (value !== undefined) stack.push(value);
    if (stack.length + memo.size > 2 * mostObjects) throw new PickleFault("it piles up too much");
  }
}

/** Two's complement, little endian. */
function wholeNumber(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[i]);
  if (bytes.length > 0 && bytes[bytes.length - 1] > 127) value -= 1n << BigInt(8 * bytes.length);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
