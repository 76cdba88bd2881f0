/** Texts for a model to read, with their categories. */

import { blockSizes } from "../data/blocks.ts";
import { documentsOf, formatOf, readBatches } from "../data/documents.ts";
import { UserError } from "../io/errors.ts";
import type { PlacedText } from "./insides.ts";

export interface TextOptions {
  /** Of records: those that hold the text, joined by a blank line. */
  readonly fields: readonly string[];
  /** Of records: what tells texts apart. */
  readonly categoryField?: string | undefined;
}

/** Of each argument: `NAME=FILE`, a file, or the text itself. */
export async function placedTexts(
  given: readonly string[],
  options: TextOptions,
): Promise<PlacedText[]> {
  const texts: PlacedText[] = [];
  let literal = 0;
  for (const argument of given) {
    const [, name, named] = argument.match(/^([^=/\\]+)=(.+)$/s) ?? [];
    if (named !== undefined && await isFile(named)) {
      texts.push(...await textsIn(named, name, options));
    } else if (await isFile(argument)) {
      texts.push(...await textsIn(argument, nameOf(argument), options));
    } else if (looksLikeFile(named ?? argument)) {
      throw new UserError("there is no such file", {
        where: named ?? argument,
        hint: "a text that looks like a file's name is taken as one: put a space behind it",
      });
    } else if (argument.trim() !== "") {
      literal++;
      texts.push({ category: literal === 1 ? "text" : `text ${literal}`, text: argument });
    }
  }
  if (texts.length > 0) return texts;
  throw new UserError("there is no text to read", { hint: "give a text, or a file with one" });
}

/** `novel.txt`, `a/b.jsonl.gz`: a slip must not be read as a text. */
const looksLikeFile = (text: string) => /^\S*\w\.[a-z]\w{0,6}(\.(gz|zst))?$/i.test(text);

async function isFile(path: string): Promise<boolean> {
  if (path.length > 4096 || path.includes("\n")) return false; // no system has such paths
  return (await Deno.stat(path).catch(() => undefined))?.isFile ?? false;
}

const nameOf = (path: string) => path.split(/[\\/]/).at(-1)!.replace(/\.\w+(\.(gz|zst))?$/, "");

async function textsIn(
  path: string,
  name: string,
  { fields, categoryField }: TextOptions,
): Promise<PlacedText[]> {
  const texts = await Array.fromAsync(documents(path, fields));
  if (categoryField === undefined || formatOf(path, "auto") === "text") {
    return texts.filter((text) => /\S/.test(text)).map((text) => ({ category: name, text }));
  }
  const categories = await Array.fromAsync(documents(path, [categoryField]));
  return texts.map((text, i) => ({ category: categories[i], text }))
    .filter(({ text }) => /\S/.test(text));
}

async function* documents(path: string, fields: readonly string[]): AsyncGenerator<string> {
  const reading = { format: "auto", fields, separator: undefined, onError: "stop" } as const;
  const long = { lastCut: undefined, valFraction: 0, spoolFolder: "", sizes: blockSizes };
  for await (const blocks of readBatches([path], reading, long)) {
    for (const block of blocks) {
      if (block.kind === "piece") throw new UserError("the text is too long", { where: path });
      for (const attempt of documentsOf(block, reading)) yield attempt().text;
    }
  }
}
