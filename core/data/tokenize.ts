/**
 * From files of text to a folder of token shards.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { basename, dirname } from "node:path";
import { exists, removePartials } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { stdinName } from "../io/input_file.ts";
import { loadTokenizer } from "../text/load.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import {
  readDocuments,
  type ReadEvents,
  type ReadOptions,
  type SourceDocument,
} from "./documents.ts";
import { requireOnce } from "./inputs.ts";
import { purposes, uniformBelow } from "./philox.ts";
import type { ShardIndex, SplitName } from "./shard_index.ts";
import { type EncodedDocument, type ShardTarget, writeShards } from "./shard_writer.ts";

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
  const read = (told: ReadEvents) => readDocuments(job.inputs, job.reading, told);
  await requireOnce(job.inputs);
  if (job.tokenizer === "character") await requireFiles(job.inputs);
  const partials = await removeLeftOvers(job.target.folder);
  if (partials.length > 0) events.onPartials?.(partials);
  const silent = { onSkip() {}, onEmpty() {} };
  const tokenizer = await chooseTokenizer(job.tokenizer, () => read(silent));
  let skipped = 0, empty = 0, bytesRead = 0;
  const onSkip = (fault: UserError) => {
    skipped++;
    events.onSkip?.(fault);
  };
  const documents = read({
    onSkip,
    onEmpty: () => empty++,
    onRead: (bytes) => bytesRead += bytes,
  });
  const parts = divide(documents, job.valFraction, job.seed);
  const onFault = job.reading.onError === "skip" ? onSkip : (fault: UserError) => {
    throw fault;
  };
  const encoded = encodeDocuments(parts, tokenizer, {
    ...events,
    onProgress: (done) => events.onProgress?.({ ...done, bytesRead }),
    onFault,
  });
  const index = await writeShards(job.target, tokenizer, encoded);
  return { index, tokenizer, skipped, empty };
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
async function chooseTokenizer(
  choice: string,
  read: () => AsyncIterable<SourceDocument>,
): Promise<Tokenizer> {
  if (choice === "byte") return byteTokenizer();
  if (choice !== "character") return await loadTokenizer(choice);
  const seen = new Set<string>();
  for await (const { text } of read()) for (const character of text) seen.add(character);
  return characterTokenizer(seen);
}

/** A text, the split that it belongs to, and where it came from. */
export interface SplitText {
  readonly split: SplitName;
  readonly text: string;
  readonly where: string;
}

/**
 * Holds out a fraction for validation. A whole file is cut, its last part held out, as nanoGPT does;
 * of other documents one in each run of 1/fraction is drawn by the seed, so few are enough to hold
 * some out, and a regular order of the input cannot fall in step with the choice.
 */
export async function* divide(
  documents: AsyncIterable<SourceDocument> | Iterable<SourceDocument>,
  fraction: number,
  seed: number,
): AsyncGenerator<SplitText> {
  let number = 0;
  for await (const { text, where, isWholeFile } of documents) {
    if (!isWholeFile) {
      yield { split: isHeldOut(number++, fraction, seed) ? "val" : "train", text, where };
      continue;
    }
    const cut = cutPoint(text, fraction);
    if (cut > 0) yield { split: "train", text: text.slice(0, cut), where };
    if (cut < text.length) yield { split: "val", text: text.slice(cut), where };
  }
}

function isHeldOut(number: number, fraction: number, seed: number): boolean {
  if (fraction <= 0) return false;
  const group = Math.floor(number * fraction);
  const first = Math.ceil(group / fraction);
  const size = Math.ceil((group + 1) / fraction) - first;
  return number - first === uniformBelow(seed, purposes.validation, group, size);
}

/** Where the held-out part of a text begins, never inside a character. */
function cutPoint(text: string, fraction: number): number {
  const cut = Math.floor(text.length * (1 - fraction) + 1e-9); // 1 - 0.9 is a little under 0.1
  const isInside = cut > 0 && /[\uDC00-\uDFFF]/.test(text[cut] ?? "");
  return isInside ? cut - 1 : cut;
}

interface EncodeEvents extends Pick<TokenizeEvents, "signal"> {
  onProgress(done: Omit<TokenizeProgress, "bytesRead">): void;
  onFault(fault: UserError): void;
}

async function* encodeDocuments(
  parts: AsyncIterable<SplitText>,
  tokenizer: Tokenizer,
  { onProgress, signal, onFault }: EncodeEvents,
): AsyncGenerator<EncodedDocument> {
  const done = { documents: 0, tokens: 0, bytes: 0 };
  for await (const { split, text, where } of parts) {
    signal?.throwIfAborted();
    const document = encodeOrFault({ split, text, where }, tokenizer);
    if (document instanceof UserError) {
      onFault(document);
      continue;
    }
    done.documents++;
    done.tokens += document.ids.length;
    done.bytes += document.bytes;
    onProgress(done);
    yield document;
  }
  if (done.documents > 0) return;
  throw new UserError("there is no text in the input", {
    hint: "all files are empty, or all documents were skipped",
    exitCode: exitCodes.failed,
  });
}

/** A text that the tokenizer cannot express is the document's fault: it says where that is. */
function encodeOrFault({ split, text, where }: SplitText, tokenizer: Tokenizer) {
  try {
    return encodeDocument(split, text, tokenizer);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { hint, exitCode } = error;
    return new UserError(error.message, {
      where,
      exitCode,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** A document's tokens, closed by the end-of-text token if there is one. */
export function encodeDocument(
  split: SplitName,
  text: string,
  tokenizer: Tokenizer,
): EncodedDocument {
  const encoded = tokenizer.encode(text);
  const bytes = Buffer.byteLength(text, "utf8");
  if (tokenizer.endOfText === undefined) return { split, ids: encoded, bytes };
  const ids = new Uint32Array(encoded.length + 1);
  ids.set(encoded);
  ids[encoded.length] = tokenizer.endOfText;
  return { split, ids, bytes };
}
