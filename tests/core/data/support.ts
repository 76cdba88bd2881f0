/**
 * Data folders for the tests, made from texts.
 *
 * @module
 */
import { openShards, type ShardReader, type SplitReader } from "../../../core/data/shard_reader.ts";
import type { SplitName } from "../../../core/data/shard_index.ts";
import { writeShards } from "../../../core/data/shard_writer.ts";
import { encodeDocument } from "../../../core/data/tokenize.ts";
import { byteTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";

/** Writes texts as shards, in the given splits. */
export async function writeTexts(
  folder: string,
  texts: readonly { split: SplitName; text: string }[],
  { tokenizer = byteTokenizer(), shardBytes = 2 ** 20 }: {
    tokenizer?: Tokenizer;
    shardBytes?: number;
  } = {},
): Promise<void> {
  async function* encoded() {
    for (const { split, text } of texts) yield await encodeDocument(split, text, tokenizer);
  }
  await writeShards({ folder, ifExists: "fail", shardBytes }, tokenizer, encoded());
}

/** Writes and opens a training split. */
export async function openTexts(
  folder: string,
  texts: readonly string[],
  options: { tokenizer?: Tokenizer; shardBytes?: number } = {},
): Promise<ShardReader> {
  await writeTexts(folder, texts.map((text) => ({ split: "train", text })), options);
  return await openShards(folder);
}

/** A split that lies in memory. */
export function memorySplit(
  documents: readonly (readonly number[])[],
  endOfText: number | undefined,
): SplitReader {
  const tokens = documents.flat();
  const starts = [0];
  for (const document of documents) starts.push(starts[starts.length - 1] + document.length);
  return {
    name: "train",
    tokens: tokens.length,
    documents: documents.length,
    bytes: tokens.length,
    endOfText,
    documentStarts: () => Float64Array.from(starts),
    read(start, out) {
      if (start < 0 || start + out.length > tokens.length) {
        throw new RangeError("outside the split");
      }
      out.set(tokens.slice(start, start + out.length));
    },
  };
}
