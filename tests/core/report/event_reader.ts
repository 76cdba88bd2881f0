/** A reader of TensorBoard's event files that shares nothing with the writer: fields by a table, checksums bit by bit. */

import assert from "node:assert/strict";

export interface ReadEvent {
  wallTime?: number;
  step?: number;
  version?: string;
  /** 1 is the start of a session. */
  sessionStatus?: number;
  scalars?: [string, number][];
}

/** Every event of a file, its checksums checked. */
export function readEvents(file: Uint8Array): ReadEvent[] {
  const events: ReadEvent[] = [];
  for (let at = 0; at < file.length;) {
    const view = new DataView(file.buffer, file.byteOffset + at);
    const length = Number(view.getBigUint64(0, true));
    assert.equal(
      view.getUint32(8, true),
      masked(file.subarray(at, at + 8)),
      "the length's checksum",
    );
    const data = file.subarray(at + 12, at + 12 + length);
    assert.equal(data.length, length, "a whole record");
    assert.equal(view.getUint32(12 + length, true), masked(data), "the data's checksum");
    events.push(eventIn(data));
    at += 16 + length;
  }
  return events;
}

function masked(data: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of data) {
    for (let bit = 0n; bit < 8n; bit++) {
      const low = (crc ^ (BigInt(byte) >> bit)) & 1n;
      crc = (crc >> 1n) ^ (low ? 0x82f63b78n : 0n);
    }
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

function eventIn(data: Uint8Array): ReadEvent {
  const event: ReadEvent = {};
  for (const [field, value] of fieldsIn(data)) {
    if (field === 1) event.wallTime = viewOf(value).getFloat64(0, true);
    else if (field === 2) event.step = Number(value);
    else if (field === 3) event.version = textOf(value);
    else if (field === 5) {
      event.scalars = [...fieldsIn(value as Uint8Array)].map(([, one]) => scalarIn(one));
    } else if (field === 7) {
      [[, event.sessionStatus]] = [...fieldsIn(value as Uint8Array)].map((
        [f, v],
      ) => [f, Number(v)]);
    } else assert.fail(`field ${field}`);
  }
  return event;
}

function scalarIn(data: bigint | Uint8Array): [string, number] {
  const fields = new Map(fieldsIn(data as Uint8Array));
  return [textOf(fields.get(1)!), viewOf(fields.get(2)!).getFloat32(0, true)];
}

const viewOf = (value: bigint | Uint8Array) => {
  const { buffer, byteOffset, byteLength } = value as Uint8Array;
  return new DataView(buffer, byteOffset, byteLength);
};
const textOf = (value: bigint | Uint8Array) =>
  new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value as Uint8Array);

/** Number and value of each field: integers as such, all else as bytes. */
function* fieldsIn(data: Uint8Array): Generator<[number, bigint | Uint8Array]> {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
      const byte = data[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const key = Number(varint()), type = key & 7, field = key >> 3;
    if (type === 0) yield [field, varint()];
    else {
      const length = type === 1
        ? 8
        : type === 5
        ? 4
        : type === 2
        ? Number(varint())
        : assert.fail(`type ${type}`);
      yield [field, data.subarray(at, at += length)];
    }
  }
}
