/** A GGUF file of a plain decoder. */

import {
  ggufConfig,
  ggufSettings,
  ggufTable,
  ggufTokenizerFile,
  mapCheckpoint,
  mappedTensors,
  openWeights,
  plainModel,
  requireTwins,
} from "../import/mod.ts";
import { UserError } from "../io/errors.ts";
import { openGguf } from "../io/gguf_file.ts";
import { beginningOfFile } from "../io/ranges.ts";
import { isGguf } from "../io/tensors.ts";
import { buildModel } from "../model/mod.ts";
import { parseTokenizer } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { OpenedFolder } from "./huggingface.ts";

/** What it is as a folder in Hugging Face's layout would say it; `settings` is its tokenizer_config.json. */
export interface OpenedGguf extends OpenedFolder {
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Opens one; `tokenizer` in place of the file's own. Closing the model closes the weights. */
export async function openGgufModel(path: string, given?: Tokenizer): Promise<OpenedGguf> {
  const { architecture, fields, settings, tokenizerFile } = headerOf(path, given);
  const model = buildModel(plainModel(fields, path));
  const tokenizer = given ?? await parseTokenizer(tokenizerFile!, path);
  if (tokenizer.vocabSize > model.dims.vocab_size) {
    throw new UserError(
      `the tokenizer has ${tokenizer.vocabSize} tokens, the model only ${model.dims.vocab_size}`,
      { where: path },
    );
  }
  const weights = await openWeights(path);
  using stack = new DisposableStack();
  stack.use(weights);
  const mapping = mapCheckpoint(ggufTable(architecture), model, weights.tensors, path);
  requireTwins(mapping, weights);
  const owned = stack.move();
  const opened = {
    folder: path,
    checkpoint: path,
    config: undefined,
    model,
    tokenizer,
    tokenizer_sha256: tokenizer.hash,
    file: mappedTensors(mapping, weights),
    step: 0,
    point: { scalars: new Float32Array(), seed: 0, step: 0 },
    beginning: beginning(settings, tokenizer, path),
    [Symbol.dispose]: () => owned.dispose(),
  };
  return { opened, mapping, weights, settings };
}

function headerOf(path: string, given: Tokenizer | undefined) {
  using file = openGguf(path);
  return {
    ...ggufConfig(file),
    settings: ggufSettings(file),
    tokenizerFile: given ? undefined : ggufTokenizerFile(file),
  };
}

function beginning(
  { add_bos_token, bos_token }: Readonly<Record<string, unknown>>,
  { specialTokens }: Tokenizer,
  where: string,
): number | undefined {
  if (add_bos_token !== true) return undefined;
  const id = specialTokens.get(String(bos_token));
  if (id !== undefined) return id;
  throw new UserError(`texts begin with a token, but ${bos_token} is no special one`, { where });
}

/** Whether a path is one, by how the file begins. */
export async function isGgufFile(path: string): Promise<boolean> {
  const found = await Deno.stat(path).catch(() => undefined);
  return found?.isFile === true && isGguf(await beginningOfFile(path, 4));
}
