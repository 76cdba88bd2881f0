/** The bytes of text that measured targets stand for: with them a loss can be compared over tokenizers. */

import { type Batch, ignoredTarget } from "../data/batches.ts";
import type { SplitReader } from "../data/shard_reader.ts";
import { bytesBehind, byteTableOf } from "../text/byte_table.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** Counts the bytes of batches on their way. */
export interface ByteCounter {
  watch(batches: Iterable<Batch>): Generator<Batch>;
  counted(): number;
}

/**
 * Counts each target's bytes, times its weight, where the tokenizer can tell them, from it and the token before it, a special
 * token's as none; else every target counts as the split's mean.
 */
export function byteCounter(
  tokenizer: Pick<Tokenizer, "bytesOf" | "pieces" | "vocabSize" | "specialTokens">,
  { bytes, tokens }: Pick<SplitReader, "bytes" | "tokens">,
): ByteCounter {
  const table = byteTableOf(tokenizer), mean = bytes / tokens;
  let counted = 0;
  return {
    *watch(batches) {
      for (const batch of batches) {
        const { ids, targets, weights } = batch;
        for (let i = 0; i < targets.length; i++) {
          if (targets[i] === ignoredTarget) continue;
          const text = table ? bytesBehind(table, ids[i], targets[i]) : mean;
          counted += (weights ? weights[i] : 1) * text;
        }
        yield batch;
      }
    },
    counted: () => counted,
  };
}
