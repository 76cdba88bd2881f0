/**
 * The files that are meant by what a user names: files, folders, patterns, and `-`.
 *
 * @module
 */
import { glob } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../io/errors.ts";
import { plainName, stdinName } from "../io/input_file.ts";

/** What a folder's files must be called to be read. */
const textSuffixes = [".txt", ".text", ".md", ".jsonl", ".ndjson", ".parquet"];

/** Whether a file's name says that it holds text, compressed or not. */
export function isTextName(name: string): boolean {
  return textSuffixes.some((suffix) => plainName(name).toLowerCase().endsWith(suffix));
}

/** The files of all inputs; those of a folder or a pattern sorted by their names. */
export async function expandInputs(inputs: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const input of inputs) files.push(...await expandInput(input));
  return files;
}

async function expandInput(input: string): Promise<string[]> {
  if (input === stdinName) return [input];
  const found = await Deno.stat(input).catch(() => undefined);
  if (found?.isDirectory) return await requireSome(filesOf(input), input, folderHint);
  if (found !== undefined || !/[*?[{]/.test(input)) return [input]; // reading it says what is wrong
  return await requireSome(matchesOf(input), input, "put the pattern in quotes, or check the path");
}

const folderHint = `a folder gives its files called ${textSuffixes.join(", ")}, also .gz or .zst`;

async function requireSome(files: AsyncIterable<string>, where: string, hint: string) {
  const found = await Array.fromAsync(files);
  if (found.length === 0) throw new UserError("there are no text files here", { where, hint });
  return found.sort();
}

/** The text files in a folder and in those below; hidden ones are left out. */
async function* filesOf(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (name.startsWith(".")) continue;
    const path = join(folder, name);
    if (isDirectory) yield* filesOf(path);
    else if (isTextName(name)) yield path;
  }
}

async function* matchesOf(pattern: string): AsyncGenerator<string> {
  for await (const path of glob(pattern)) {
    const found = await Deno.stat(path).catch(() => undefined); // reading it says what is wrong
    if (!found?.isDirectory) yield path;
  }
}

/** A file that is named twice would count twice, and be trained on where it is held out. */
export async function requireOnce(inputs: readonly string[]): Promise<void> {
  const seen = new Map<string, string>();
  for (const input of inputs) {
    const path = await Deno.realPath(input).catch(() => input); // reading it says why it cannot be read
    const before = seen.get(path);
    if (before !== undefined) {
      throw new UserError("the file is given twice", {
        where: input,
        hint: before === input ? "leave one out" : `it is ${before}: leave one out`,
      });
    }
    seen.set(path, input);
  }
}
