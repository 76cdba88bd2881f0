/** A folder in Hugging Face's layout: config.json, safetensors, tokenizer.json. */

import { join } from "node:path";
import {
  isPlain,
  llama,
  mapCheckpoint,
  mappedTensors,
  openWeights,
  plainModel,
  requireTwins,
  unknownType,
} from "../import/mod.ts";
import { exists } from "../io/atomic.ts";
import { jsonFault, UserError } from "../io/errors.ts";
import { buildModel } from "../model/mod.ts";
import { loadTokenizer, tokenizerFileName } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { OpenedModel } from "./open.ts";

export const hfConfigFile = "config.json";

/** Whether a folder is one. */
export async function isHuggingface(path: string): Promise<boolean> {
  return await exists(join(path, hfConfigFile));
}

export async function openHuggingface(folder: string): Promise<OpenedModel> {
  const where = join(folder, hfConfigFile), json = await readJson(where);
  const type = json.model_type;
  if (!isPlain(type)) throw unknownType(type, where);
  const model = buildModel(plainModel(json, where));
  const tokenizer = await loadTokenizer(folder);
  if (tokenizer.vocabSize > model.dims.vocab_size) {
    throw new UserError(
      `it has ${tokenizer.vocabSize} tokens, the model only ${model.dims.vocab_size}`,
      { where: join(folder, tokenizerFileName) },
    );
  }
  const weights = await openWeights(folder);
  using stack = new DisposableStack();
  stack.use(weights);
  const mapping = mapCheckpoint(llama, model, weights.tensors, folder);
  requireTwins(mapping, weights);
  const owned = stack.move();
  return {
    folder,
    checkpoint: folder,
    config: undefined,
    model,
    tokenizer,
    tokenizer_sha256: tokenizer.hash,
    file: mappedTensors(mapping, weights),
    step: 0,
    point: { scalars: new Float32Array(model.scalars.length), seed: 0, step: 0 },
    beginning: await firstToken(folder, tokenizer),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/**
 * What tools put before a text: tokenizer_config.json says add_bos_token, or tokenizer.json's post-processor has a special
 * token first. A bos_token alone is only a name.
 */
async function firstToken(folder: string, tokenizer: Tokenizer): Promise<number | undefined> {
  const path = join(folder, "tokenizer_config.json");
  const { add_bos_token, bos_token } = await exists(path) ? await readJson(path) : {};
  if (add_bos_token === false) return undefined;
  if (add_bos_token === true) {
    const name = isRecord(bos_token) ? bos_token.content : bos_token;
    const id = tokenizer.specialTokens.get(String(name));
    if (id !== undefined) return id;
    throw new UserError(`add_bos_token is true, but ${name} is no special token`, { where: path });
  }
  return templateStart(JSON.parse(tokenizer.file), tokenizer);
}

function templateStart(file: unknown, { specialTokens }: Tokenizer): number | undefined {
  const stage = isRecord(file) ? file.post_processor : undefined;
  if (!isRecord(stage)) return undefined;
  const all = Array.isArray(stage.processors) ? stage.processors : [stage];
  const template = all.find((one) => isRecord(one) && one.type === "TemplateProcessing");
  const first = template?.single?.[0]?.SpecialToken?.id;
  return typeof first === "string" ? specialTokens.get(first) : undefined;
}

export async function readJson(path: string): Promise<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(jsonFault(error), { where: path, cause: error });
  }
  if (isRecord(value)) return value;
  throw new UserError("a JSON object is expected", { where: path });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
