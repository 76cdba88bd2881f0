/**
 * `index.json`: what a folder of token shards says of itself.
 *
 * A split is one row of tokens, cut into files of limited size; documents follow each other in it,
 * each closed by the end-of-text token if the tokenizer has one. `SPLIT.documents.bin` holds the
 * documents' lengths in tokens, that token included, as little-endian u32 in the same order.
 *
 * @module
 */
import { z } from "zod";

/** The index's name in its folder. */
export const indexFileName = "index.json";

const count = z.int().min(0);
const shardSchema = z.strictObject({ file: z.string(), tokens: count, sha256: z.string() });
const splitSchema = z.strictObject({
  tokens: count,
  documents: count,
  /** UTF-8 bytes of the text, without the end-of-text tokens: for bits per byte. */
  bytes: count,
  document_lengths: z.string(),
  shards: z.array(shardSchema),
});

/** The schema of `index.json`. */
export const shardIndexSchema = z.strictObject({
  format: z.literal("quern-shards"),
  version: z.literal(1),
  dtype: z.enum(["u16", "u32"]),
  vocab_size: z.int().positive(),
  end_of_text: count.nullable(),
  tokenizer: z.strictObject({ file: z.string(), kind: z.string(), sha256: z.string() }),
  splits: z.strictObject({ train: splitSchema, val: splitSchema }),
});

/** The contents of `index.json`. */
export type ShardIndex = z.output<typeof shardIndexSchema>;

/** A part of the data: what is trained on, and what is only measured. */
export type SplitName = keyof ShardIndex["splits"];

/** One split's entry in the index. */
export type SplitIndex = ShardIndex["splits"][SplitName];

/** The names of all splits. */
export const splitNames: readonly SplitName[] = ["train", "val"];

/** The storage of one token: 16 bits as long as every id fits. */
export function tokenDtype(vocabSize: number): ShardIndex["dtype"] {
  return vocabSize <= 0x10000 ? "u16" : "u32";
}

/**
 * The array that holds tokens as they are stored. Every platform that Deno runs on is
 * little-endian.
 */
export function tokenArray(
  dtype: ShardIndex["dtype"],
): Uint16ArrayConstructor | Uint32ArrayConstructor {
  return dtype === "u16" ? Uint16Array : Uint32Array;
}
