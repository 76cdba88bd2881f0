/**
 * What is counted in batches of blocks before there is a tokenizer, the same in any thread.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { UserError } from "../io/errors.ts";
import { cutAsGpt2 } from "../text/pieces.ts";
import { type Block, type Fault, faultOf } from "./blocks.ts";
import { documentsOf, type ReadOptions, textOfPiece } from "./documents.ts";

/** What occurs in a batch, and how often; plain data. */
export interface CountedBatch {
  /** Characters, or the pieces that byte-pair encoding works on. */
  readonly texts: readonly string[];
  readonly counts: Uint32Array<ArrayBuffer>;
  readonly documents: number;
  /** Of text, in UTF-8. */
  readonly bytes: number;
  /** Of documents that cannot be read, in order. */
  readonly faults: readonly Fault[];
}

/** What is counted. */
export interface CountSettings {
  readonly reading: ReadOptions;
  readonly what: "pieces" | "characters";
}

/**
 * Counts batches. Of a long document that turns out to be unreadable, what came before the fault is
 * counted.
 */
export function batchCounter({ reading, what }: CountSettings) {
  return (batch: readonly Block[]): CountedBatch => {
    const counts = new Map<string, number>();
    const done = { documents: 0, bytes: 0 };
    const faults: Fault[] = [];
    const add = (text: string) => counts.set(text, (counts.get(text) ?? 0) + 1);
    for (const attempt of batch.flatMap((block) => textsOf(block, reading))) {
      try {
        const { text, isDocument } = attempt();
        if (!/\S/.test(text)) continue;
        if (what === "pieces") cutAsGpt2(text, add);
        else for (const character of text) add(character);
        if (isDocument) done.documents++;
        done.bytes += Buffer.byteLength(text, "utf8");
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        faults.push(faultOf(error));
      }
    }
    const texts = [...counts.keys()];
    return { texts, counts: Uint32Array.from(counts.values()), ...done, faults };
  };
}

type Text = () => { text: string; isDocument: boolean };

function textsOf(block: Block, reading: ReadOptions): Text[] {
  if (block.kind === "piece") {
    return [() => ({ text: textOfPiece(block), isDocument: block.isFirst })];
  }
  return Array.from(documentsOf(block, reading), (attempt) => () => {
    return { text: attempt().text, isDocument: true };
  });
}
