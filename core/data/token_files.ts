/**
 * Files of token ids, as one row of tokens.
 *
 * @module
 */
import { exitCodes, messageOf, UserError } from "../io/errors.ts";

/** An open file of tokens. */
export interface TokenFile {
  readonly file: Deno.FsFile;
  readonly path: string;
  readonly tokens: number;
}

/** How tokens lie in their files. */
export interface TokenLayout {
  readonly array: Uint16ArrayConstructor | Uint32ArrayConstructor;
  /** Bytes before the first. */
  readonly header: number;
  readonly vocabSize: number;
}

/** Copies the tokens from `start` on until `out` is full. The files' tokens follow each other. */
export function tokenReader(
  files: readonly TokenFile[],
  { array: TokenArray, header, vocabSize }: TokenLayout,
  name: string,
): (start: number, out: Int32Array) => void {
  const starts: number[] = [];
  const total = files.reduce((sum, { tokens }) => {
    starts.push(sum);
    return sum + tokens;
  }, 0);
  return (start, out) => {
    if (start < 0 || start + out.length > total) {
      throw new RangeError(`tokens ${start}..${start + out.length} of ${total} in ${name}`);
    }
    for (let done = 0; done < out.length;) {
      const at = start + done, shard = starts.findLastIndex((first) => first <= at);
      const count = Math.min(out.length - done, starts[shard] + files[shard].tokens - at);
      const part = new TokenArray(count);
      readExactly(files[shard], header + (at - starts[shard]) * part.BYTES_PER_ELEMENT, part);
      copyChecked(part, out, done, vocabSize, files[shard].path);
      done += count;
    }
  };
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
export async function openSized(
  path: string,
  bytes: number,
  opened: Deno.FsFile[],
): Promise<Deno.FsFile> {
  const file = await openAt(path, opened);
  const { size, isDirectory } = await file.stat();
  if (isDirectory) throw damaged(path, "this is a folder, a file is expected");
  if (size !== bytes) throw damaged(path, `has ${size} bytes, the index says ${bytes}`);
  return file;
}

/** Opens a file, and keeps it in a list of what is to be closed. */
export async function openAt(path: string, opened: Deno.FsFile[]): Promise<Deno.FsFile> {
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
  return file;
}

export function readExactly(
  { file, path }: Pick<TokenFile, "file" | "path">,
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

export function damaged(
  path: string,
  what: string,
  hint = "the data is damaged: tokenize the text again",
): UserError {
  return new UserError(what, { where: path, hint, exitCode: exitCodes.failed });
}
