/**
 * From encoded batches to what the shards hold: which split each document belongs to, and what is
 * left out.
 *
 * @module
 */
import { exitCodes, UserError } from "../io/errors.ts";
import { errorOf, type PieceBlock } from "./blocks.ts";
import { isHeldOut } from "./divide.ts";
import { type EncodedBatch, outcomes } from "./encode.ts";
import type { SplitName } from "./shard_index.ts";
import type { ShardItem } from "./shard_writer.ts";
import type { Done } from "./threads.ts";

/** Who is told. */
export interface PlaceEvents {
  /** A document that cannot be used; throws where that ends the work. */
  onFault(fault: UserError): void;
  /** A document of nothing but white space. */
  onEmpty(): void;
  onProgress(done: { documents: number; tokens: number; bytes: number }): void;
}

/** Gives each batch's documents to their splits. */
export async function* placeDocuments(
  batches: AsyncIterable<Done<"encode">>,
  { valFraction, seed }: { readonly valFraction: number; readonly seed: number },
  events: PlaceEvents,
): AsyncGenerator<ShardItem[]> {
  const done = { documents: 0, tokens: 0, bytes: 0 };
  let before = { ...done }; // the document that may be taken back
  let number = 0; // of the document among those whose number decides
  let long = { isOver: true, hasText: false };
  const drawn = (): SplitName => isHeldOut(number, valFraction, seed) ? "val" : "train";
  const placePiece = (piece: PieceBlock, entry: Entry): ShardItem[] => {
    if (piece.isFirst) long = { isOver: false, hasText: false };
    if (long.isOver) return []; // of a document that was taken back
    const begin: ShardItem[] = piece.isFirst ? ["begin"] : [];
    if (entry.fault !== undefined) {
      long.isOver = true;
      if (entry.kind === outcomes.unencodablePiece && piece.split === undefined) number++;
      events.onFault(entry.fault);
      return [...begin, "undo"];
    }
    const { ids, bytes, kind } = entry;
    long.hasText ||= kind === outcomes.piece;
    const split = piece.split ?? drawn();
    const item = { split, ids, bytes, isOpen: !piece.endsPart };
    if (!piece.isLast) return [...begin, item];
    if (!long.hasText) {
      events.onEmpty();
      return [...begin, "undo"];
    }
    if (piece.split === undefined) number++;
    return [...begin, item];
  };
  const place = (entry: Entry): ShardItem[] => {
    const { kind, ids, bytes, fault } = entry;
    if (kind === outcomes.train || kind === outcomes.val) {
      return [{ split: kind === outcomes.train ? "train" : "val", ids, bytes }];
    }
    if (kind === outcomes.empty) events.onEmpty();
    const split = drawn();
    if (kind === outcomes.document || kind === outcomes.unencodable) number++;
    if (fault !== undefined) events.onFault(fault);
    return kind === outcomes.document ? [{ split, ids, bytes }] : [];
  };
  for await (const { item: blocks, result } of batches) {
    const pieces = blocks.filter((block) => block.kind === "piece").values();
    const items: ShardItem[] = [];
    for (const entry of entriesOf(result)) {
      const isPiece = entry.kind >= outcomes.piece;
      for (const item of isPiece ? placePiece(pieces.next().value!, entry) : place(entry)) {
        items.push(item);
        if (item === "begin") before = { ...done };
        else if (item === "undo") Object.assign(done, before);
        else {
          if (!item.isOpen) done.documents++;
          done.tokens += item.ids.length;
          done.bytes += item.bytes;
        }
      }
    }
    events.onProgress(done);
    yield items;
  }
  if (done.documents > 0) return;
  throw new UserError("there is no text in the input", {
    hint: "all files are empty, or all documents were skipped",
    exitCode: exitCodes.failed,
  });
}

interface Entry {
  readonly kind: number;
  readonly ids: EncodedBatch["ids"];
  readonly bytes: number;
  readonly fault: UserError | undefined;
}

/** A batch's documents one by one. */
function* entriesOf({ ids, kinds, tokens, bytes, faults }: EncodedBatch): Generator<Entry> {
  const faulty: number[] = [
    outcomes.unreadable,
    outcomes.unencodable,
    outcomes.unreadablePiece,
    outcomes.unencodablePiece,
  ];
  let at = 0, faultsSeen = 0;
  for (const [i, kind] of kinds.entries()) {
    const fault = faulty.includes(kind) ? errorOf(faults[faultsSeen++]) : undefined;
    yield { kind, ids: ids.subarray(at, at + tokens[i]), bytes: bytes[i], fault };
    at += tokens[i];
  }
}
