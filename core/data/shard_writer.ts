/**
 * Writes a folder of token shards: all of it, or nothing.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  exists,
  isTaken,
  replaceFolder,
  writeAllBytesSync,
  writeFolderAtomic,
} from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { tokenizerFileName } from "../text/load.ts";
import {
  indexFileName,
  type ShardIndex,
  type SplitIndex,
  type SplitName,
  tokenArray,
  tokenDtype,
} from "./shard_index.ts";

/**
 * A document ready to be stored: its tokens, the end-of-text token last, and its text's UTF-8
 * bytes. A long one comes in parts, all but the last `isOpen`.
 */
export interface EncodedDocument {
  readonly split: SplitName;
  readonly ids: Uint16Array | Uint32Array;
  readonly bytes: number;
  readonly isOpen?: boolean;
}

/** "undo" takes back all that came since the last "begin". */
export type ShardItem = EncodedDocument | "begin" | "undo";

/** Where and how shards are written. */
export interface ShardTarget {
  readonly folder: string;
  readonly ifExists: "fail" | "replace";
  /** A shard is closed before it grows past this. */
  readonly shardBytes: number;
}

/** Stores documents as they come, some at a time; returns the index that was written. */
export async function writeShards(
  target: ShardTarget,
  tokenizer: Tokenizer,
  batches: AsyncIterable<Iterable<ShardItem>>,
): Promise<ShardIndex> {
  await requirePlace(target);
  let index: ShardIndex | undefined;
  const write = target.ifExists === "replace" ? replaceFolder : writeFolderAtomic;
  await write(target.folder, async (folder) => {
    const dtype = tokenDtype(tokenizer.vocabSize);
    const tokensPerShard = Math.max(
      1,
      Math.floor(target.shardBytes / tokenArray(dtype).BYTES_PER_ELEMENT),
    );
    const open = (name: SplitName) => openSplit({ folder, name, dtype, tokensPerShard });
    const splits = { train: open("train"), val: open("val") };
    const { train, val } = splits;
    try {
      for await (const items of batches) {
        for (const item of items) {
          if (item === "begin") [train, val].forEach((split) => split.begin());
          else if (item === "undo") [train, val].forEach((split) => split.undo());
          else splits[item.split].add(item);
        }
      }
      index = {
        format: "quern-shards",
        version: 1,
        dtype,
        vocab_size: tokenizer.vocabSize,
        end_of_text: tokenizer.endOfText ?? null,
        tokenizer: { file: tokenizerFileName, kind: tokenizer.kind, sha256: tokenizer.hash },
        splits: { train: train.finish(), val: val.finish() },
      };
    } finally {
      train.close();
      val.close();
    }
    await Deno.writeTextFile(join(folder, tokenizerFileName), tokenizer.file);
    await Deno.writeTextFile(join(folder, indexFileName), `${JSON.stringify(index, null, 2)}\n`);
  });
  if (index === undefined) throw new Error("the shards' folder was placed before it was filled");
  return index;
}

/** Finds out before the work whether its result may go there; only shards are ever replaced. */
async function requirePlace({ folder, ifExists }: ShardTarget): Promise<void> {
  if (!await isTaken(folder)) return;
  if (ifExists === "fail") {
    throw new UserError("the folder exists already", {
      where: folder,
      hint: "choose another folder, or give --overwrite",
    });
  }
  if (!await exists(join(folder, indexFileName))) {
    throw new UserError(`not replaced: it holds no ${indexFileName}, so it may be something else`, {
      where: folder,
      hint: "choose another folder, or remove this one yourself",
    });
  }
}

interface SplitPlace {
  folder: string;
  name: SplitName;
  dtype: ShardIndex["dtype"];
  tokensPerShard: number;
}

/** Takes one split's documents and closes a shard whenever it is full. */
function openSplit({ folder, name, dtype, tokensPerShard }: SplitPlace) {
  const TokenArray = tokenArray(dtype);
  const lengthsFile = `${name}.documents.bin`;
  const pathOf = (shard: number) => join(folder, shardFileName(name, shard));
  const shards: SplitIndex["shards"] = [];
  let lengths = openStream(join(folder, lengthsFile));
  let shard: ByteStream | undefined;
  let totals = { tokens: 0, documents: 0, bytes: 0 };
  let shardTokens = 0;
  let openTokens = 0; // of a document that goes on
  let begin = { shards: 0, shardTokens, totals };

  function closeShard(): void {
    if (shard === undefined) return;
    shard.flush();
    shards.push({
      file: shardFileName(name, shards.length),
      tokens: shardTokens,
      sha256: shard.hash(),
    });
    shard.close();
    [shard, shardTokens] = [undefined, 0];
  }

  return {
    add({ ids, bytes, isOpen = false }: EncodedDocument): void {
      for (let done = 0; done < ids.length;) {
        if (shardTokens === tokensPerShard) closeShard();
        shard ??= openStream(pathOf(shards.length));
        const part = ids.subarray(done, done + tokensPerShard - shardTokens);
        shard.write(part instanceof TokenArray ? part : TokenArray.from(part));
        shardTokens += part.length;
        done += part.length;
      }
      const { tokens, documents } = totals;
      totals = { tokens: tokens + ids.length, documents, bytes: totals.bytes + bytes };
      openTokens += ids.length;
      if (isOpen) return;
      if (openTokens > 0xffffffff) throw tooManyTokens(openTokens);
      lengths.write(Uint32Array.of(openTokens));
      totals.documents++;
      openTokens = 0;
    },
    begin(): void {
      begin = { shards: shards.length, shardTokens, totals };
    },
    undo(): void {
      shard?.flush();
      shard?.close();
      lengths.flush();
      lengths.close();
      const last = shards.length;
      for (let i = begin.shards; i <= last; i++) {
        const isKept = i === begin.shards && begin.shardTokens > 0;
        if (!isKept && existsSync(pathOf(i))) Deno.removeSync(pathOf(i));
      }
      shards.length = begin.shards;
      ({ totals, shardTokens } = begin);
      openTokens = 0;
      const keptBytes = shardTokens * TokenArray.BYTES_PER_ELEMENT;
      shard = shardTokens === 0 ? undefined : openStream(pathOf(shards.length), keptBytes);
      lengths = openStream(join(folder, lengthsFile), 4 * totals.documents);
    },
    finish(): SplitIndex {
      closeShard();
      lengths.flush();
      return { ...totals, document_lengths: lengthsFile, shards };
    },
    close(): void {
      shard?.close();
      lengths.close();
    },
  };
}

function shardFileName(split: SplitName, number: number): string {
  return `${split}-${String(number).padStart(5, "0")}.bin`;
}

function tooManyTokens(tokens: number): UserError {
  return new UserError(`a document has ${tokens} tokens, and at most 4294967295 fit its length`, {
    hint: "give --document-separator, or split the file",
    exitCode: exitCodes.failed,
  });
}

type ByteStream = ReturnType<typeof openStream>;

/**
 * A file that is written through a buffer and hashed on the way: a new one, or one of which so many
 * bytes are kept.
 */
function openStream(path: string, keptBytes?: number) {
  const isNew = keptBytes === undefined;
  const file = Deno.openSync(path, { read: true, write: true, createNew: isNew });
  const digest = createHash("sha256");
  const buffer = new Uint8Array(1 << 16);
  let filled = 0;
  if (!isNew) {
    file.truncateSync(keptBytes);
    for (let count; (count = file.readSync(buffer)) !== null;) {
      digest.update(buffer.subarray(0, count));
    }
  }
  const put = (bytes: Uint8Array) => {
    digest.update(bytes);
    writeAllBytesSync(file, bytes);
  };
  const flush = () => {
    put(buffer.subarray(0, filled));
    filled = 0;
  };
  return {
    write(view: ArrayBufferView): void {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      if (filled + bytes.length > buffer.length) flush();
      if (bytes.length > buffer.length) return put(bytes);
      buffer.set(bytes, filled);
      filled += bytes.length;
    },
    flush,
    hash: () => digest.digest("hex"),
    close: () => file.close(),
  };
}
