import assert from "node:assert/strict";
import fc from "fast-check";
import { crc32c, encodeEvent, maskedCrc32c } from "../../../core/report/tensorboard.ts";
import { readEvents } from "./event_reader.ts";

const ascii = (text: string) => new TextEncoder().encode(text);

Deno.test("tensorboard: checksums are those of RFC 3720, B.4", () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
  assert.equal(crc32c(ascii("123456789")), 0xe3069283); // the check value of the CRC catalogue
});

Deno.test("tensorboard: masking rotates by 15 bits and adds its constant", () => {
  // by hand from 0xe3069283: >>> 15 is 0x1c60d, << 17 is 0x25060000; with 0xa282ead8 that is 0xc78ab0e5
  assert.equal(maskedCrc32c(ascii("123456789")), 0xc78ab0e5);
});

Deno.test("tensorboard: the first bytes of a file are those that TensorFlow writes", () => {
  // length 24, fields 1 (double) and 3 (13 bytes of text); the checksum of the length 24 is in every such file
  const bytes = encodeEvent({ kind: "version" }, 0);
  assert.deepEqual([...bytes.subarray(0, 8)], [24, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...bytes.subarray(8, 12)], [0xa3, 0x7f, 0x4b, 0x22]);
  assert.deepEqual([...bytes.subarray(12, 21)], [0x09, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...bytes.subarray(21, 23)], [0x1a, 13]);
  assert.deepEqual([...bytes.subarray(23, 36)], [...ascii("brain.Event:2")]);
});

Deno.test("tensorboard: any scalars are read back by another reader, steps beyond 32 bits, too", () => {
  const event = fc.record({
    step: fc.maxSafeNat(),
    scalars: fc.array(fc.tuple(fc.string({ unit: "grapheme" }), fc.float())),
    seconds: fc.double({ min: 0, max: 4e9, noNaN: true }),
  });
  fc.assert(fc.property(fc.array(event), (events) => {
    const records = events.map(({ seconds, ...rest }) =>
      encodeEvent({ kind: "scalars", ...rest }, seconds)
    );
    const read = readEvents(Uint8Array.from(records.flatMap((record) => [...record])));
    assert.deepEqual(
      read,
      events.map(({ step, scalars, seconds }) => ({ wallTime: seconds, step, scalars })),
    );
  }));
});
