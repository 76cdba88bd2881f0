/** Writes what torch.save writes, after the formats' descriptions; knows nothing of the reader. */

/** A value of a pickle: JS has them all but tuples, names and what is made of them. */
export type Value =
  | null
  | boolean
  | number
  | string
  | readonly Value[]
  | Map<Value, Value>
  | { readonly tuple: readonly Value[] }
  | { readonly global: string }
  | { readonly call: readonly [callee: string, args: readonly Value[]]; readonly state?: Value }
  | { readonly persistent: Value };

export const tuple = (...items: readonly Value[]): Value => ({ tuple: items });
export const dict = (items: Record<string, Value>): Map<Value, Value> =>
  new Map(Object.entries(items));

/** `module name` as torch's pickles have them. */
export function orderedDict(items: Record<string, Value>): Value {
  const pairs = Object.entries(items).map(([key, value]) => tuple(key, value));
  return { call: ["collections OrderedDict", [pairs]], state: dict({ _metadata: dict({}) }) };
}

export interface TensorPlace {
  readonly type: string;
  readonly key: string;
  readonly numbers: number;
  readonly offset?: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** A tensor as torch 1.6 and later describe it. */
export function tensor(
  { type, key, numbers, offset = 0, shape, strides }: TensorPlace,
  isLegacy = false,
): Value {
  const id = tuple("storage", { global: `torch ${type}` }, key, "cpu", numbers);
  const old = tuple(...(id as { tuple: Value[] }).tuple, null);
  const noHooks: Value = { call: ["collections OrderedDict", []] };
  const sizes = tuple(...shape), steps = tuple(...strides);
  const place = [{ persistent: isLegacy ? old : id }, offset, sizes, steps, false, noHooks];
  return { call: ["torch._utils _rebuild_tensor_v2", place] };
}

/** Protocol 2. */
export function pickleOf(value: Value): Uint8Array<ArrayBuffer> {
  const out: number[] = [0x80, 2];
  const u32 = (n: number) => out.push(n & 255, n >>> 8 & 255, n >>> 16 & 255, n >>> 24 & 255);
  const line = (text: string) => out.push(...new TextEncoder().encode(text), 10);
  const write = (value: Value): void => {
    if (value === null) return void out.push(0x4e);
    if (typeof value === "boolean") return void out.push(value ? 0x88 : 0x89);
    if (typeof value === "string") {
      const bytes = new TextEncoder().encode(value);
      out.push(0x58);
      u32(bytes.length);
      return void out.push(...bytes);
    }
    if (typeof value === "number") {
      if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
        out.push(0x4a);
        return void u32(value);
      }
      const view = new DataView(new ArrayBuffer(8));
      if (Number.isInteger(value)) {
        view.setBigInt64(0, BigInt(value), true);
        out.push(0x8a, 8);
      } else {
        view.setFloat64(0, value);
        out.push(0x47);
      }
      return void out.push(...new Uint8Array(view.buffer));
    }
    if (value instanceof Map) {
      out.push(0x7d, 0x28);
      for (const [key, item] of value) [key, item].forEach(write);
      return void out.push(0x75);
    }
    if (isList(value)) {
      out.push(0x5d, 0x28);
      value.forEach(write);
      return void out.push(0x65);
    }
    if ("tuple" in value) {
      out.push(0x28);
      value.tuple.forEach(write);
      return void out.push(0x74);
    }
    if ("global" in value) return writeGlobal(value.global);
    if ("persistent" in value) {
      write(value.persistent);
      return void out.push(0x51);
    }
    const { call: [callee, args], state } = value;
    writeGlobal(callee);
    write(tuple(...args));
    out.push(0x52);
    if (state === undefined) return;
    write(state);
    out.push(0x62);
  };
  const writeGlobal = (full: string) => {
    const [module, name] = full.split(" ");
    out.push(0x63);
    line(module);
    line(name);
  };
  write(value);
  out.push(0x2e);
  return Uint8Array.from(out);
}

function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export interface Entry {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** What the directory says instead of the truth. */
  readonly method?: number;
  readonly flags?: number;
  readonly size?: number;
  readonly local?: number;
  /** Sizes and offset in the zip64 field. */
  readonly wide?: boolean;
}

/** Entries as they are, each aligned to 64 bytes as torch does. */
export function zipOf(
  entries: readonly Entry[],
  { wide = false, comment = "" } = {},
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [], text = new TextEncoder();
  let at = 0;
  const put = (bytes: Uint8Array) => {
    parts.push(bytes);
    at += bytes.length;
  };
  const record = (length: number, fill: (view: DataView) => void) => {
    const bytes = new Uint8Array(length);
    fill(new DataView(bytes.buffer));
    put(bytes);
  };
  const places = entries.map(({ name, bytes }) => {
    const local = at, encoded = text.encode(name);
    const padding = (64 - (at + 30 + encoded.length) % 64) % 64;
    record(30, (view) => {
      view.setUint32(0, 0x04034b50, true);
      view.setUint16(26, encoded.length, true);
      view.setUint16(28, padding, true);
    });
    put(encoded);
    put(new Uint8Array(padding));
    put(bytes);
    return local;
  });
  const begin = at;
  entries.forEach(({ name, bytes, method = 0, flags = 0x808, ...says }, i) => {
    const encoded = text.encode(name), size = says.size ?? bytes.length;
    const local = says.local ?? places[i], isWide = says.wide ?? false;
    record(46, (view) => {
      view.setUint32(0, 0x02014b50, true);
      view.setUint16(8, flags, true);
      view.setUint16(10, method, true);
      view.setUint32(20, isWide ? 0xffffffff : size, true);
      view.setUint32(24, isWide ? 0xffffffff : size, true);
      view.setUint16(28, encoded.length, true);
      view.setUint16(30, isWide ? 28 : 0, true);
      view.setUint32(42, isWide ? 0xffffffff : local, true);
    });
    put(encoded);
    if (!isWide) return;
    record(28, (view) => {
      view.setUint16(0, 1, true);
      view.setUint16(2, 24, true);
      view.setBigUint64(4, BigInt(size), true);
      view.setBigUint64(12, BigInt(size), true);
      view.setBigUint64(20, BigInt(local), true);
    });
  });
  const bytes = at - begin, count = entries.length, recordAt = at;
  if (wide) {
    record(56, (view) => {
      view.setUint32(0, 0x06064b50, true);
      view.setBigUint64(4, 44n, true);
      view.setBigUint64(24, BigInt(count), true);
      view.setBigUint64(32, BigInt(count), true);
      view.setBigUint64(40, BigInt(bytes), true);
      view.setBigUint64(48, BigInt(begin), true);
    });
    record(20, (view) => {
      view.setUint32(0, 0x07064b50, true);
      view.setBigUint64(8, BigInt(recordAt), true);
      view.setUint32(16, 1, true);
    });
  }
  record(22, (view) => {
    view.setUint32(0, 0x06054b50, true);
    view.setUint16(8, wide ? 0xffff : count, true);
    view.setUint16(10, wide ? 0xffff : count, true);
    view.setUint32(12, wide ? 0xffffffff : bytes, true);
    view.setUint32(16, wide ? 0xffffffff : begin, true);
    view.setUint16(20, comment.length, true);
  });
  put(text.encode(comment));
  return joined(parts);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export type Storages = Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>;

export const bytesOf = (view: ArrayBufferView<ArrayBuffer>): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** The entries of an archive of torch.save. */
export function torchEntries(root: Value, storages: Storages): Entry[] {
  return [
    { name: "archive/data.pkl", bytes: pickleOf(root) },
    { name: "archive/byteorder", bytes: new TextEncoder().encode("little") },
    ...Object.entries(storages).map(([key, view]) => ({
      name: `archive/data/${key}`,
      bytes: bytesOf(view),
    })),
    { name: "archive/version", bytes: new TextEncoder().encode("3\n") },
  ];
}

/** As PyTorch before 1.6 wrote: pickles, then the storages. */
export function legacyOf(root: Value, storages: Storages, widths: Record<string, number>) {
  const magic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  return joined([
    Uint8Array.of(...magic, 0x2e),
    pickleOf(1001),
    pickleOf(dict({ protocol_version: 1001, little_endian: true })),
    pickleOf(root),
    pickleOf(Object.keys(storages)),
    ...Object.entries(storages).flatMap(([key, view]) => {
      const count = new BigInt64Array([BigInt(view.byteLength / widths[key])]);
      return [bytesOf(count), bytesOf(view)];
    }),
  ]);
}
