/** Element types of tensors in files, and the arrays that their values come as. */

/** Each dtype's array, by safetensors' own name; bf16 comes as its raw bits, truth values as bytes. */
export const dtypeArrays = {
  F64: Float64Array,
  I64: BigInt64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Float16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U8: Uint8Array,
  I8: Int8Array,
  BOOL: Uint8Array,
} as const;

export type Dtype = keyof typeof dtypeArrays;

/** The values of a tensor; `BF16` as a `Uint16Array` of bit patterns. */
export type TensorData = InstanceType<typeof dtypeArrays[Dtype]>;

export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(dtypeArrays, value);
}

/** The bytes of one element. */
export function dtypeBytes(dtype: Dtype): number {
  return dtypeArrays[dtype].BYTES_PER_ELEMENT;
}

/** Values of a dtype from the bytes of memory of their own. */
export function valuesOf(dtype: Dtype, bytes: Uint8Array<ArrayBuffer>): TensorData {
  return new dtypeArrays[dtype](bytes.buffer);
}

/** Floats of any width as f32 into other memory of as many. */
export function widen(values: TensorData, dtype: Dtype, into: Float32Array): void {
  if (dtype === "BF16") {
    const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
    const halves = values as Uint16Array;
    for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  } else if (dtype === "F16" || dtype === "F64" || dtype === "F32") {
    into.set(values as Float64Array);
  } else throw new RangeError(`${dtype} is no float`);
}
