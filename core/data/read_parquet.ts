/**
 * Documents of a parquet file: one a row, of the columns that are asked for.
 *
 * @module
 */
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { didYouMean, exitCodes, messageOf, UserError } from "../io/errors.ts";
import { compressionOf, stdinName, unreadable } from "../io/input_file.ts";
import { firstInvalidByte } from "../io/lines.ts";
import { faultOf, type LongDocuments, type RowsBlock } from "./blocks.ts";
import type { ReadOptions } from "./documents.ts";
import { recordFault, textOfRecord } from "./record.ts";

/** Reads a parquet file, one row group in memory at a time. */
export async function* readParquet(
  path: string,
  { fields }: ReadOptions,
  { sizes }: LongDocuments,
  onRead: (bytes: number) => void,
): AsyncGenerator<RowsBlock> {
  const choose = (names: readonly string[]) => requireColumns(names, fields, path);
  for await (const { first, rows } of readRows(path, choose, onRead)) {
    let block: Row[] = [], size = 0;
    for (const [i, columns] of rows.entries()) {
      const row = readRow(columns, fields, `${path}:row ${first + i}`);
      block.push(row);
      size += "text" in row ? row.text.length : 0;
      if (size < sizes.block) continue;
      yield { kind: "rows", rows: block, size };
      [block, size] = [[], 0];
    }
    yield { kind: "rows", rows: block, size };
  }
}

/** The rows of a row group, texts as the bytes that they are. */
export interface RowGroup {
  /** The number of the first one, counted from 1. */
  readonly first: number;
  readonly rows: readonly Record<string, unknown>[];
}

/** The rows of a parquet file, of the columns that are chosen from all names. */
export async function* readRows(
  path: string,
  choose: (names: readonly string[]) => string[],
  onRead: (bytes: number) => void,
): AsyncGenerator<RowGroup> {
  using opened = openParquet(path, onRead);
  const { file } = opened;
  const metadata = await describingDamage(path, () => parquetMetadataAsync(file));
  const columns = choose(columnNames(metadata));
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    // the library would turn invalid UTF-8 into U+FFFD: the bytes are decoded here, row by row
    const options = { parsers: { stringFromBytes: (bytes: Uint8Array) => bytes }, compressors };
    const rows = await describingDamage(
      path,
      () => parquetReadObjects({ file, metadata, columns, rowStart, rowEnd, ...options }),
    );
    yield { first: rowStart + 1, rows };
    rowStart = rowEnd;
  }
}

/** All columns of a parquet file, a record a row; whole numbers are numbers as far as they are exact. */
export async function* readParquetRecords(path: string): AsyncGenerator<Record<string, unknown>> {
  using opened = openParquet(path, () => {});
  const { file } = opened;
  const metadata = await describingDamage(path, () => parquetMetadataAsync(file));
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await describingDamage(
      path,
      () => parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors }),
    );
    for (const row of rows) yield plain(row) as Record<string, unknown>;
    rowStart = rowEnd;
  }
}

/** 64-bit numbers come as bigints. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

type Row = RowsBlock["rows"][number];

function readRow(columns: Record<string, unknown>, fields: readonly string[], where: string): Row {
  try {
    return { text: textOfRow(columns, fields, where), where };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return faultOf(error);
  }
}

/** The file as the library asks for it; read synchronously, so that no two reads meet. */
function openParquet(path: string, onRead: (bytes: number) => void) {
  if (path === stdinName || compressionOf(path) !== undefined) {
    throw new UserError("parquet is read from a plain file: its index stands at the end", {
      where: path,
      hint: "save it to a file, uncompressed; parquet compresses its columns itself",
    });
  }
  const describing = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw unreadable(path, error);
    }
  };
  const opened = describing(() => Deno.openSync(path));
  const file: AsyncBuffer = {
    byteLength: describing(() => opened.statSync().size),
    slice: (start, end = file.byteLength) => describing(() => readAt(opened, start, end, onRead)),
  };
  return { file, [Symbol.dispose]: () => opened.close() };
}

function readAt(
  file: Deno.FsFile,
  start: number,
  end: number,
  onRead: (bytes: number) => void,
): ArrayBuffer {
  const bytes = new Uint8Array(end - start);
  file.seekSync(start, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) {
    const count = file.readSync(bytes.subarray(done));
    if (count === null) throw new Error(`the file ends at byte ${start + done}`);
    done += count;
    onRead(count);
  }
  return bytes.buffer;
}

async function describingDamage<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`this cannot be read as parquet: ${messageOf(error)}`, {
      where: path,
      hint: "copy or download the file again, or write it with other settings",
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
}

function columnNames(metadata: FileMetaData): string[] {
  return parquetSchema(metadata).children.map(({ element }) => element.name);
}

function requireColumns(names: readonly string[], fields: readonly string[], where: string) {
  for (const field of fields) {
    if (names.includes(field)) continue;
    const near = didYouMean(field, names);
    throw new UserError(`there is no column "${field}"${near}`, {
      where,
      hint: `name one with --field: ${names.join(", ")}`,
    });
  }
  return [...new Set(fields)];
}

function textOfRow(row: Record<string, unknown>, fields: readonly string[], where: string): string {
  const decoded = fields.map((field) => {
    const value = row[field];
    return [field, value instanceof Uint8Array ? decodeField(value, field, where) : value] as const;
  });
  return textOfRecord(Object.fromEntries(decoded), fields, where);
}

/** The text of a field; invalid UTF-8 is an error. */
export function decodeField(bytes: Uint8Array, field: string, where: string): string {
  const at = firstInvalidByte(bytes);
  if (at === undefined) return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  const byte = bytes[at].toString(16).padStart(2, "0");
  throw recordFault(`the field "${field}" is not valid UTF-8: 0x${byte} at byte ${at}`, where);
}
