/** A folder in Hugging Face's layout, or a GGUF file, as a run of ours. */

import { join } from "node:path";
import { type Imported, refuseTaken, writeImport } from "../import/mod.ts";
import { exists } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { tokenizerConfigName } from "../text/chat/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type AnyConfig, pretrainConfig } from "../train/mod.ts";
import { isGgufFile, openGgufModel } from "./gguf.ts";
import { openFolder } from "./huggingface.ts";
import { readJson } from "./json.ts";
import type { OpenedModel } from "./open.ts";

export interface FolderImport {
  readonly from: string;
  /** In place of a GGUF file's own. */
  readonly tokenizer?: Tokenizer | undefined;
  /** The run's folder; undefined looks and writes nothing. */
  readonly out: string | undefined;
  readonly session: { readonly version: string; readonly command: readonly string[] };
}

/** What became of it, and whether its config.yaml is that of the run that it was exported from. */
export interface ImportedFolder extends Imported {
  readonly config: "its own" | "a start";
}

/** Writes the run whole or not at all; whatever is at `out` already is an error. */
export async function importFolder(job: FolderImport): Promise<ImportedFolder> {
  const { from, tokenizer: given, out } = job;
  await refuseTaken(out);
  const isFile = (await Deno.stat(from).catch(() => undefined))?.isFile ?? false;
  const isGguf = isFile && await isGgufFile(from);
  if (isFile && !isGguf) {
    throw new UserError("the file does not say what model it is of, as a GGUF file would", {
      where: from,
      hint: "say it with --config and --tokenizer; or give a folder in Hugging Face's layout",
    });
  }
  const { opened, mapping, weights, settings } = isGguf
    ? await openGgufModel(from, given)
    : { ...await openFolder(from), settings: undefined };
  using _ = opened;
  const { tokenizer, step } = opened, config = runConfigOf(opened);
  const place = (folder: string) =>
    settings ? writeSettings(settings, folder) : keepTokenizerConfig(opened, folder);
  const imported = await writeImport(job, { config, tokenizer, step, mapping, weights, place });
  return { ...imported, config: opened.config ? "its own" : "a start" };
}

/** A run's config; where nothing says one, the model and numbers of training that are only a start. */
export function runConfigOf(
  { config, model: { config: model, dims }, beginning }: Pick<
    OpenedModel,
    "config" | "model" | "beginning"
  >,
): AnyConfig {
  return config ?? pretrainConfig.parse({
    model,
    data: { path: "data", packing: beginning === undefined ? "stream" : "documents" },
    sequence_length: Math.min(1024, dims.max_position_embeddings),
    batch_size: 8,
    steps: 1000,
    optimizer: {
      kind: "adamw",
      learning_rate: { kind: "cosine", peak: 1e-4, end: 1e-5, warmup: 50 },
    },
  });
}

/** It keeps the chat template, and says whether texts begin with a token: what only tokenizer.json said before, too. */
export async function keepTokenizerConfig(
  { folder, config, tokenizer, beginning }: OpenedModel,
  to: string,
): Promise<void> {
  const path = join(folder, tokenizerConfigName);
  const found = await exists(path) ? await readJson(path) : undefined;
  const isSaid = config !== undefined || found?.add_bos_token !== undefined;
  const name = [...tokenizer.specialTokens].find(([, id]) => id === beginning)?.[0];
  const kept = isSaid ? found : {
    ...found,
    add_bos_token: name !== undefined,
    ...(name !== undefined && { bos_token: name }),
  };
  if (kept) await writeSettings(kept, to);
}

async function writeSettings(settings: object, folder: string): Promise<void> {
  const text = `${JSON.stringify(settings, null, 2)}\n`;
  await Deno.writeTextFile(join(folder, tokenizerConfigName), text);
}
