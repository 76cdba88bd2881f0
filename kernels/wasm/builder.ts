/**
 * WASM functions as bytes. Kernels are written with a `FunctionBuilder`: expressions come from
 * `opcodes.ts`, statements are calls that append to the block being written.
 *
 *     const out = f.arg(0), x = f.arg(1), two = f.constant(2), i = f.i32();
 *     f.forRange(i, i32.shl(f.begin, 2), i32.shl(f.end, 2), 16, () => {
 *       f.store(i32.add(out, i), f32x4.mul(two, v128.load(i32.add(x, i))));
 *     });
 *
 * Nothing here knows of tensors.
 */

import {
  type Bytes,
  type Code,
  f32,
  type F32Value,
  type F64,
  type I32,
  i32,
  type I32Value,
  type Local,
  unsigned,
  type V128,
  type ValueType,
} from "./opcodes.ts";

/**
 * The type of addresses. memory64 was measured: no slower in loops, but its arguments are BigInts
 * in JavaScript.
 */
export const addressType = "i32" satisfies ValueType;

export const typeBytes: Record<ValueType, number> = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const emptyBlock = 0x40, end = 0x0b;

/** A function that kernels call: emitted once per module, however many kernels use it. */
export interface Helper<P extends readonly ValueType[] = readonly ValueType[]> {
  readonly key: string;
  readonly params: P;
  build(f: FunctionBuilder, ...params: { -readonly [I in keyof P]: Local<P[I]> }): void;
}

/** Types the parameters of `build` by `params`. */
export function defineHelper<const P extends readonly ValueType[]>(helper: Helper<P>): Helper<P> {
  return helper;
}

type Values<P extends readonly ValueType[]> = {
  -readonly [I in keyof P]: P[I] extends "i32" ? I32Value
    : P[I] extends "f32" ? F32Value
    : Code<P[I]>;
};

export function local<T extends ValueType>(index: number): Local<T> {
  return Object.assign([0x20, ...unsigned(index)], { index }) as unknown as Local<T>;
}

/**
 * One function while it is written. A kernel's parameters are always `args`, `begin`, `end` and
 * `scratch`.
 */
export class FunctionBuilder {
  /** Address of the job's argument words; `arg` and `argF32` read them. */
  readonly args: Local<"i32">;
  /** The units to do: begin..end. */
  readonly begin: Local<"i32">;
  readonly end: Local<"i32">;
  /** Address of the member's own scratch. */
  readonly scratch: Local<"i32">;
  readonly params: readonly ValueType[];
  readonly helpers = new Map<string, Helper>();
  #locals: ValueType[] = [];
  #prologue: Bytes[] = [];
  #block: Bytes[] = [];
  #known = new Map<string, Local<ValueType>>();

  constructor(params: readonly ValueType[] = [addressType, "i32", "i32", addressType]) {
    this.params = params;
    [this.args, this.begin, this.end, this.scratch] = [0, 1, 2, 3].map((n) => local<"i32">(n));
  }

  /** A new variable; without a value it starts at 0 (once, not each time round a loop). */
  i32(value?: I32Value): Local<"i32"> {
    return this.#declare("i32", typeof value === "number" ? i32.const(value) : value);
  }
  f32(value?: F32Value): Local<"f32"> {
    return this.#declare("f32", typeof value === "number" ? f32.const(value) : value);
  }
  f64(value?: F64): Local<"f64"> {
    return this.#declare("f64", value);
  }
  v128(value?: V128): Local<"v128"> {
    return this.#declare("v128", value);
  }
  /** Several vectors at once: the accumulators of a tile. */
  vectors(count: number): Local<"v128">[] {
    return Array.from({ length: count }, () => this.v128());
  }

  #declare<T extends ValueType>(type: T, value?: Code<T>): Local<T> {
    this.#locals.push(type);
    const variable = local<T>(this.params.length + this.#locals.length - 1);
    if (value) this.emit([value, 0x21, ...unsigned(variable.index)]);
    return variable;
  }

  /** A variable set at the start of the function, shared by all who ask for the same key. */
  #once<T extends ValueType>(key: string, type: T, value: Code<T>): Local<T> {
    const known = this.#known.get(key) as Local<T> | undefined;
    if (known) return known;
    const variable = this.#declare(type);
    this.#prologue.push([value, 0x21, ...unsigned(variable.index)]);
    this.#known.set(key, variable as Local<ValueType>);
    return variable;
  }

  /** Argument word `n`, read once at the start. Only in kernels, not in helpers. */
  arg(n: number): Local<"i32"> {
    return this.#once(`arg ${n}`, "i32", i32.load(this.args, 4 * n));
  }
  argF32(n: number): Local<"f32"> {
    return this.#once(`argF32 ${n}`, "f32", f32.load(this.args, 4 * n));
  }

  /**
   * A number in all four lanes, set once before the function's loops: `v128.const` inside a loop is
   * paid for on every round (exp: 2.4 → 1.4 ns an element).
   */
  constant(value: number): Local<"v128"> {
    return this.#bits(new Float32Array(4).fill(value));
  }
  /** An integer, or a bit pattern, in all four lanes. */
  constantI32(value: number): Local<"v128"> {
    return this.#bits(new Int32Array(4).fill(value));
  }
  /** Four different floats. */
  constants(lanes: readonly [number, number, number, number]): Local<"v128"> {
    return this.#bits(new Float32Array(lanes));
  }
  #bits(lanes: Float32Array | Int32Array): Local<"v128"> {
    const bytes = [...new Uint8Array(lanes.buffer)];
    return this.#once(`v128 ${bytes}`, "v128", [0xfd, 0x0c, bytes]);
  }

  /** Appends code that leaves nothing on the stack. */
  emit(code: Bytes): void {
    this.#block.push(code);
  }

  /** Runs `write` and returns what it appended, instead of appending it. */
  capture(write: () => void): Bytes {
    const outer = this.#block;
    this.#block = [];
    try {
      write();
      return this.#block;
    } finally {
      this.#block = outer;
    }
  }

  set<T extends ValueType>(
    variable: Local<T>,
    value: Code<T> | (T extends "i32" | "f32" ? number : never),
  ): void {
    const code = typeof value !== "number"
      ? value
      : this.typeOf(variable) === "f32"
      ? f32.const(value)
      : i32.const(value);
    this.emit([code, 0x21, ...unsigned(variable.index)]);
  }
  /** variable += amount, for counters and addresses. */
  advance(variable: Local<"i32">, amount: I32Value): void {
    this.set(variable, i32.add(variable, amount));
  }
  typeOf(variable: Local<ValueType>): ValueType {
    return this.params[variable.index] ?? this.#locals[variable.index - this.params.length];
  }

  #store(
    opcode: readonly number[],
    address: I32Value,
    value: Bytes,
    offset: number,
    lane: readonly number[] = [],
  ): void {
    this.emit([
      typeof address === "number" ? i32.const(address) : address,
      value,
      opcode,
      0,
      unsigned(offset),
      lane,
    ]);
  }
  store(address: I32Value, value: V128, offset = 0): void {
    this.#store([0xfd, 0x0b], address, value, offset);
  }
  storeI32(address: I32Value, value: I32Value, offset = 0): void {
    this.#store([0x36], address, typeof value === "number" ? i32.const(value) : value, offset);
  }
  store16(address: I32Value, value: I32, offset = 0): void {
    this.#store([0x3b], address, value, offset);
  }
  storeF32(address: I32Value, value: F32Value, offset = 0): void {
    this.#store([0x38], address, typeof value === "number" ? f32.const(value) : value, offset);
  }
  storeF64(address: I32Value, value: F64, offset = 0): void {
    this.#store([0x39], address, value, offset);
  }
  store32Lane(address: I32Value, value: V128, lane: number, offset = 0): void {
    this.#store([0xfd, 0x5a], address, value, offset, [lane]);
  }
  store64Lane(address: I32Value, value: V128, lane: number, offset = 0): void {
    this.#store([0xfd, 0x5b], address, value, offset, [lane]);
  }

  /**
   * i = begin; while (i < end) { body; i += step }, compared unsigned, so `i` may be an address;
   * `end` is computed once. A negative `end` is a huge one: clamp first. After the loop `i` is the
   * first value that did not pass.
   */
  forRange(
    i: Local<"i32">,
    begin: I32Value,
    end: I32Value,
    step: I32Value,
    body: () => void,
  ): void {
    const bound = this.#fixed(end), stride = this.#fixed(step);
    this.set(i, begin);
    this.if(i32.ltU(i, bound), () => {
      this.emit([0x03, emptyBlock]);
      body();
      this.advance(i, stride);
      this.emit([i32.ltU(i, bound), 0x0d, 0, 0x0b]);
    });
  }
  #fixed(value: I32Value): I32Value {
    return typeof value === "number" || "index" in value ? value : this.i32(value);
  }

  while(condition: I32, body: () => void): void {
    this.if(condition, () => {
      this.emit([0x03, emptyBlock]);
      body();
      this.emit([condition, 0x0d, 0, 0x0b]);
    });
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    this.emit([condition, 0x04, emptyBlock]);
    then();
    if (otherwise) {
      this.emit([0x05]);
      otherwise();
    }
    this.emit([end]);
  }

  /** Calls a function that the module will then contain. */
  call<const P extends readonly ValueType[]>(helper: Helper<P>, ...values: Values<P>): void {
    this.helpers.set(helper.key, helper as unknown as Helper);
    const operands = helper.params.map((type, n): Bytes => {
      const value = values[n] as Bytes | number;
      return typeof value !== "number"
        ? value
        : type === "f32"
        ? f32.const(value)
        : i32.const(value);
    });
    this.emit([operands, 0x10, { callee: helper.key }]);
  }

  /** The function's entry in the code section. */
  bytes(indexOf: (callee: string) => number): number[] {
    const locals = this.#locals.map((type) => [1, typeBytes[type]]);
    const body = flatten([vector(locals), this.#prologue, this.#block, end], indexOf);
    return [...unsigned(body.length), ...body];
  }
}

export function flatten(
  code: Bytes,
  indexOf: (callee: string) => number,
  out: number[] = [],
): number[] {
  for (const part of code) {
    if (typeof part === "number") out.push(part);
    else if ("callee" in part) out.push(...unsigned(indexOf(part.callee)));
    else flatten(part, indexOf, out);
  }
  return out;
}

/** A vector of the binary format: its length, then its items. */
export const vector = (items: readonly Bytes[]): Bytes => [unsigned(items.length), items];
