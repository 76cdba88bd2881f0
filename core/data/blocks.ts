/**
 * Blocks: parts of the input that can be worked on without the rest, in any thread, so plain data.
 *
 * @module
 */
import { type ExitCode, UserError } from "../io/errors.ts";
import type { LastCut } from "../text/cuts.ts";
import type { SplitName } from "./shard_index.ts";

/** Some of the input: whole documents, or a piece of one that is too long to be held. */
export type Block = BytesBlock | RowsBlock | PieceBlock;

/** Whole documents as they lie in a file. */
export interface BytesBlock {
  readonly kind: "text" | "jsonl";
  readonly path: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The line that the bytes begin in, counted from 1. */
  readonly line: number;
  /** The position of the first byte in the file, counted from 0. */
  readonly offset: number;
}

/** Rows of a parquet file, or why one cannot be used. */
export interface RowsBlock {
  readonly kind: "rows";
  readonly rows: readonly ({ readonly text: string; readonly where: string } | Fault)[];
  /** About, in bytes. */
  readonly size: number;
}

/** A piece of one document; its ids follow those of the piece before. */
export interface PieceBlock {
  readonly kind: "piece";
  readonly path: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The line that the bytes begin in, counted from 1. */
  readonly line: number;
  /** The position of the first byte in the file, counted from 0. */
  readonly offset: number;
  /** The file, and the line that the document begins in. */
  readonly where: string;
  /** The split that it belongs to; undefined where the document's number decides. */
  readonly split: SplitName | undefined;
  readonly isFirst: boolean;
  /** Whether the document ends here, or its part in this split. */
  readonly endsPart: boolean;
  readonly isLast: boolean;
  /** Why the document cannot be used after all. */
  readonly fault?: Fault;
}

/** A UserError as plain data. */
export interface Fault {
  readonly message: string;
  readonly where: string | undefined;
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;
}

/** An error of the user's as plain data. */
export function faultOf({ message, where, hint, exitCode }: UserError): Fault {
  return { message, where, hint, exitCode };
}

/** The error behind the data; `where` replaces the place. */
export function errorOf({ message, exitCode, hint, where }: Fault, place = where): UserError {
  return new UserError(message, {
    exitCode,
    ...(hint === undefined ? {} : { hint }),
    ...(place === undefined ? {} : { where: place }),
  });
}

/** About how many bytes a block holds. */
export function sizeOf(block: Block): number {
  return block.kind === "rows" ? block.size : block.bytes.length;
}

/** How much is held at once. */
export interface BlockSizes {
  /** Of a block, about: a hundredth of a second of work. More makes the engine keep more garbage. */
  readonly block: number;
  /** A document of more bytes is read in pieces, where they can be encoded one by one. */
  readonly long: number;
  /** The most bytes of one text: the engine's strings end a little behind. */
  readonly most: number;
  /** Less text is done before workers have started. */
  readonly start: number;
}

/** What is used. */
export const blockSizes: BlockSizes = {
  block: 2 ** 16,
  long: 2 ** 22,
  most: 2 ** 29 - 2 ** 24,
  start: 2 ** 21,
};

/** What becomes of documents that are too long to be held. */
export interface LongDocuments {
  /** Where they may be cut into pieces. */
  readonly lastCut: LastCut | undefined;
  /** The part of a whole file that is held out. */
  readonly valFraction: number;
  /** Where text that cannot be read twice is laid until its length is known, if it must be. */
  readonly spoolFolder: string;
  readonly sizes: BlockSizes;
}
