/**
 * From files of text to a folder of token shards.
 *
 * @module
 */
import { basename, dirname } from "node:path";
import { exists, removePartials } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { stdinName } from "../io/input_file.ts";
import { cutAnywhere, type LastCut } from "../text/cuts.ts";
import { loadTokenizer } from "../text/load.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import { type BlockSizes, blockSizes, errorOf } from "./blocks.ts";
import { readBatches, type ReadOptions } from "./documents.ts";
import { requireOnce } from "./inputs.ts";
import { placeDocuments } from "./place.ts";
import { orLeaveOut } from "./record.ts";
import type { ShardIndex } from "./shard_index.ts";
import { type ShardTarget, writeShards } from "./shard_writer.ts";
import { type Done, workOn } from "./threads.ts";

/** What is read, by which tokenizer, and where the tokens go. */
export interface TokenizeJob {
  readonly inputs: readonly string[];
  readonly reading: ReadOptions;
  /** "byte", "character", or the path of a tokenizer.json. */
  readonly tokenizer: string;
  /** The part of the text that is held out for validation, from 0 up to 1. */
  readonly valFraction: number;
  readonly seed: number;
  readonly target: ShardTarget;
  /** How many threads encode; all cores unless given. The result is the same for any number. */
  readonly threads?: number | undefined;
  /** How much is held at once. */
  readonly sizes?: BlockSizes;
}

/** How far the work is. */
export interface TokenizeProgress {
  readonly documents: number;
  readonly tokens: number;
  /** Of text. */
  readonly bytes: number;
  /** Read from disk, compressed where the files are. */
  readonly bytesRead: number;
}

/** What the caller may watch and stop. */
export interface TokenizeEvents {
  onProgress?(done: TokenizeProgress): void;
  onSkip?(fault: UserError): void;
  /** Left-overs of a killed process, which were removed. */
  onPartials?(names: readonly string[]): void;
  signal?: AbortSignal;
}

/** What was made. */
export interface TokenizeResult {
  readonly index: ShardIndex;
  readonly tokenizer: Tokenizer;
  readonly skipped: number;
  /** Documents of nothing but white space, which are left out. */
  readonly empty: number;
}

/** Tokenizes files into a folder of shards. */
export async function tokenizeFiles(
  job: TokenizeJob,
  events: TokenizeEvents = {},
): Promise<TokenizeResult> {
  await requireOnce(job.inputs);
  if (job.tokenizer === "character") await requireFiles(job.inputs);
  const partials = await removeLeftOvers(job.target.folder);
  if (partials.length > 0) events.onPartials?.(partials);
  const { reading, valFraction, sizes = blockSizes } = job;
  const threads = {
    threads: job.threads ?? navigator.hardwareConcurrency,
    signal: events.signal,
    startBytes: sizes.start,
  };
  const read = (lastCut: LastCut | undefined, onRead?: (bytes: number) => void) => {
    const spoolFolder = dirname(job.target.folder);
    const long = { lastCut, valFraction, spoolFolder, sizes };
    return readBatches(job.inputs, reading, long, onRead);
  };
  const tokenizer = job.tokenizer === "character"
    ? await learnCharacters(
      workOn("count", { reading, what: "characters" }, read(cutAnywhere), threads),
      reading.onError,
    )
    : job.tokenizer === "byte"
    ? byteTokenizer()
    : await loadTokenizer(job.tokenizer);
  const told = { skipped: 0, empty: 0, bytesRead: 0 };
  const batches = read(tokenizer.lastCut, (bytes) => told.bytesRead += bytes);
  const encoded = workOn("encode", { reading, valFraction, tokenizer }, batches, threads);
  const placed = placeDocuments(encoded, job, {
    onFault(fault) {
      if (reading.onError === "stop") throw orLeaveOut(fault, "--on-error skip");
      told.skipped++;
      events.onSkip?.(fault);
    },
    onEmpty: () => told.empty++,
    onProgress: (done) => events.onProgress?.({ ...done, bytesRead: told.bytesRead }),
  });
  const index = await writeShards(job.target, tokenizer, placed);
  return { index, tokenizer, skipped: told.skipped, empty: told.empty };
}

/** Removes what processes that were killed while they wrote to this place left beside it. */
async function removeLeftOvers(folder: string): Promise<string[]> {
  const parent = dirname(folder);
  return await exists(parent) ? await removePartials(parent, basename(folder)) : [];
}

/** What is read twice must be there twice; a pipe is empty the second time. */
async function requireFiles(inputs: readonly string[]): Promise<void> {
  for (const where of inputs) {
    const found = await Deno.stat(where).catch(() => undefined); // reading it gives the better message
    if (where !== stdinName && (!found || found.isFile || found.isDirectory)) continue;
    throw new UserError("a character vocabulary needs a file, as the text is read twice", {
      where,
      hint: "save the text to a file first, or use the byte tokenizer",
    });
  }
}

/** A character tokenizer is made from the text itself, so the text is read twice. */
async function learnCharacters(
  batches: AsyncIterable<Done<"count">>,
  onError: ReadOptions["onError"],
): Promise<Tokenizer> {
  const seen = new Set<string>();
  for await (const { result: { texts, faults } } of batches) {
    if (onError === "stop" && faults.length > 0) {
      throw orLeaveOut(errorOf(faults[0]), "--on-error skip");
    }
    for (const character of texts) seen.add(character);
  }
  return characterTokenizer(seen);
}
