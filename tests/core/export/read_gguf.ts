/** A reader of GGUF files of its own, after the format's description; knows nothing of the writer. */

export interface GgufFile {
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Values as f32, whatever they are stored as; sizes with the innermost axis first, as they stand there. */
  readonly tensors: ReadonlyMap<string, { sizes: number[]; type: number; values: Float32Array }>;
}

export function readGguf(bytes: Uint8Array): GgufFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (count: number) => (at += count) - count;
  const u32 = () => view.getUint32(take(4), true);
  const u64 = () => Number(view.getBigUint64(take(8), true));
  const text = () => {
    const length = u64(), from = take(length);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(from, from + length));
  };
  const value = (type: number): unknown => {
    switch (type) {
      case 4:
        return u32();
      case 5:
        return view.getInt32(take(4), true);
      case 6:
        return view.getFloat32(take(4), true);
      case 7:
        return view.getUint8(take(1)) === 1;
      case 8:
        return text();
      case 9: {
        const inner = u32(), count = u64();
        return Array.from({ length: count }, () => value(inner));
      }
      case 10:
        return u64();
    }
    throw new Error(`no type ${type}`);
  };
  if (new TextDecoder().decode(bytes.subarray(take(4), at)) !== "GGUF") throw new Error("magic");
  if (u32() !== 3) throw new Error("version");
  const tensorCount = u64(), pairs = u64();
  const metadata = Object.fromEntries(
    Array.from({ length: pairs }, () => [text(), value(u32())]),
  );
  const infos = Array.from({ length: tensorCount }, () => {
    const name = text();
    const sizes = Array.from({ length: u32() }, u64), type = u32(), offset = u64();
    return { name, sizes, type, offset };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors = new Map(infos.map(({ name, sizes, type, offset }) => {
    if (offset % 32 !== 0) throw new Error(`${name} is not aligned`);
    const count = sizes.reduce((a, b) => a * b, 1), from = start + offset;
    const values = Float32Array.from({ length: count }, (_, i) => {
      switch (type) {
        case 0:
          return view.getFloat32(from + 4 * i, true);
        case 1:
          return view.getFloat16(from + 2 * i, true);
        case 8: {
          const block = from + 34 * Math.floor(i / 32);
          return view.getFloat16(block, true) * view.getInt8(block + 2 + i % 32);
        }
      }
      throw new Error(`${name} has the type ${type}`);
    });
    return [name, { sizes, type, values }];
  }));
  return { metadata, tensors };
}
