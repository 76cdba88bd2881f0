/**
 * One long document in pieces, cut where the tokenizer may and where its validation part begins.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { exitCodes, UserError } from "../io/errors.ts";
import { byteOrderMarkLength, incompleteTail } from "../io/lines.ts";
import type { LastCut } from "../text/cuts.ts";
import { faultOf, type LongDocuments, type PieceBlock } from "./blocks.ts";
import { type ByteWindow, indexOfBytes } from "./byte_window.ts";
import { keptLength } from "./divide.ts";
import { type TextLength, utf16Units } from "./spool.ts";

/** What is known of a document before it is read. */
export interface LongDocument extends Omit<LongDocuments, "spoolFolder"> {
  readonly kind: "text" | "jsonl";
  readonly path: string;
  /** What ends it; nothing where it is the whole file. */
  readonly mark: Uint8Array;
  /** Where its validation part hangs on it. */
  readonly length: TextLength | undefined;
}

/** Reads one document, to its mark or the end of the file. What is invalid in it is found later. */
export async function* readLong(
  window: ByteWindow,
  { kind, path, mark, lastCut, valFraction, sizes, length }: LongDocument,
): AsyncGenerator<PieceBlock> {
  const where = `${path}:${window.place.line}`;
  const kept = length === undefined ? Infinity : keptLength(length.units, valFraction);
  let split: PieceBlock["split"] = mark.length > 0 ? undefined : kept > 0 ? "train" : "val";
  let isFirst = true;
  const piece = (bytes: number, { endsPart = false, isLast = false } = {}): PieceBlock => {
    const known = { path, where, split, isFirst, endsPart, isLast, ...window.place };
    isFirst = false;
    return { kind: "piece", ...known, bytes: window.take(bytes) };
  };
  const broken = (fault: UserError): PieceBlock => {
    return { ...piece(0, { endsPart: true, isLast: true }), fault: faultOf(fault) };
  };
  if (kind === "jsonl" || lastCut === undefined) {
    yield broken(tooLong(where, kind));
    return await passOver(window, mark);
  }
  if (window.place.offset === 0) window.drop(byteOrderMarkLength(window.bytes));
  let counted = 0, units = 0; // of the part that is kept, bytes from the window's start
  let least = sizes.block; // what there must be before it is searched for a place to cut
  for (let isMore = true;; isMore = await window.grow()) {
    const mayBegin = isMore ? Math.max(0, mark.length - 1) : 0; // bytes that may begin the mark
    const found = indexOfBytes(window.bytes, mark, 0);
    let end = found >= 0 ? found : Math.max(0, window.length - mayBegin);
    const isEnd = found >= 0 || !isMore;
    if (split === "train" && kept < Infinity) {
      const { bytes } = window;
      const fits = () => counted < end && units + utf16Units(bytes[counted]) <= kept;
      while (fits()) units += utf16Units(bytes[counted++]);
      if (counted < end) { // the first character that does not fit, even if half of it does
        if (counted > 0 || !isFirst) yield piece(counted, { endsPart: true });
        [split, end] = ["val", end - counted];
      }
    }
    if (isEnd && length !== undefined && window.place.offset + end !== length.bytes) {
      window.drop(end);
      return yield broken(changed(path));
    }
    if (isEnd) {
      yield piece(end, { endsPart: true, isLast: true });
      return window.drop(found >= 0 ? mark.length : 0);
    }
    if (end < least) continue;
    const cut = cutBytes(window.bytes.subarray(0, end), lastCut);
    if (cut > 0) {
      yield piece(cut);
      counted -= cut;
    } else if (end > sizes.most) {
      yield broken(tooLong(where, kind));
      return await passOver(window, mark);
    }
    least = cut > 0 ? sizes.block : 2 * end;
  }
}

/** Moves the window behind the document's mark, or to the end. */
async function passOver(window: ByteWindow, mark: Uint8Array): Promise<void> {
  for (let isMore = true; isMore; isMore = await window.grow()) {
    const found = indexOfBytes(window.bytes, mark, 0);
    if (found >= 0) return window.drop(found + mark.length);
    window.drop(Math.max(0, window.length - Math.max(0, mark.length - 1)));
  }
  window.drop(window.length);
}

/** The last place of some UTF-8 where its text may be cut, 0 where there is none. */
function cutBytes(bytes: Uint8Array, lastCut: LastCut): number {
  const end = bytes.length - incompleteTail(bytes);
  for (let length = 4096;; length *= 8) {
    let start = Math.max(0, end - length);
    while (start < end && utf16Units(bytes[start]) === 0) start++;
    const tail = textOf(bytes.subarray(start, end));
    if (tail === undefined) return end; // whoever encodes it finds what is invalid
    const cut = lastCut(tail);
    if (cut > 0) return end - Buffer.byteLength(tail.slice(cut), "utf8");
    if (start === 0) return 0;
  }
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

function tooLong(where: string, kind: LongDocument["kind"]): UserError {
  const [what, hint] = kind === "text"
    ? ["a document", "give --document-separator, or split the file"]
    : ["a line", "split the record"];
  return new UserError(`${what} of more than 500 MB is too long to be one text`, {
    where,
    hint,
    exitCode: exitCodes.failed,
  });
}

function changed(where: string): UserError {
  return new UserError("the file changed while it was read", {
    where,
    hint: "start again when nothing writes to it any more",
    exitCode: exitCodes.failed,
  });
}
