import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeUtf8, firstInvalidByte, splitLines } from "../../../core/io/lines.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

/** The lines of bytes that arrive in chunks of the given size. */
async function linesOf(bytes: Uint8Array, chunkBytes = 7): Promise<string[]> {
  async function* chunks() {
    for (let i = 0; i < bytes.length; i += chunkBytes) yield bytes.slice(i, i + chunkBytes);
  }
  const lines = await Array.fromAsync(splitLines(chunks()));
  return lines.map((line) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(line.bytes));
}

Deno.test("replay: huggingface/datasets 3910: only a line feed ends a line", async () => {
  const record = JSON.stringify({ text: "a\u2028b\u2029c\u0085d\ve\ff\rg" });
  const raw = "a\u2028b\u2029c\u0085d\ve\ff\rg"; // also unescaped
  assert.deepEqual(await linesOf(utf8(`${record}\n${raw}\n`)), [record, raw]);
});

Deno.test("replay: microsoft/promptflow 4172: BOM, CRLF and no final newline are not text", async () => {
  const clean = await linesOf(utf8("one\n\ntwo\n"));
  assert.deepEqual(clean, ["one", "", "two"]);
  for (const chunkBytes of [1, 2, 3, 100]) {
    assert.deepEqual(await linesOf(utf8("\uFEFFone\r\n\r\ntwo"), chunkBytes), clean);
  }
  assert.deepEqual(await linesOf(utf8("a\n\uFEFFb")), ["a", "\uFEFFb"]); // elsewhere it is text
});

Deno.test("splitLines: does not depend on how the bytes arrive; offsets point into the file", async () => {
  const text = fc.string({ unit: fc.constantFrom("a", "é", "\n", "\r\n", "\r", "\u2028") });
  await fc.assert(fc.asyncProperty(text, fc.integer({ min: 1, max: 9 }), async (s, chunkBytes) => {
    const bytes = utf8(s);
    assert.deepEqual(await linesOf(bytes, chunkBytes), await linesOf(bytes, bytes.length + 1));
    for await (const line of splitLines(ReadableStream.from([bytes]))) {
      assert.deepEqual(bytes.slice(line.offset, line.offset + line.bytes.length), line.bytes);
    }
  }));
});

Deno.test("replay: jingyaogong/minimind 551: an invalid byte is named by file, line and byte", () => {
  const bytes = new Uint8Array([...utf8("fine\nsecond "), 0xff, ...utf8(" rest")]);
  assert.throws(() => decodeUtf8(bytes, { file: "data.txt", line: 10, offset: 1000 }), {
    name: "UserError",
    where: "data.txt:11",
    message: "not valid UTF-8: byte 0xff at offset 1012 of the file",
  });
});

Deno.test("firstInvalidByte: agrees with the platform's decoder on any bytes", () => {
  const isValid = (bytes: Uint8Array) => {
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return true;
    } catch {
      return false;
    }
  };
  const byte = fc.oneof(
    fc.nat({ max: 255 }),
    fc.constantFrom(0xe0, 0xed, 0xf0, 0xf4, 0x80, 0xbf, 0x9f),
  );
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 6 }), (values) => {
      const bytes = new Uint8Array(values);
      const at = firstInvalidByte(bytes);
      assert.equal(at === undefined, isValid(bytes));
      if (at !== undefined) assert.ok(isValid(bytes.subarray(0, at)));
    }),
    { numRuns: 3000 },
  );
  assert.equal(firstInvalidByte(utf8("aé漢🙂")), undefined);
});
