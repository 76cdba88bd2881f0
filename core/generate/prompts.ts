/** Prompts as people keep them: a file that is one, or a file with one a line. `-` is stdin. */

import { didYouMean, exitCodes, jsonFault, messageOf, UserError } from "../io/errors.ts";
import { byteOrderMarkLength, decodeUtf8, joinBytes, splitLines } from "../io/lines.ts";

export interface PlacedPrompt {
  readonly text: string;
  /** File and line, for messages; undefined for a prompt of the command line. */
  readonly where?: string;
}

const hint = "convert it to UTF-8, for example with iconv";

/** A whole file. The line feed at its end, which editors and shells add, is no part of the prompt. */
export async function readPrompt(path: string): Promise<PlacedPrompt> {
  const pieces: Uint8Array[] = [];
  for await (const piece of await chunksOf(path)) pieces.push(piece);
  const whole = joinBytes(pieces), offset = byteOrderMarkLength(whole);
  const text = decodeUtf8(whole.subarray(offset), { file: nameOf(path), line: 1, offset, hint });
  return { text: text.replace(/\r?\n$/, ""), where: nameOf(path) };
}

/** Prompts of a file, and how many lines were left out as they have nothing but white space. */
export interface PromptLines {
  readonly prompts: readonly PlacedPrompt[];
  readonly blank: number;
}

/**
 * A prompt a line: the line itself, or the field `prompt` of a jsonl file. Names that end in .jsonl
 * or .ndjson are jsonl, and so is a stdin that begins with a JSON object.
 */
export async function readPrompts(path: string): Promise<PromptLines> {
  const file = nameOf(path), prompts: PlacedPrompt[] = [];
  let blank = 0;
  let isJsonl = /\.(jsonl|ndjson)$/i.test(path);
  for await (const { bytes, number, offset } of splitLines(await chunksOf(path))) {
    const line = decodeUtf8(bytes, { file, line: number, offset, hint }),
      where = `${file}:${number}`;
    if (path === "-" && number === 1) isJsonl = isObject(line);
    if (line.trim() === "") blank++;
    else prompts.push({ text: isJsonl ? promptOf(line, where) : line, where });
  }
  if (prompts.length > 0) return { prompts, blank };
  throw new UserError("there is no prompt", { where: file, hint: "give one a line" });
}

const nameOf = (path: string) => path === "-" ? "stdin" : path;

async function chunksOf(path: string): Promise<AsyncIterable<Uint8Array>> {
  if (path === "-") return Deno.stdin.readable;
  try {
    const { isDirectory } = await Deno.stat(path);
    if (isDirectory) throw new UserError("this is a folder, a file is expected", { where: path });
    return (await Deno.open(path)).readable;
  } catch (error) {
    if (error instanceof UserError) throw error;
    const isMissing = error instanceof Deno.errors.NotFound;
    throw new UserError(isMissing ? "there is no such file" : messageOf(error), {
      where: path,
      cause: error,
    });
  }
}

function isObject(line: string): boolean {
  try {
    return line.trimStart().startsWith("{") && typeof JSON.parse(line) === "object";
  } catch {
    return false;
  }
}

function promptOf(line: string, where: string): string {
  const fault = (message: string) =>
    new UserError(message, {
      where,
      hint: 'a line is an object such as {"prompt": "Once"}',
      exitCode: exitCodes.failed,
    });
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw fault(jsonFault(error));
  }
  if (typeof record !== "object" || record === null) throw fault("not a JSON object");
  if (!("prompt" in record)) {
    throw fault(`there is no field "prompt"${didYouMean("prompt", Object.keys(record))}`);
  }
  if (typeof record.prompt !== "string") throw fault('the field "prompt" is not text');
  if (!record.prompt.isWellFormed()) throw fault('the field "prompt" holds half a surrogate pair');
  return record.prompt;
}
