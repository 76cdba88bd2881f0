/**
 * Token shards of modded-nanogpt and parameter-golf, `NAME_train_*.bin` and `NAME_val_*.bin`, read as they are: 256
 * little-endian i32 (20240520, version 1, the number of tokens), then so many u16. A document begins with token 1.
 *
 * @module
 */
import { join } from "node:path";
import { exists } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { loadTokenizer, tokenizerFileName } from "../text/load.ts";
import { sha256, type Tokenizer } from "../text/tokenizer.ts";
import type { SplitName } from "./shard_index.ts";
import type { ShardReader, SplitReader } from "./shard_reader.ts";
import { damaged, openAt, readExactly, type TokenFile, tokenReader } from "./token_files.ts";

const magic = 20240520, version = 1, headerWords = 256, headerBytes = 4 * headerWords;
const firstOfDocument = 1;

/** Opens a folder of such shards; undefined where there are none. */
export async function openBinShards(folder: string): Promise<ShardReader | undefined> {
  const names = await namesIn(folder);
  if (names.train.length === 0) return undefined;
  const tokenizer = await tokenizerOf(folder);
  const opened: Deno.FsFile[] = [];
  const close = () => opened.splice(0).forEach((file) => file.close());
  try {
    const train = await openSplit(folder, names.train, opened);
    const val = await openSplit(folder, names.val, opened);
    const splits = {
      train: splitReader("train", train, tokenizer),
      val: splitReader("val", val, tokenizer),
    };
    const hash = sha256(JSON.stringify([tokenizer.hash, ...[...train, ...val].map(printOf)]));
    const entry = (name: SplitName, files: readonly TokenFile[]) => ({
      tokens: splits[name].tokens,
      documents: 0,
      bytes: 0,
      document_lengths: "",
      shards: files.map(({ path, tokens }) => ({ file: path, tokens, sha256: "" })),
    });
    return {
      folder,
      index: {
        format: "quern-shards",
        version: 1,
        dtype: "u16",
        vocab_size: tokenizer.vocabSize,
        end_of_text: null,
        tokenizer: { file: tokenizerFileName, kind: tokenizer.kind, sha256: tokenizer.hash },
        splits: { train: entry("train", train), val: entry("val", val) },
      },
      tokenizer,
      hash,
      splits,
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Whether there are such shards. */
export async function hasBinShards(folder: string): Promise<boolean> {
  return (await namesIn(folder)).train.length > 0;
}

async function namesIn(folder: string): Promise<Record<SplitName, string[]>> {
  const names: Record<SplitName, string[]> = { train: [], val: [] };
  if (!await exists(folder) || !(await Deno.stat(folder)).isDirectory) return names;
  for await (const { name } of Deno.readDir(folder)) {
    const [, split] = name.match(/_(train|val)_.*\.bin$/) ?? [];
    if (split) names[split as SplitName].push(name);
  }
  return { train: names.train.sort(), val: names.val.sort() };
}

async function tokenizerOf(folder: string): Promise<Tokenizer> {
  if (await exists(join(folder, tokenizerFileName))) return await loadTokenizer(folder);
  throw new UserError(`these shards do not say how large their vocabulary is`, {
    where: folder,
    hint:
      `put their ${tokenizerFileName} beside them; without one a line does, for a vocabulary of ` +
      `1024 {"quern":"ids","vocab_size":1024}: texts are then numbers, and bits per byte are not known`,
  });
}

async function openSplit(
  folder: string,
  names: readonly string[],
  opened: Deno.FsFile[],
): Promise<TokenFile[]> {
  const files: TokenFile[] = [];
  for (const name of names) {
    const path = join(folder, name), file = await openAt(path, opened);
    files.push({ file, path, tokens: await tokensIn(file, path) });
  }
  return files;
}

/** What the header says, once the file's size agrees. */
async function tokensIn(file: Deno.FsFile, path: string): Promise<number> {
  const { size } = await file.stat(), hint = "fetch the file again";
  if (size < headerBytes) throw damaged(path, `has ${size} bytes, less than a header`, hint);
  const words = new Uint32Array(headerWords);
  readExactly({ file, path }, 0, words);
  const [found, form, tokens] = words, expected = headerBytes + 2 * tokens;
  if (found !== magic) throw damaged(path, `not a token shard: it begins with ${found}`, hint);
  if (form !== version) {
    throw damaged(path, `is of version ${form}, and only ${version} is known`, hint);
  }
  if (size !== expected) {
    throw damaged(path, `has ${size} bytes, its header says ${expected}`, hint);
  }
  return tokens;
}

/** What tells a shard from others without reading all of it: its name and size, and its first tokens. */
function printOf({ file, path, tokens }: TokenFile): unknown {
  const first = new Uint16Array(Math.min(tokens, 4096));
  readExactly({ file, path }, headerBytes, first);
  return [path.split(/[\\/]/).at(-1), tokens, sha256(new Uint8Array(first.buffer))];
}

function splitReader(
  name: SplitName,
  files: readonly TokenFile[],
  { vocabSize }: Tokenizer,
): SplitReader {
  const tokens = files.reduce((sum, { tokens }) => sum + tokens, 0);
  const read = tokenReader(files, { array: Uint16Array, header: headerBytes, vocabSize }, name);
  let found: Float64Array | undefined;
  const documentStarts = () => found ??= findStarts(tokens, read);
  return {
    name,
    tokens,
    /** Only those who ask read all tokens to count them. */
    get documents() {
      return documentStarts().length - 1;
    },
    bytes: NaN,
    endOfText: undefined,
    documentStarts,
    read,
  };
}

/** What stands before the first document's beginning belongs to it. */
function findStarts(tokens: number, read: SplitReader["read"]): Float64Array {
  const starts: number[] = [], chunk = 2 ** 20;
  for (let at = 0; at < tokens; at += chunk) {
    const part = new Int32Array(Math.min(chunk, tokens - at));
    read(at, part);
    part.forEach((id, i) => {
      if (id === firstOfDocument || at + i === 0) starts.push(at + i);
    });
  }
  return Float64Array.from([...starts, tokens]);
}
