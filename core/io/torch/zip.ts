/**
 * The directory of a zip archive whose entries are stored as they are, as torch.save writes them: where each entry's bytes
 * lie in the file. The directory is checked whole before any entry is used: names, sizes, and that no two entries overlap.
 *
 * @module
 */
import { exitCodes, UserError } from "../errors.ts";
import type { RangeFile } from "../ranges.ts";

/** Where an entry's bytes lie in the file. */
export interface ZipEntry {
  readonly begin: number;
  readonly bytes: number;
}

const endSignature = 0x06054b50, end64Signature = 0x06064b50, locatorSignature = 0x07064b50;
const entrySignature = 0x02014b50, localSignature = 0x04034b50;
const endBytes = 22, locatorBytes = 20, end64Bytes = 56, entryBytes = 46, localBytes = 30;
const longestComment = 0xffff, longestDirectory = 64 << 20;
/** What stands for a size that is in the zip64 field. */
const elsewhere32 = 0xffffffff;

/** Entries by name, in the directory's order. */
export function readZipDirectory(file: RangeFile): Map<string, ZipEntry> {
  const refuse = (what: string) => damaged(file.path, what);
  const { begin, bytes, count, limit } = findDirectory(file, refuse);
  if (bytes > longestDirectory) throw refuse(`its directory claims ${bytes} bytes`);
  if (begin + bytes > limit) throw refuse("its directory does not lie before its end");
  if (count > bytes / entryBytes) {
    throw refuse(`its directory claims ${count} entries in ${bytes} bytes`);
  }
  const described = readEntries(file.read(begin, bytes), count, refuse);
  return placed(file, described, begin, refuse);
}

type Refuse = (what: string) => UserError;

interface Directory {
  readonly begin: number;
  readonly bytes: number;
  readonly count: number;
  /** Where what follows the directory begins. */
  readonly limit: number;
}

/** What the last record says, or the larger one that it points to. */
function findDirectory(file: RangeFile, refuse: Refuse): Directory {
  const tailBytes = Math.min(file.bytes, endBytes + longestComment);
  const tailStart = file.bytes - tailBytes;
  const tail = viewOf(file.read(tailStart, tailBytes));
  let at = tailBytes - endBytes;
  const isEnd = (from: number) =>
    tail.getUint32(from, true) === endSignature &&
    tail.getUint16(from + 20, true) === tailBytes - from - endBytes;
  while (at >= 0 && !isEnd(at)) at--;
  if (at < 0) throw refuse("it ends without the directory: truncated?");
  if (tail.getUint16(at + 4, true) !== 0 || tail.getUint16(at + 6, true) !== 0) {
    throw refuse("it is a part of several");
  }
  const limit = tailStart + at, locatorAt = limit - locatorBytes;
  const locator = locatorAt >= 0 ? viewOf(file.read(locatorAt, locatorBytes)) : undefined;
  if (locator?.getUint32(0, true) !== locatorSignature) {
    return {
      count: tail.getUint16(at + 10, true),
      bytes: tail.getUint32(at + 12, true),
      begin: tail.getUint32(at + 16, true),
      limit,
    };
  }
  const recordAt = Number(locator.getBigUint64(8, true));
  if (!(recordAt <= locatorAt - end64Bytes)) throw refuse("its zip64 record lies outside of it");
  const record = viewOf(file.read(recordAt, end64Bytes));
  if (record.getUint32(0, true) !== end64Signature) throw refuse("its zip64 record is damaged");
  return {
    count: Number(record.getBigUint64(32, true)),
    bytes: Number(record.getBigUint64(40, true)),
    begin: Number(record.getBigUint64(48, true)),
    limit: recordAt,
  };
}

interface Described {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly bytes: number;
  readonly local: number;
}

function readEntries(directory: Uint8Array, count: number, refuse: Refuse): Described[] {
  const view = viewOf(directory), entries: Described[] = [], seen = new Set<string>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (
      at + entryBytes > directory.length || view.getUint32(at, true) !== entrySignature
    ) throw refuse(`entry ${i} of its directory is damaged`);
    const nameEnd = at + entryBytes + view.getUint16(at + 28, true);
    const extraEnd = nameEnd + view.getUint16(at + 30, true);
    const next = extraEnd + view.getUint16(at + 32, true);
    if (next > directory.length) throw refuse(`entry ${i} of its directory is cut short`);
    const nameBytes = directory.subarray(at + entryBytes, nameEnd);
    const name = nameOf(nameBytes, refuse);
    if (seen.has(name)) throw refuse(`${name} comes twice`);
    seen.add(name);
    const flags = view.getUint16(at + 8, true), method = view.getUint16(at + 10, true);
    if ((flags & 1) !== 0) throw refuse(`${name} is encrypted`);
    if (method !== 0) {
      throw refuse(`${name} is compressed (method ${method}); torch.save stores as it is`);
    }
    const sizes = [view.getUint32(at + 24, true), view.getUint32(at + 20, true)];
    const [bytes, packed, local] = wideSizes(
      [...sizes, view.getUint32(at + 42, true)],
      directory.subarray(nameEnd, extraEnd),
    ) ?? [];
    if (bytes === undefined || bytes !== packed) throw refuse(`${name}'s sizes are damaged`);
    entries.push({ name, nameBytes, bytes, local });
    at = next;
  }
  if (at !== directory.length) throw refuse(`${directory.length - at} bytes follow its directory`);
  return entries;
}

/** Names are never used as paths; one that could climb out of a folder is refused all the same. */
function nameOf(bytes: Uint8Array, refuse: Refuse): string {
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw refuse("a name in it is not UTF-8");
  }
  const isPlain = /^[^/\\\p{Cc}:][^\\\p{Cc}:]*$/u.test(name) &&
    name.split("/").every((part) => part !== ".." && part !== ".");
  if (!isPlain) throw refuse(`it holds the name ${JSON.stringify(name.slice(0, 80))}`);
  return name;
}

/** Size, packed size and offset, those that do not fit 32 bits from the zip64 field; undefined where that lacks them. */
function wideSizes(narrow: readonly number[], extra: Uint8Array): number[] | undefined {
  if (!narrow.includes(elsewhere32)) return [...narrow];
  const view = viewOf(extra);
  for (let at = 0; at + 4 <= extra.length;) {
    const kind = view.getUint16(at, true), end = at + 4 + view.getUint16(at + 2, true);
    if (end > extra.length) return undefined;
    if (kind === 1) {
      let from = at + 4;
      const wide = narrow.map((size) => {
        if (size !== elsewhere32) return size;
        const value = from + 8 <= end ? Number(view.getBigUint64(from, true)) : NaN;
        from += 8;
        return value;
      });
      return wide.every(Number.isSafeInteger) ? wide : undefined;
    }
    at = end;
  }
  return undefined;
}

/** Holds each entry against its own header, and all against each other. */
function placed(
  file: RangeFile,
  described: readonly Described[],
  limit: number,
  refuse: Refuse,
): Map<string, ZipEntry> {
  const found = new Map<Described, ZipEntry>();
  let end = 0, before = "";
  for (const entry of described.toSorted((a, b) => a.local - b.local)) {
    const { name, nameBytes, bytes, local } = entry;
    if (local < end) throw refuse(`${name} overlaps ${before}`);
    if (local + localBytes + nameBytes.length > limit) throw refuse(`${name} lies outside of it`);
    const header = file.read(local, localBytes + nameBytes.length), view = viewOf(header);
    const isSame = view.getUint32(0, true) === localSignature &&
      view.getUint16(8, true) === 0 && view.getUint16(26, true) === nameBytes.length &&
      nameBytes.every((byte, i) => byte === header[localBytes + i]);
    if (!isSame) throw refuse(`${name}'s own header does not fit the directory`);
    const begin = local + localBytes + nameBytes.length + view.getUint16(28, true);
    if (begin + bytes > limit) throw refuse(`${name} ends outside of it: truncated?`);
    found.set(entry, { begin, bytes });
    [end, before] = [begin + bytes, name];
  }
  return new Map(described.map((entry) => [entry.name, found.get(entry)!]));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(where: string, what: string): UserError {
  return new UserError(`not a readable zip file: ${what}`, { where, exitCode: exitCodes.failed });
}
