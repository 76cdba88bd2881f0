/** The token before each document in training, which texts that a model reads get too. */

import { join } from "node:path";
import { exists } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { tokenizerConfigName } from "../text/chat/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type AnyConfig, textBeginning } from "../train/mod.ts";
import { isRecord, readJson } from "./json.ts";

/**
 * What a text begins with. tokenizer_config.json says it with add_bos_token; else a run's config, by how its documents
 * were packed; else tokenizer.json, where its post-processor has a special token first. A bos_token alone is only a name.
 */
export async function beginningOf(
  folder: string,
  tokenizer: Tokenizer,
  config: AnyConfig | undefined,
): Promise<number | undefined> {
  const path = join(folder, tokenizerConfigName);
  const { add_bos_token, bos_token } = await exists(path) ? await readJson(path) : {};
  if (add_bos_token === false) return undefined;
  if (add_bos_token === true) {
    const name = tokenName(bos_token), id = tokenizer.specialTokens.get(name ?? "");
    if (id !== undefined) return id;
    throw new UserError(`add_bos_token is true, but ${name} is no special token`, { where: path });
  }
  if (config) return textBeginning(config, tokenizer);
  return templateStart(JSON.parse(tokenizer.file), tokenizer);
}

/** As tokenizer_config.json names a token: alone, or with how it is cut out of text. */
export function tokenName(token: unknown): string | undefined {
  const name = isRecord(token) ? token.content : token;
  return typeof name === "string" ? name : undefined;
}

function templateStart(file: unknown, { specialTokens }: Tokenizer): number | undefined {
  const stage = isRecord(file) ? file.post_processor : undefined;
  if (!isRecord(stage)) return undefined;
  const all = Array.isArray(stage.processors) ? stage.processors : [stage];
  const template = all.find((one) => isRecord(one) && one.type === "TemplateProcessing");
  const first = template?.single?.[0]?.SpecialToken?.id;
  return typeof first === "string" ? specialTokens.get(first) : undefined;
}
