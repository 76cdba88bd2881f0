/** What a path is: quern's own folders and files, and those of others that it reads. */

import { extname, join } from "node:path";
import { isShards } from "../data/shard_reader.ts";
import { exists } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { artifactAt } from "../open/artifact.ts";
import { isHuggingface } from "../open/mod.ts";
import { tokenizerFileName } from "../text/load.ts";
import { isCheckpoint, isRun } from "../train/mod.ts";

export const subjects = ["model", "shards", "tokenizer", "tensors", "config"] as const;
/** `model`: a run, a checkpoint or a Hugging Face folder, all of which have weights, config and tokenizer. */
export type Subject = typeof subjects[number];

const isOf: readonly (readonly [Subject, (path: string) => Promise<boolean>])[] = [
  ["model", isCheckpoint],
  ["model", isRun],
  ["model", async (path) => await artifactAt(path) !== undefined],
  ["shards", isShards],
  ["model", isHuggingface],
  ["tensors", async (path) => (await tensorFiles(path)).length > 0],
  ["tokenizer", (path) => exists(join(path, tokenizerFileName))],
];

/** Undefined where there is nothing: it may be the name of a config that quern carries. */
export async function recognise(path: string): Promise<Subject | undefined> {
  const found = await Deno.stat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw new UserError(String(error.message), { where: path, cause: error });
  });
  if (!found) return undefined;
  if (!found.isDirectory) return await artifactAt(path) === undefined ? ofFile(path) : "model";
  for (const [subject, is] of isOf) if (await is(path)) return subject;
  throw new UserError("nothing in this folder is known", {
    where: path,
    hint: "it holds neither a run, a checkpoint, token shards, safetensors nor a tokenizer.json",
  });
}

function ofFile(path: string): Subject {
  switch (extname(path).toLowerCase()) {
    case ".safetensors":
    case ".pt":
    case ".pth":
    case ".gguf":
      return "tensors";
    case ".json":
      return /\.safetensors\.index\.json$/i.test(path) ? "tensors" : "tokenizer";
    case ".yaml":
    case ".yml":
      return "config";
    default:
      throw new UserError("what this file is cannot be told from its name", {
        where: path,
        hint:
          "known are .safetensors, .pt, .pth, .gguf, a tokenizer.json, a config as .yaml, and folders: " +
          "runs, checkpoints, token shards",
      });
  }
}

/** The files of tensors that a path means: itself, or the safetensors files of an index or in a folder. */
export async function tensorFiles(path: string): Promise<string[]> {
  if (/\.(safetensors|pt|pth|gguf)$/i.test(path)) return [path];
  const folder = /\.json$/i.test(path) ? join(path, "..") : path;
  const files: string[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && name.endsWith(".safetensors")) files.push(join(folder, name));
  }
  return files.sort();
}
