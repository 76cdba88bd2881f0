/**
 * Writes a folder of token shards: all of it, or nothing.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { exists, replaceFolder, writeAllBytes, writeFolderAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { tokenizerFileName } from "../text/load.ts";
import {
  indexFileName,
  type ShardIndex,
  type SplitIndex,
  type SplitName,
  splitNames,
  tokenArray,
  tokenDtype,
} from "./shard_index.ts";

/**
 * A document ready to be stored: its tokens, the end-of-text token last, and its text's UTF-8
 * bytes.
 */
export interface EncodedDocument {
  readonly split: SplitName;
  readonly ids: Uint32Array;
  readonly bytes: number;
}

/** Where and how shards are written. */
export interface ShardTarget {
  readonly folder: string;
  readonly ifExists: "fail" | "replace";
  /** A shard is closed before it grows past this. */
  readonly shardBytes: number;
}

/** Stores documents as they come; returns the index that was written. */
export async function writeShards(
  target: ShardTarget,
  tokenizer: Tokenizer,
  documents: AsyncIterable<EncodedDocument>,
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
    const [train, val] = splitNames.map((name) =>
      openSplit({ folder, name, dtype, tokensPerShard })
    );
    try {
      for await (const document of documents) {
        await (document.split === "train" ? train : val).add(document);
      }
      index = {
        format: "quern-shards",
        version: 1,
        dtype,
        vocab_size: tokenizer.vocabSize,
        end_of_text: tokenizer.endOfText ?? null,
        tokenizer: { file: tokenizerFileName, kind: tokenizer.kind, sha256: tokenizer.hash },
        splits: { train: await train.finish(), val: await val.finish() },
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
  if (!await exists(folder)) return;
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
  const lengths = openStream(join(folder, lengthsFile));
  const shards: SplitIndex["shards"] = [];
  const totals = { tokens: 0, documents: 0, bytes: 0 };
  let shard: ByteStream | undefined;
  let shardTokens = 0;

  async function closeShard(): Promise<void> {
    if (shard === undefined) return;
    await shard.flush();
    const file = shardFileName(name, shards.length);
    shards.push({ file, tokens: shardTokens, sha256: shard.hash() });
    shard.close();
    [shard, shardTokens] = [undefined, 0];
  }

  return {
    async add({ ids, bytes }: EncodedDocument): Promise<void> {
      await lengths.write(Uint32Array.of(ids.length));
      for (let done = 0; done < ids.length;) {
        if (shardTokens === tokensPerShard) await closeShard();
        shard ??= openStream(join(folder, shardFileName(name, shards.length)));
        const part = ids.subarray(done, done + tokensPerShard - shardTokens);
        await shard.write(TokenArray.from(part));
        shardTokens += part.length;
        done += part.length;
      }
      totals.tokens += ids.length;
      totals.documents++;
      totals.bytes += bytes;
    },
    async finish(): Promise<SplitIndex> {
      await closeShard();
      await lengths.flush();
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

type ByteStream = ReturnType<typeof openStream>;

/** A new file that is written through a buffer and hashed on the way. */
function openStream(path: string) {
  const file = Deno.openSync(path, { write: true, createNew: true });
  const digest = createHash("sha256");
  const buffer = new Uint8Array(1 << 16);
  let filled = 0;
  const put = async (bytes: Uint8Array) => {
    digest.update(bytes);
    await writeAllBytes(file, bytes);
  };
  const flush = async () => {
    await put(buffer.subarray(0, filled));
    filled = 0;
  };
  return {
    async write(view: ArrayBufferView): Promise<void> {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      if (filled + bytes.length > buffer.length) await flush();
      if (bytes.length > buffer.length) return await put(bytes);
      buffer.set(bytes, filled);
      filled += bytes.length;
    },
    flush,
    hash: () => digest.digest("hex"),
    close: () => file.close(),
  };
}
