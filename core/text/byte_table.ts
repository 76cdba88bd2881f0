/**
 * How many bytes of text a token stands for, by it and the token before it: what a loss is divided by where models with
 * different tokenizers are compared.
 *
 * @module
 */
import type { Tokenizer } from "./tokenizer.ts";

/** A token as SentencePiece has it: `▁` in its text is a space. */
export interface Piece {
  readonly text: string;
  /** `byte`: one byte, written as `<0x0A>`. `control`: no text, such as what begins a document. `unused`: never made. */
  readonly kind: "normal" | "byte" | "control" | "unknown" | "unused";
}

/** Of each id. */
export interface ByteTable {
  /** UTF-8 bytes, without those of a space that the token begins with. */
  readonly base: Uint32Array;
  /** 1 for a token that begins with the mark of a space. */
  readonly leadingSpace: Uint8Array;
  /** 1 for a token behind which such a mark stands for nothing: a text begins there. */
  readonly boundary: Uint8Array;
}

/** The mark of a space, U+2581. */
export const spaceMark = "\u2581";

/** The bytes that a token adds to a text in which it stands behind `previous`. */
export function bytesBehind(table: ByteTable, previous: number, id: number): number {
  return table.base[id] + (table.leadingSpace[id] && !table.boundary[previous] ? 1 : 0);
}

/**
 * By the rules of parameter-golf: no bytes for control, unknown and unused pieces, one for a byte piece, else the UTF-8
 * bytes of the piece. A mark that it begins with is one byte, unless the piece before is of those without bytes. Other
 * marks, which that challenge's pieces have not, are spaces.
 */
export function tableOfPieces(pieces: readonly Piece[]): ByteTable {
  const base = new Uint32Array(pieces.length);
  const [leadingSpace, boundary] = [base, base].map(() => new Uint8Array(pieces.length));
  pieces.forEach(({ text, kind }, id) => {
    if (kind === "byte") base[id] = 1;
    else if (kind !== "normal") boundary[id] = 1;
    else {
      leadingSpace[id] = text.startsWith(spaceMark) ? 1 : 0;
      base[id] = utf8Length(text.slice(leadingSpace[id]).replaceAll(spaceMark, " "));
    }
  });
  return { base, leadingSpace, boundary };
}

const encoder = new TextEncoder();
export const utf8Length = (text: string): number => encoder.encode(text).length;

/** Undefined of a tokenizer whose texts' bytes are not its tokens'. */
export function byteTableOf(
  { bytesOf, pieces, vocabSize, specialTokens }: Pick<
    Tokenizer,
    "bytesOf" | "pieces" | "vocabSize" | "specialTokens"
  >,
): ByteTable | undefined {
  if (pieces) return tableOfPieces(pieces());
  if (!bytesOf) return undefined;
  const base = Uint32Array.from({ length: vocabSize }, (_, id) => bytesOf(id).length);
  const boundary = new Uint8Array(vocabSize);
  for (const id of specialTokens.values()) boundary[id] = 1;
  return { base, leadingSpace: new Uint8Array(vocabSize), boundary };
}
