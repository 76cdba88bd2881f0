import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { readInput } from "../../../core/io/input_file.ts";
import { joinBytes } from "../../../core/io/lines.ts";
import { decompressZstd } from "../../../core/io/zstd.ts";
import { withTempDir } from "../../support.ts";

async function* inChunks(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield await bytes.subarray(at, at + size);
}

const unpack = async (bytes: Uint8Array, size = 7) =>
  joinBytes(await Array.fromAsync(decompressZstd(inChunks(bytes, size), "a.zst")));
const textOf = async (bytes: Uint8Array) => new TextDecoder().decode(await unpack(bytes));
const bytesOf = (text: string) => new TextEncoder().encode(text);

const skippable = Uint8Array.of(0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5);
const noise = crypto.getRandomValues(new Uint8Array(5000));
const frames = [
  bytesOf("first "),
  noise, // stored as it is
  new Uint8Array(400_000), // blocks of one repeated byte
  bytesOf("words of a text ".repeat(30_000)), // several compressed blocks
  new Uint8Array(0),
  bytesOf("last"),
];

Deno.test("zstd: several frames, skippable ones between, in chunks of any size", async () => {
  const packed = joinBytes(frames.flatMap((frame) => [skippable, zstdCompressSync(frame)]));
  for (const size of [1, 7, 65_536]) {
    assert.deepEqual(await unpack(packed, size), joinBytes(frames));
  }
  assert.deepEqual(await unpack(skippable), new Uint8Array(0));
});

Deno.test("zstd: what node:zlib and its streams leave out is read or refused", async () => {
  const [one, two] = [zstdCompressSync(bytesOf("one ")), zstdCompressSync(bytesOf("two"))];
  assert.equal(await textOf(joinBytes([one, two])), "one two");
  assert.equal(await textOf(joinBytes([skippable, one])), "one ");
  const all = joinBytes([one, skippable, two]);
  const whole = [one.length, one.length + skippable.length, all.length];
  for (let length = 0; length < all.length; length++) {
    if (whole.includes(length)) continue;
    await assert.rejects(unpack(all.subarray(0, length)), {
      name: "UserError",
      where: "a.zst",
      message: length === 0 ? /the file is empty/ : /ends inside a zstd frame, at byte/,
    });
  }
});

Deno.test("zstd: a damaged frame and other bytes are named by their place", async () => {
  const one = zstdCompressSync(bytesOf("some text, and some text again"), { params: { 201: 1 } });
  const rubbish = joinBytes([one, bytesOf("rubbish")]);
  await assert.rejects(unpack(rubbish), {
    message: `the compressed data is damaged: byte ${one.length} does not begin a zstd frame`,
  });
  const wrongSum = one.map((byte, i) => i === one.length - 1 ? byte ^ 1 : byte);
  await assert.rejects(unpack(joinBytes([one, wrongSum])), {
    message: new RegExp(`damaged: the zstd frame at byte ${one.length}: `),
  });
  const byte = fc.nat({ max: one.length - 1 });
  await fc.assert(fc.asyncProperty(byte, fc.integer({ min: 1, max: 255 }), async (at, flip) => {
    const bent = one.map((value, i) => i === at ? value ^ flip : value);
    const result = await textOf(bent).catch((error: Error) => error);
    // either it is refused, or the bit said nothing about the text
    if (typeof result !== "string") assert.equal(result.name, "UserError");
    else assert.equal(result, "some text, and some text again");
  }));
});

Deno.test("gzip: all members are read; a cut or bent file is refused", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/a.gz`;
    const read = async (bytes: Uint8Array) => {
      await Deno.writeFile(path, bytes);
      const chunks = await Array.fromAsync(readInput(path));
      return new TextDecoder().decode(joinBytes(chunks));
    };
    const [one, two] = [gzipSync(bytesOf("one ")), gzipSync(bytesOf("two"))];
    const all = joinBytes([one, two]);
    assert.equal(await read(all), "one two");
    assert.equal(await read(joinBytes([all, new Uint8Array(512)])), "one two"); // padding
    const refused = async (bytes: Uint8Array, message: RegExp) =>
      await assert.rejects(read(bytes), { name: "UserError", where: path, message });
    for (const cut of [0, 5, one.length - 1, one.length + 4, all.length - 1]) {
      await refused(all.subarray(0, cut), /damaged: gzip: unexpected end of file/);
    }
    await refused(joinBytes([all, bytesOf("rubbish")]), /damaged: gzip: incorrect header/);
    await refused(all.map((byte, i) => i === one.length - 6 ? byte ^ 1 : byte), /incorrect data/);
    await refused(bytesOf("plain text"), /incorrect header/);
  });
});

Deno.test("readInput: a reader that stops early leaves no open file", async () => {
  await withTempDir(async (dir) => {
    const text = bytesOf("a line\n".repeat(200_000));
    const files = { "a.txt": text, "a.gz": gzipSync(text), "a.zst": zstdCompressSync(text) };
    for (const [name, bytes] of Object.entries(files)) {
      await Deno.writeFile(`${dir}/${name}`, bytes);
      for await (const chunk of readInput(`${dir}/${name}`)) {
        assert.equal(chunk[0], "a".charCodeAt(0));
        break;
      }
    }
  });
});
