/**
 * TensorBoard's event files: records of TFRecord, each an `Event` in protocol buffers' wire format.
 *
 * A record is its length (u64), the masked CRC-32C of those 8 bytes, its data, the masked CRC-32C of these; all little-endian
 * (tensorflow/core/lib/io/record_writer.h). Fields are those of tensorflow/core/util/event.proto and summary.proto.
 */

/** What an event says besides its time. */
export type TensorboardEvent =
  /** The first of each file. */
  | { readonly kind: "version" }
  /** A session begins: what earlier files have of this step and later ones is void. */
  | { readonly kind: "restart"; readonly step: number }
  | {
    readonly kind: "scalars";
    readonly step: number;
    readonly scalars: readonly (readonly [tag: string, value: number])[];
  };

/** An event as a record; `seconds` since 1970. */
export function encodeEvent(event: TensorboardEvent, seconds: number): Uint8Array<ArrayBuffer> {
  return frame(join([double(1, seconds), ...fieldsOf(event)]));
}

function fieldsOf(event: TensorboardEvent): Uint8Array[] {
  const session = 7, status = 1, start = 1;
  switch (event.kind) {
    case "version":
      return [text(3, "brain.Event:2")];
    case "restart":
      return [integer(2, event.step), message(session, [integer(status, start)])];
    case "scalars":
      return [
        integer(2, event.step),
        message(
          5,
          event.scalars.map(([tag, value]) => message(1, [text(1, tag), float(2, value)])),
        ),
      ];
  }
}

function frame(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(data.length + 16), view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc32c(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc32c(data), true);
  return record;
}

/** Fields in the wire format: a key, number · 8 + type, and the value. */
const integer = (field: number, value: number) => Uint8Array.of(8 * field, ...varint(value));
const message = (field: number, parts: readonly Uint8Array[]) => bytes(field, join(parts));
const text = (field: number, value: string) => bytes(field, new TextEncoder().encode(value));

function bytes(field: number, value: Uint8Array): Uint8Array {
  return join([Uint8Array.of(8 * field + 2, ...varint(value.length)), value]);
}

function double(field: number, value: number): Uint8Array {
  const encoded = new Uint8Array(9);
  encoded[0] = 8 * field + 1;
  new DataView(encoded.buffer).setFloat64(1, value, true);
  return encoded;
}

function float(field: number, value: number): Uint8Array {
  const encoded = new Uint8Array(5);
  encoded[0] = 8 * field + 5;
  new DataView(encoded.buffer).setFloat32(1, value, true);
  return encoded;
}

/** Seven bits a byte, the lowest first; steps may be beyond 32 bits. */
function varint(value: number): number[] {
  const found: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) found.push(value % 128 + 128);
  return [...found, value];
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** CRC-32C (Castagnoli, RFC 3720), reflected. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** Rotated and shifted, as checksums of data that hold checksums are weak. */
export function maskedCrc32c(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte >>> 0;
});
