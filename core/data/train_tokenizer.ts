/**
 * From files of text to a tokenizer of their own.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { exists, writeFileAtomic } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { huggingfaceTokenizer } from "../text/huggingface.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { bpeFile, PieceCounts, trainMerges } from "../text/train_bpe.ts";
import { readDocuments, type ReadOptions } from "./documents.ts";
import { requireOnce } from "./inputs.ts";
import type { TokenizeEvents, TokenizeProgress } from "./tokenize.ts";

/** What is read, and what is made of it. */
export interface TrainTokenizerJob {
  readonly inputs: readonly string[];
  readonly reading: ReadOptions;
  readonly vocabSize: number;
  /** The file that is written. */
  readonly out: string;
  readonly ifExists: "fail" | "replace";
}

/** What was made. */
export interface TrainedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly documents: number;
  readonly bytes: number;
  /** Different pieces of text (words, mostly) that were learned from. */
  readonly pieces: number;
  readonly skipped: number;
}

/** Who watches. */
export interface TrainTokenizerEvents extends Pick<TokenizeEvents, "onSkip" | "signal"> {
  onProgress?(done: Omit<TokenizeProgress, "tokens">): void;
}

/** Learns a byte-level BPE from documents and writes its `tokenizer.json`. */
export async function trainTokenizer(
  { inputs, reading, vocabSize, out, ifExists }: TrainTokenizerJob,
  { onSkip, onProgress, signal }: TrainTokenizerEvents = {},
): Promise<TrainedTokenizer> {
  if (ifExists === "fail" && await exists(out)) {
    throw new UserError("it exists already", {
      where: out,
      hint: "choose another name, or give --overwrite",
    });
  }
  await requireOnce(inputs);
  const counts = new PieceCounts();
  const done = { documents: 0, bytes: 0, bytesRead: 0 };
  let skipped = 0;
  const told = {
    onSkip(fault: UserError) {
      skipped++;
      onSkip?.(fault);
    },
    onEmpty() {},
    onRead: (bytes: number) => done.bytesRead += bytes,
  };
  for await (const { text } of readDocuments(inputs, reading, told)) {
    signal?.throwIfAborted();
    counts.add(text);
    done.documents++;
    done.bytes += Buffer.byteLength(text, "utf8");
    onProgress?.(done);
  }
  if (done.documents === 0) {
    throw new UserError("there is no text in the input", { exitCode: exitCodes.failed });
  }
  const file = bpeFile(trainMerges(counts.entries(), vocabSize));
  await writeFileAtomic(out, file);
  const { documents, bytes } = done;
  const tokenizer = huggingfaceTokenizer(file, out);
  return { tokenizer, documents, bytes, pieces: counts.size, skipped };
}
