/**
 * From files of text to a tokenizer of their own.
 *
 * @module
 */
import { tmpdir } from "node:os";
import { exists, writeFileAtomic } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { huggingfaceTokenizer } from "../text/huggingface.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { bpeFile, PieceCounts, trainMerges } from "../text/train_bpe.ts";
import { cutBetweenWords } from "../text/cuts.ts";
import { type BlockSizes, blockSizes, errorOf } from "./blocks.ts";
import { readBatches, type ReadOptions } from "./documents.ts";
import { requireOnce } from "./inputs.ts";
import { orLeaveOut } from "./record.ts";
import { workOn } from "./threads.ts";
import type { TokenizeEvents, TokenizeProgress } from "./tokenize.ts";

/** What is read, and what is made of it. */
export interface TrainTokenizerJob {
  readonly inputs: readonly string[];
  readonly reading: ReadOptions;
  readonly vocabSize: number;
  /** The file that is written. */
  readonly out: string;
  readonly ifExists: "fail" | "replace";
  /** How many threads count; all cores unless given. The result is the same for any number. */
  readonly threads?: number | undefined;
  /** How much is held at once. */
  readonly sizes?: BlockSizes;
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
  { inputs, reading, vocabSize, out, ifExists, threads, sizes = blockSizes }: TrainTokenizerJob,
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
  // nothing is held out, so no length is needed and nothing is laid in the folder
  const long = {
    lastCut: cutBetweenWords([]),
    valFraction: 0,
    spoolFolder: tmpdir(),
    sizes,
  };
  const batches = readBatches(inputs, reading, long, (bytes) => done.bytesRead += bytes);
  const settings = { reading, what: "pieces" } as const;
  for await (
    const { result } of workOn("count", settings, batches, {
      threads: threads ?? navigator.hardwareConcurrency,
      signal,
      startBytes: sizes.start,
    })
  ) {
    counts.addAll(result.texts, result.counts);
    done.documents += result.documents;
    done.bytes += result.bytes;
    for (const fault of result.faults.map((fault) => errorOf(fault))) {
      if (reading.onError === "stop") throw orLeaveOut(fault, "--on-error skip");
      skipped++;
      onSkip?.(fault);
    }
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
