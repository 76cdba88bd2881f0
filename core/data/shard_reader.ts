/**
 * Reads a folder of token shards: any run of tokens of a split, without holding the split in
 * memory.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { hasBinShards, openBinShards } from "./bin_shards.ts";
import { exists } from "../io/atomic.ts";
import { exitCodes, jsonFault, messageOf, UserError } from "../io/errors.ts";
import { loadTokenizer } from "../text/load.ts";
import { sha256, type Tokenizer } from "../text/tokenizer.ts";
import {
  indexFileName,
  type ShardIndex,
  shardIndexSchema,
  type SplitIndex,
  type SplitName,
  tokenArray,
} from "./shard_index.ts";
import { damaged, openSized, readExactly, type TokenFile, tokenReader } from "./token_files.ts";

/** One split as a row of tokens, and the documents in it. */
export interface SplitReader {
  readonly name: SplitName;
  readonly tokens: number;
  readonly documents: number;
  /** UTF-8 bytes of the text that the tokens stand for; NaN where nobody knows. */
  readonly bytes: number;
  readonly endOfText: number | undefined;
  /** Copies the tokens from `start` on until `out` is full. */
  read(start: number, out: Int32Array): void;
  /** Where each document starts, and the number of tokens last. */
  readonly documentStarts: () => Float64Array;
}

/** An open folder of shards; close it with `using`. */
export interface ShardReader extends Disposable {
  readonly folder: string;
  readonly index: ShardIndex;
  /** The tokenizer that made the data. */
  readonly tokenizer: Tokenizer;
  /** SHA-256 of the index, which holds the hashes of all shards: names the data. */
  readonly hash: string;
  readonly splits: Readonly<Record<SplitName, SplitReader>>;
}

/** Whether a path is a folder of token shards, quern's or `.bin`. */
export async function isShards(folder: string): Promise<boolean> {
  return await exists(join(folder, indexFileName)) || await hasBinShards(folder);
}

/** Opens a folder that `quern tokenize` wrote, and checks that its files belong together; or one of `.bin` shards. */
export async function openShards(folder: string): Promise<ShardReader> {
  if (!await exists(join(folder, indexFileName))) {
    const shards = await openBinShards(folder);
    if (shards) return shards;
  }
  const text = await readIndex(folder);
  const index = parseIndex(text, folder);
  const tokenizer = await loadTokenizer(join(folder, index.tokenizer.file));
  requireTokenizer({ folder, index }, tokenizer);
  const opened: Deno.FsFile[] = [];
  const close = () => opened.splice(0).forEach((file) => file.close());
  try {
    const train = await openSplit(folder, index, "train", opened);
    const val = await openSplit(folder, index, "val", opened);
    const hash = sha256(text);
    return { folder, index, tokenizer, hash, splits: { train, val }, [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Refuses data that another tokenizer made: its ids would mean other texts. */
export function requireTokenizer(
  data: Pick<ShardReader, "folder" | "index">,
  tokenizer: Tokenizer,
): void {
  const made = data.index.tokenizer;
  if (made.sha256 === tokenizer.hash) return;
  const name = (kind: string, hash: string, size: number) =>
    `${kind} ${hash.slice(0, 12)} (${size} tokens)`;
  const theirs = name(made.kind, made.sha256, data.index.vocab_size);
  const ours = name(tokenizer.kind, tokenizer.hash, tokenizer.vocabSize);
  throw new UserError(`made with the tokenizer ${theirs}, but ${ours} is used here`, {
    where: data.folder,
    hint: "tokenize the text again with the tokenizer that you want to use",
  });
}

async function readIndex(folder: string): Promise<string> {
  try {
    return await Deno.readTextFile(join(folder, indexFileName));
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    const reason = missing ? `holds no ${indexFileName}: not token shards` : messageOf(error);
    throw new UserError(
      await exists(folder) ? reason : "there is no such folder",
      {
        where: missing ? folder : join(folder, indexFileName),
        hint:
          "make the data with: quern tokenize FILE --out FOLDER; a path counts from where quern is called",
        cause: error,
      },
    );
  }
}

function parseIndex(text: string, folder: string): ShardIndex {
  const where = join(folder, indexFileName);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(jsonFault(error), { where, exitCode: exitCodes.failed });
  }
  const parsed = shardIndexSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UserError(`not an index of shards: ${z.prettifyError(parsed.error)}`, {
    where,
    exitCode: exitCodes.failed,
  });
}

async function openSplit(
  folder: string,
  index: ShardIndex,
  name: SplitName,
  opened: Deno.FsFile[],
): Promise<SplitReader> {
  const split = index.splits[name];
  const array = tokenArray(index.dtype);
  const width = array.BYTES_PER_ELEMENT;
  requireTotal(split, folder);
  const files: TokenFile[] = [];
  for (const { file, tokens } of split.shards) {
    const path = join(folder, file);
    files.push({ file: await openSized(path, tokens * width, opened), path, tokens });
  }
  const lengths = await openSized(
    join(folder, split.document_lengths),
    split.documents * 4,
    opened,
  );
  let documentStarts: Float64Array | undefined;
  return {
    name,
    tokens: split.tokens,
    documents: split.documents,
    bytes: split.bytes,
    endOfText: index.end_of_text ?? undefined,
    documentStarts: () => documentStarts ??= readDocumentStarts(lengths, split, folder),
    read: tokenReader(files, { array, header: 0, vocabSize: index.vocab_size }, name),
  };
}

/** The shards together must hold what the split claims. */
function requireTotal(split: SplitIndex, folder: string): void {
  const total = split.shards.reduce((sum, { tokens }) => sum + tokens, 0);
  if (total === split.tokens) return;
  throw damaged(
    join(folder, indexFileName),
    `its shards hold ${total} tokens, not ${split.tokens}`,
  );
}

function readDocumentStarts(file: Deno.FsFile, split: SplitIndex, folder: string): Float64Array {
  const lengths = new Uint32Array(split.documents), path = join(folder, split.document_lengths);
  readExactly({ file, path }, 0, lengths);
  const starts = new Float64Array(split.documents + 1);
  lengths.forEach((length, i) => starts[i + 1] = starts[i] + length);
  if (starts[split.documents] === split.tokens) return starts;
  throw damaged(
    path,
    `its documents have ${starts[split.documents]} tokens together, not ${split.tokens}`,
  );
}
