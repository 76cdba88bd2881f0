/**
 * Data folders for the tests, made from texts.
 *
 * @module
 */
import { openShards, type ShardReader, type SplitReader } from "../../../core/data/shard_reader.ts";
import type { SplitName } from "../../../core/data/shard_index.ts";
import { writeShards } from "../../../core/data/shard_writer.ts";
import { type Block, blockSizes, type LongDocuments } from "../../../core/data/blocks.ts";
import {
  documentsOf,
  readBatches,
  type ReadOptions,
  type SourceDocument,
} from "../../../core/data/documents.ts";
import { UserError } from "../../../core/io/errors.ts";
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
    for (const { split, text } of texts) {
      const end = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
      const ids = Uint32Array.of(...tokenizer.encode(text), ...end);
      yield await [{ split, ids, bytes: new TextEncoder().encode(text).length }];
    }
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

/** Long documents are not cut. */
export const uncut: LongDocuments = {
  lastCut: undefined,
  valFraction: 0,
  spoolFolder: "",
  sizes: blockSizes,
};

/** Whole documents one by one, without those of white space; faults end it or are told. */
export async function* readDocuments(
  paths: readonly string[],
  options: ReadOptions,
  onSkip: (fault: UserError) => void = () => {},
  onRead: (bytes: number) => void = () => {},
): AsyncGenerator<SourceDocument> {
  for await (const batch of readBatches(paths, options, uncut, onRead)) {
    for (const attempt of batch.flatMap((block) => attemptsOf(block, options))) {
      try {
        const document = attempt();
        if (/\S/.test(document.text)) yield document;
      } catch (error) {
        if (options.onError === "stop" || !(error instanceof UserError)) throw error;
        onSkip(error);
      }
    }
  }
}

/** The documents of a block that holds whole ones. */
export function attemptsOf(block: Block, options: ReadOptions) {
  if (block.kind === "piece") throw new Error("a piece where there should be none");
  return [...documentsOf(block, options)];
}
