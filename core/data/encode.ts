/**
 * Batches of blocks to token ids, the same in any thread.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { UserError } from "../io/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Block, type Fault, faultOf, type PieceBlock } from "./blocks.ts";
import { cutText, keptLength } from "./divide.ts";
import { documentsOf, type ReadOptions, type SourceDocument, textOfPiece } from "./documents.ts";
import { tokenArray, tokenDtype } from "./shard_index.ts";

/** What a document came to. */
export const outcomes = {
  /** A document whose number decides its split. */
  document: 0,
  /** The parts of a whole file. */
  train: 1,
  val: 2,
  /** Nothing but white space: no tokens. */
  empty: 3,
  unreadable: 4,
  /** Text that the tokenizer cannot express. */
  unencodable: 5,
  piece: 6,
  blankPiece: 7,
  unreadablePiece: 8,
  unencodablePiece: 9,
} as const;

/** The ids of a batch in a row, and what each document came to; plain data. */
export interface EncodedBatch {
  readonly ids: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;
  /** One of `outcomes` for each document, in order. */
  readonly kinds: Uint8Array<ArrayBuffer>;
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Of its text, in UTF-8. */
  readonly bytes: Uint32Array<ArrayBuffer>;
  /** Of those that cannot be used, in order. */
  readonly faults: readonly Fault[];
}

/** How batches are encoded. */
export interface EncodeSettings {
  readonly reading: ReadOptions;
  /** The part of a whole file that is held out. */
  readonly valFraction: number;
}

/** Encodes batches with one tokenizer. */
export function batchEncoder(tokenizer: Tokenizer, { reading, valFraction }: EncodeSettings) {
  const sheet = resultSheet(tokenizer); // one for all batches: its memory is used again
  return (batch: readonly Block[]): EncodedBatch => {
    for (const block of batch) {
      if (block.kind === "piece") encodePiece(block, sheet);
      else {for (const attempt of documentsOf(block, reading)) {
          encodeNext(attempt, sheet, valFraction);
        }}
    }
    return sheet.result();
  };
}

type Sheet = ReturnType<typeof resultSheet>;

/** Where a batch's documents are noted. */
function resultSheet(tokenizer: Tokenizer) {
  const { endOfText } = tokenizer;
  const TokenArray = tokenArray(tokenDtype(tokenizer.vocabSize));
  let ids = new TokenArray(1 << 16);
  let length = 0;
  let kinds: number[] = [], tokens: number[] = [], bytes: number[] = [], faults: Fault[] = [];
  const note = (kind: number, count: number, size: number) => {
    kinds.push(kind);
    tokens.push(count);
    bytes.push(size);
  };
  return {
    encode: (text: string) => tokenizer.encode(text),
    add(kind: number, encoded: Uint32Array, text: string, isClosed = true) {
      const end = isClosed && endOfText !== undefined ? 1 : 0;
      const count = encoded.length + end;
      if (length + count > ids.length) {
        const larger = new TokenArray(2 * (length + count));
        larger.set(ids.subarray(0, length));
        ids = larger;
      }
      ids.set(encoded, length);
      if (end > 0) ids[length + encoded.length] = endOfText!;
      length += count;
      note(kind, count, Buffer.byteLength(text, "utf8"));
    },
    addEmpty: () => note(outcomes.empty, 0, 0),
    /** A fault of the user's; anything else is thrown on. */
    addFault(kind: number, error: unknown, where?: string) {
      if (!(error instanceof UserError)) throw error;
      faults.push({ ...faultOf(error), ...(where === undefined ? {} : { where }) });
      note(kind, 0, 0);
    },
    /** Gives what was noted, and begins anew. */
    result(): EncodedBatch {
      const result = {
        ids: ids.slice(0, length),
        kinds: Uint8Array.from(kinds),
        tokens: Uint32Array.from(tokens),
        bytes: Uint32Array.from(bytes),
        faults,
      };
      length = 0;
      [kinds, tokens, bytes, faults] = [[], [], [], []];
      return result;
    },
  };
}

function encodeNext(attempt: () => SourceDocument, sheet: Sheet, valFraction: number): void {
  let document: SourceDocument;
  try {
    document = attempt();
  } catch (error) {
    return sheet.addFault(outcomes.unreadable, error);
  }
  const { text, where, isWholeFile } = document;
  if (!/\S/.test(text)) return sheet.addEmpty();
  try {
    if (!isWholeFile) return sheet.add(outcomes.document, sheet.encode(text), text);
    const parts = cutText(text, keptLength(text.length, valFraction));
    const encoded = parts.map((part) => part === "" ? undefined : sheet.encode(part));
    encoded.forEach((ids, i) => {
      if (ids !== undefined) sheet.add([outcomes.train, outcomes.val][i], ids, parts[i]);
    });
  } catch (error) {
    sheet.addFault(outcomes.unencodable, error, where); // a tokenizer does not know where its text is
  }
}

function encodePiece(piece: PieceBlock, sheet: Sheet): void {
  let text: string;
  try {
    text = textOfPiece(piece);
  } catch (error) {
    return sheet.addFault(outcomes.unreadablePiece, error);
  }
  try {
    const kind = /\S/.test(text) ? outcomes.piece : outcomes.blankPiece;
    sheet.add(kind, sheet.encode(text), text, piece.endsPart);
  } catch (error) {
    sheet.addFault(outcomes.unencodablePiece, error, piece.where);
  }
}
