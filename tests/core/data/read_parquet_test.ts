import assert from "node:assert/strict";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { type ColumnSource, parquetWriteBuffer } from "hyparquet-writer";
import type { ReadOptions } from "../../../core/data/documents.ts";
import type { UserError } from "../../../core/io/errors.ts";
import { withTempDir } from "../../support.ts";
import { readDocuments } from "./support.ts";

type WriteOptions = Partial<Parameters<typeof parquetWriteBuffer>[0]>;

/** Writes columns, and reads the texts back; what was skipped with its row; how much was read. */
async function writeAndRead(
  columnData: ColumnSource[],
  options: Partial<ReadOptions> = {},
  writing: WriteOptions = {},
) {
  return await withTempDir(async (dir) => {
    const path = `${dir}/a.parquet`;
    const written = new Uint8Array(parquetWriteBuffer({ ...writing, columnData }));
    await Deno.writeFile(path, written);
    return { ...await readAll(path, options), size: written.length };
  });
}

async function readAll(path: string, options: Partial<ReadOptions> = {}) {
  const skipped: string[] = [];
  let bytesRead = 0;
  const documents = readDocuments(
    [path],
    { format: "auto", fields: ["text"], separator: undefined, onError: "stop", ...options },
    ({ where, message }: UserError) =>
      skipped.push(`${where?.slice(where.lastIndexOf("/") + 1)}: ${message}`),
    (bytes) => bytesRead += bytes,
  );
  const texts = await Array.fromAsync(documents, ({ text }) => text);
  return { texts, skipped, bytesRead };
}

const column = (name: string, data: unknown[], traits: Partial<ColumnSource> = {}) => ({
  name,
  data,
  type: "STRING" as const,
  ...traits,
});

Deno.test("parquet: a document a row, over row groups and pages, of the asked column alone", async () => {
  const texts = Array.from({ length: 1000 }, (_, i) => `row ${i}: é 🙂\r\n\u2028\0 ${i % 7}`);
  const ballast = texts.map((_, i) => `${i} `.repeat(500));
  const columns = [column("ballast", ballast), column("text", texts)];
  const { texts: read, bytesRead, size } = await writeAndRead(columns, {}, {
    rowGroupSize: 300,
    pageSize: 2000,
    codec: "UNCOMPRESSED",
  });
  assert.deepEqual(read, texts);
  // the file's end is read ahead, as its length is not known: half a megabyte at most
  assert.ok(bytesRead < size / 2, `${bytesRead} of ${size}`);
});

Deno.test("parquet: dictionaries, optional columns, plain bytes, every codec that is in use", async () => {
  const texts = Array.from({ length: 60 }, (_, i) => `one of few ${i % 3}`);
  const compressors = { GZIP: gzipSync, ZSTD: zstdCompressSync, BROTLI: brotliCompressSync };
  for (const codec of ["SNAPPY", "UNCOMPRESSED", "GZIP", "ZSTD", "BROTLI"] as const) {
    const writing = { codec, compressors };
    assert.deepEqual((await writeAndRead([column("text", texts)], {}, writing)).texts, texts);
  }
  const bytes = texts.map((text) => new TextEncoder().encode(text));
  const asBytes = await writeAndRead([column("text", bytes, { type: "BYTE_ARRAY" })]);
  assert.deepEqual(asBytes.texts, texts);
  const several = [column("q", ["why", "how"]), column("a", ["so", ""])];
  const joined = await writeAndRead(several, { fields: ["q", "a"] });
  assert.deepEqual(joined.texts, ["why\n\nso", "how"]);
});

Deno.test("parquet: a row that cannot be used is named, and stops or is skipped", async () => {
  const good = new TextEncoder().encode("good");
  const bytes = [good, Uint8Array.of(97, 0xff, 98), good];
  const bad = [column("text", bytes, { type: "BYTE_ARRAY" })];
  const skip = { onError: "skip" } as const;
  assert.deepEqual((await writeAndRead(bad, skip, { rowGroupSize: 1 })).skipped, [
    'a.parquet:row 2: the field "text" is not valid UTF-8: 0xff at byte 1',
  ]);
  await assert.rejects(writeAndRead(bad), { name: "UserError", message: /not valid UTF-8/ });
  const empty = await writeAndRead([column("text", ["a", null, "b"], { nullable: true })], skip);
  assert.deepEqual(empty.skipped, ['a.parquet:row 2: the field "text" is not text']);
  const numbers = await writeAndRead([column("text", [1, 2], { type: "INT32" })], skip);
  assert.equal(numbers.skipped.length, 2);
});

Deno.test("parquet: a missing column, another kind of file and a cut one are refused", async () => {
  const columns = [column("texts", ["a"]), column("url", ["b"])];
  await assert.rejects(writeAndRead(columns), {
    message: 'there is no column "text" (did you mean "texts"?)',
    hint: "name one with --field: texts, url",
  });
  await withTempDir(async (dir) => {
    const refused = async (name: string, bytes: Uint8Array, message: RegExp) => {
      await Deno.writeFile(`${dir}/${name}`, bytes);
      const where = `${dir}/${name}`;
      await assert.rejects(readAll(where), { name: "UserError", where, message });
    };
    const file = new Uint8Array(parquetWriteBuffer({ columnData: [column("text", ["a", "b"])] }));
    await refused("a.parquet", file.subarray(0, -9), /cannot be read as parquet/);
    await refused("b.parquet", file.subarray(0, 3), /cannot be read as parquet/);
    await refused("c.parquet", new Uint8Array(0), /cannot be read as parquet/);
    await refused("d.parquet.gz", file, /read from a plain file/);
    await assert.rejects(readAll("-", { format: "parquet" }), { message: /from a plain file/ });
    await assert.rejects(readAll(`${dir}/none.parquet`), { message: /there is no such file/ });
    await assert.rejects(readAll(dir, { format: "parquet" }), { message: /this is a folder/ });
  });
});
