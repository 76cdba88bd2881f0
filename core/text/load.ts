/**
 * Tokenizers from files: quern's own and Hugging Face's, both called `tokenizer.json`.
 *
 * @module
 */
import { join } from "node:path";
import { didYouMean, exitCodes, jsonFault, messageOf, UserError } from "../io/errors.ts";
import { idsTokenizer } from "./ids.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "./tokenizer.ts";

/** The name of a tokenizer's file in a data or run folder. */
export const tokenizerFileName = "tokenizer.json";

/** Loads the tokenizer in a file, or in the `tokenizer.json` of a folder. */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  return await isFolder(path)
    ? await readTokenizer(
      join(path, tokenizerFileName),
      "the data that a model learned has it: copy it from there",
    )
    : await readTokenizer(path, "give byte, character, or the path of a tokenizer.json");
}

async function readTokenizer(file: string, hint: string): Promise<Tokenizer> {
  return await parseTokenizer(await readText(file, hint), file);
}

/** The tokenizer that a file's text describes; `where` names the file in errors. */
export async function parseTokenizer(text: string, where: string): Promise<Tokenizer> {
  const description = parseJson(text, where);
  const kind = description.quern;
  const special = namesIn(description.special_tokens, where);
  if (kind === "byte") return checkSame(byteTokenizer(special), text, where);
  if (kind === "character" && typeof description.characters === "string") {
    return checkSame(characterTokenizer(description.characters, special), text, where);
  }
  if (kind === "ids" && Number.isSafeInteger(description.vocab_size)) {
    return idsTokenizer(description.vocab_size as number);
  }
  if (kind !== undefined) {
    throw new UserError(`quern knows no tokenizer ${JSON.stringify(kind)}`, {
      where,
      hint: "it may come from a newer version of quern",
    });
  }
  const { huggingfaceTokenizer } = await import("./huggingface.ts");
  return huggingfaceTokenizer(text, where);
}

/** The further special tokens of a built-in tokenizer. */
function namesIn(value: unknown, where: string): string[] {
  const names: unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
  const isName = (name: unknown) => typeof name === "string" && name !== "";
  if (names.every(isName) && new Set(names).size === names.length) return names.map(String);
  throw new UserError("special_tokens is a list of different names", {
    where,
    exitCode: exitCodes.failed,
  });
}

/** A built-in tokenizer's file has one form; another form would have another hash. */
function checkSame(tokenizer: Tokenizer, text: string, where: string): Tokenizer {
  if (tokenizer.file === text) return tokenizer;
  throw new UserError(`not the file that quern writes for its ${tokenizer.kind} tokenizer`, {
    where,
    hint: `make it again: quern tokenize --tokenizer ${tokenizer.kind}`,
    exitCode: exitCodes.failed,
  });
}

function parseJson(text: string, where: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(jsonFault(error), { where, cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError("not a tokenizer: a JSON object is expected", { where });
  }
  return { ...value };
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false; // reading it gives the better message
    throw error;
  }
}

async function readText(file: string, hint: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    const missing = `there is no such tokenizer file${didYouMean(file, ["byte", "character"])}`;
    throw new UserError(error instanceof Deno.errors.NotFound ? missing : messageOf(error), {
      where: file,
      hint,
      cause: error,
    });
  }
}
