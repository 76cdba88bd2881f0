/** The bytes of text that measured targets stand for: with them a loss can be compared over tokenizers. */

import { type Batch, ignoredTarget } from "../data/batches.ts";
import type { SplitReader } from "../data/shard_reader.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** Counts the bytes of batches on their way. */
export interface ByteCounter {
  watch(batches: Iterable<Batch>): Generator<Batch>;
  counted(): number;
}

/**
 * Counts each target's bytes where the tokenizer can tell them, a special token's as none; else every target counts as the
 * split's mean.
 */
export function byteCounter(
  { bytesOf }: Pick<Tokenizer, "bytesOf">,
  { bytes, tokens }: Pick<SplitReader, "bytes" | "tokens">,
): ByteCounter {
  const lengths = new Map<number, number>();
  const mean = bytes / tokens;
  const lengthOf = (id: number) => {
    const known = lengths.get(id);
    if (known !== undefined) return known;
    const length = bytesOf ? bytesOf(id).length : mean;
    lengths.set(id, length);
    return length;
  };
  let counted = 0;
  return {
    *watch(batches) {
      for (const batch of batches) {
        for (const id of batch.targets) if (id !== ignoredTarget) counted += lengthOf(id);
        yield batch;
      }
    },
    counted: () => counted,
  };
}
