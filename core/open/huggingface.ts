/** A folder in Hugging Face's layout: config.json, safetensors, tokenizer.json. */

import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import {
  type ImportTable,
  isPlain,
  llama,
  mapCheckpoint,
  mappedTensors,
  type Mapping,
  openWeights,
  plainFields,
  plainModel,
  requireTwins,
  torchTable,
  unknownType,
  type Weights,
} from "../import/mod.ts";
import { exists } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import {
  blocksOf,
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  scalarValues,
} from "../model/mod.ts";
import { loadTokenizer, parseTokenizer, tokenizerFileName } from "../text/load.ts";
import { type AnyConfig, pretrainConfig, type ResolvedConfig, timelineOf } from "../train/mod.ts";
import { sftConfig } from "../sft/config.ts";
import { beginningOf } from "./beginning.ts";
import { isRecord, readJson } from "./json.ts";
import type { OpenedModel } from "./open.ts";

/** The model_type of what no standard class computes. */
const ownType = "quern";

export const hfConfigFile = "config.json";

/** Whether a folder is one. */
export async function isHuggingface(path: string): Promise<boolean> {
  return await exists(join(path, hfConfigFile));
}

export async function openHuggingface(folder: string): Promise<OpenedModel> {
  return (await openFolder(folder)).opened;
}

/** A model with where each of its tensors comes from; closing the model closes the weights. */
export interface OpenedFolder {
  readonly opened: OpenedModel;
  readonly mapping: Mapping;
  readonly weights: Weights;
}

export async function openFolder(folder: string): Promise<OpenedFolder> {
  const where = join(folder, hfConfigFile), json = await readJson(where);
  const own = ownRecord(json, where), { model, table } = modelIn(json, where, own);
  const tokenizer = own.tokenizer === undefined
    ? await loadTokenizer(folder)
    : await parseTokenizer(own.tokenizer, where);
  if (tokenizer.vocabSize > model.dims.vocab_size) {
    throw new UserError(
      `it has ${tokenizer.vocabSize} tokens, the model only ${model.dims.vocab_size}`,
      { where: join(folder, tokenizerFileName) },
    );
  }
  const weights = await openWeights(folder);
  using stack = new DisposableStack();
  stack.use(weights);
  const mapping = mapCheckpoint(table, model, weights.tensors, folder);
  requireTwins(mapping, weights);
  const { config, step } = own;
  const scalars = config
    ? scalarValues(model, timelineOf(config as ResolvedConfig), step)
    : new Float32Array();
  if (scalars.length < model.scalars.length) {
    const names = model.scalars.map(({ name }) => name).join(", ");
    throw new UserError(`quern.config is missing: nothing says how ${names} stand`, { where });
  }
  const beginning = await beginningOf(folder, tokenizer, config);
  const owned = stack.move();
  const opened = {
    folder,
    checkpoint: folder,
    config: config && { ...config, model: model.config },
    model,
    tokenizer,
    tokenizer_sha256: tokenizer.hash,
    file: mappedTensors(mapping, weights),
    step,
    point: { scalars, seed: config?.seed ?? 0, step },
    beginning,
    [Symbol.dispose]: () => owned.dispose(),
  };
  return { opened, mapping, weights };
}

/** What quern export adds to a config.json, of the run that it comes from. */
const ownSchema = z.object({
  step: z.int().nonnegative().default(0),
  config: z.union([pretrainConfig, sftConfig]).optional(),
  /** The text of the run's tokenizer.json, where the one beside is made from it. */
  tokenizer: z.string().optional(),
});

function ownRecord(json: Record<string, unknown>, where: string): z.output<typeof ownSchema> {
  const parsed = ownSchema.safeParse(json.quern ?? {});
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new UserError(`quern.${path.join(".")}: ${message}`, { where });
}

/** The model that a config.json describes, and whose names its weights have. */
function modelIn(
  json: Record<string, unknown>,
  where: string,
  { config }: z.output<typeof ownSchema>,
): { model: Model; table: ImportTable } {
  const { model_type: type, tree, vocab_size, max_position_embeddings } = json;
  if (isPlain(type)) {
    const given = buildModel(plainModel(json, where));
    return { model: asItWas(given, config), table: llama };
  }
  if (type !== ownType || !isRecord(tree)) throw unknownType(type, where);
  const parsed = modelConfig.safeParse({ ...tree, vocab_size, max_position_embeddings });
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    throw new UserError(`tree.${path.join(".")}: ${message}`, { where });
  }
  const model = asItWas(buildModel(parsed.data as Model["config"]), config);
  return { model, table: torchTable(model) };
}

/** What the run said of its model, which is more than others need, unless they have changed it since. */
function asItWas(given: Model, config: AnyConfig | undefined): Model {
  if (!config?.model) return given;
  const { vocab_size, max_position_embeddings } = given.dims;
  const before = buildModel(completeModel(config.model, { vocab_size, max_position_embeddings }));
  const computed = ({ config }: Model) => {
    const {
      initializer: _,
      initializer_range: __,
      output_initializer_range: ___,
      remat: ____,
      ...rest
    } = blocksOf(config);
    return JSON.parse(JSON.stringify(rest));
  };
  return isDeepStrictEqual(plainForm(given), plainForm(before)) ||
      isDeepStrictEqual(computed(given), computed(before))
    ? before
    : given;
}

/** Defaults that are spelled out or not make no difference here. */
function plainForm(model: Model): unknown {
  const { initializer_range: _, ...fields } = Object(plainFields(model)).fields ?? {};
  return fields.vocab_size === undefined ? { differs: model } : fields;
}
