/**
 * Four elements at a time, to and from memory, in every storage type and stride. Reads may pass the
 * end of a row (buffers keep 64 bytes of slack); writes never do, as the next bytes may be another
 * member's.
 */

import type { Dtype } from "../../core/graph/tensor.ts";
import {
  f32,
  f32x4,
  type FunctionBuilder,
  type I32,
  i32,
  i32x4,
  type Local,
  type V128,
  v128,
} from "./encode.ts";
import type { Stored } from "./panels.ts";
import { bf16Bits, type VectorMath, vectorMath } from "./scalar.ts";

/**
 * How a type is moved: integers as floats, bit by bit. `undefined` for f16, which has no WASM form.
 */
export function storedAs(dtype: Dtype): Stored | undefined {
  return dtype === "f16" ? undefined : dtype === "bf16" ? "bf16" : "f32";
}

/** log2 of the bytes that one element takes. */
export const sizeShift = (type: Stored) => type === "bf16" ? 1 : 2;

/** Elements 4 · vector .. from `address` on. */
export function loadDense(type: Stored, address: I32, vector = 0): V128 {
  return type === "f32"
    ? v128.load(address, 16 * vector)
    : i32x4.shl(v128.load16x4u(address, 8 * vector), 16);
}

/** One element in all lanes. */
export function loadRepeated(type: Stored, address: I32): V128 {
  return type === "f32"
    ? v128.load32Splat(address)
    : i32x4.shl(i32x4.splat(i32.load16u(address)), 16);
}

/** Elements at four addresses. */
export function loadGathered(type: Stored, addresses: readonly I32[]): V128 {
  const [first, ...rest] = addresses;
  if (type === "f32") {
    return rest.reduce<V128>(
      (sum, at, n) => v128.load32Lane(at, sum, n + 1),
      v128.load32Zero(first),
    );
  }
  const halves = rest.reduce<V128>(
    (sum, at, n) => i32x4.replaceLane(sum, n + 1, i32.load16u(at)),
    i32x4.splat(i32.load16u(first)),
  );
  return i32x4.shl(halves, 16);
}

/** bf16 bits of four lanes, packed into the low half. */
function packed(s: VectorMath, value: Local<"v128">): V128 {
  const bits = s.keep(bf16Bits(s, value));
  return v128.shuffle16(bits, bits, [0, 2, 4, 6, 0, 2, 4, 6]);
}

export function storeDense(
  s: VectorMath,
  type: Stored,
  address: I32,
  value: Local<"v128">,
  vector = 0,
): void {
  if (type === "f32") s.f.store(address, value, 16 * vector);
  else s.f.store64Lane(address, packed(s, value), 0, 8 * vector);
}

/** The first `rest` elements, 1 to 3. */
export function storePart(
  s: VectorMath,
  type: Stored,
  address: Local<"i32">,
  value: Local<"v128">,
  rest: Local<"i32">,
): void {
  const { f } = s, odd = i32.and(rest, 1), pair = i32.and(rest, 2);
  if (type === "f32") {
    f.if(pair, () => {
      f.store64Lane(address, value, 0);
      f.if(odd, () => f.store32Lane(address, value, 2, 8));
    }, () => f.store32Lane(address, value, 0));
    return;
  }
  const halves = s.keep(packed(s, value));
  f.if(pair, () => {
    f.store32Lane(address, halves, 0);
    f.if(odd, () => f.store16(address, i32x4.extractLane(halves, 1), 4));
  }, () => f.store16(address, i32x4.extractLane(halves, 0)));
}

/** One element, from the first lane. */
export function storeOne(
  s: VectorMath,
  type: Stored,
  address: Local<"i32">,
  value: Local<"v128">,
): void {
  if (type === "f32") s.f.storeF32(address, f32x4.extractLane(value, 0));
  else s.f.store16(address, i32x4.extractLane(s.keep(bf16Bits(s, value)), 0));
}

/** All bits in the first `rest` lanes, 1 to 3. */
export function firstLanes(s: VectorMath, rest: I32): V128 {
  return f32x4.lt(s.f.constants([0, 1, 2, 3]), f32x4.splat(f32.convertI32S(rest)));
}

/** Rows of f32 → rows of bf16; each side's address and bytes from row to row. */
export function halveRows(
  f: FunctionBuilder,
  [from, fromPitch]: readonly [I32, I32],
  [to, toPitch]: readonly [I32, I32],
  rows: I32,
  columns: I32,
): void {
  const s = vectorMath(f, false), row = f.i32(), at = f.i32(), rest = f.i32(), value = f.v128();
  const source = f.i32(from), target = f.i32(to), place = f.i32();
  f.forRange(row, 0, rows, 1, () => {
    overRow(f, columns, at, rest, (part) => {
      f.set(value, v128.load(i32.add(source, at)));
      f.set(place, i32.add(target, i32.shrU(at, 1)));
      if (part) storePart(s, "bf16", place, value, rest);
      else storeDense(s, "bf16", place, value);
    });
    f.advance(source, fromPitch);
    f.advance(target, toPitch);
  });
}

/**
 * Writes `body` twice: for whole vectors of a row of `count` elements, and for the 1 to 3 elements
 * left (`rest`). `at` is 4 bytes an element.
 */
export function overRow(
  f: FunctionBuilder,
  count: I32,
  at: Local<"i32">,
  rest: Local<"i32">,
  body: (part: boolean) => void,
): void {
  const elements = f.i32(count), vectors = f.i32(i32.and(i32.shl(elements, 2), -16));
  f.forRange(at, 0, vectors, 16, () => body(false));
  f.set(rest, i32.and(elements, 3));
  f.if(rest, () => {
    f.set(at, vectors);
    body(true);
  });
}
