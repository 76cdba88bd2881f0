/**
 * Reads a folder of token shards: any run of tokens of a split, without holding the split in
 * memory.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
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

/** One split as a row of tokens, and the documents in it. */
export interface SplitReader {
  readonly name: SplitName;
  readonly tokens: number;
  readonly documents: number;
  /** UTF-8 bytes of the text that the tokens stand for. */
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

/** Opens a folder that `quern tokenize` wrote, and checks that its files belong together. */
export async function openShards(folder: string): Promise<ShardReader> {
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
  const TokenArray = tokenArray(index.dtype);
  const width = TokenArray.BYTES_PER_ELEMENT;
  const starts = shardStarts(split, folder);
  const files: Deno.FsFile[] = [];
  for (const { file, tokens } of split.shards) {
    files.push(await openSized(join(folder, file), tokens * width, opened));
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
    read(start, out) {
      if (start < 0 || start + out.length > split.tokens) {
        throw new RangeError(
          `tokens ${start}..${start + out.length} of ${split.tokens} in ${name}`,
        );
      }
      for (let done = 0; done < out.length;) {
        const at = start + done;
        const shard = starts.findLastIndex((first) => first <= at);
        const count = Math.min(out.length - done, starts[shard] + split.shards[shard].tokens - at);
        const part = new TokenArray(count);
        const path = join(folder, split.shards[shard].file);
        readExactly({ file: files[shard], path }, (at - starts[shard]) * width, part);
        copyChecked(part, out, done, index.vocab_size, path);
        done += count;
      }
    },
  };
}

/**
 * The first token of each shard that holds any; the shards together must hold what the split
 * claims.
 */
function shardStarts(split: SplitIndex, folder: string): number[] {
  const starts: number[] = [];
  const total = split.shards.reduce((sum, { tokens }) => {
    starts.push(sum);
    return sum + tokens;
  }, 0);
  if (total === split.tokens) return starts;
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

function copyChecked(
  part: Uint16Array | Uint32Array,
  out: Int32Array,
  at: number,
  vocabSize: number,
  path: string,
): void {
  for (let i = 0; i < part.length; i++) {
    if (part[i] >= vocabSize) {
      throw damaged(path, `token id ${part[i]} is outside the vocabulary of ${vocabSize}`);
    }
    out[at + i] = part[i];
  }
}

/** Opens a file that must have exactly this size. */
async function openSized(path: string, bytes: number, opened: Deno.FsFile[]): Promise<Deno.FsFile> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    throw new UserError(messageOf(error), {
      where: path,
      exitCode: exitCodes.failed,
      cause: error,
    });
  }
  opened.push(file);
  const { size, isDirectory } = await file.stat();
  if (isDirectory) throw damaged(path, "this is a folder, a file is expected");
  if (size !== bytes) throw damaged(path, `has ${size} bytes, the index says ${bytes}`);
  return file;
}

function readExactly(
  { file, path }: { readonly file: Deno.FsFile; readonly path: string },
  position: number,
  into: Uint16Array | Uint32Array,
): void {
  const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
  file.seekSync(position, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) {
    const count = file.readSync(bytes.subarray(done));
    if (count === null) throw damaged(path, "it became shorter while it was read");
    done += count;
  }
}

function damaged(path: string, what: string): UserError {
  return new UserError(what, {
    where: path,
    hint: "the data is damaged: tokenize the text again",
    exitCode: exitCodes.failed,
  });
}
