/** Any model for use: a run folder, a checkpoint folder, a folder in Hugging Face's layout, or an artifact. */

import { join } from "node:path";
import { exists } from "../io/atomic.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import type { Tensors } from "../io/tensors.ts";
import { shellWord } from "../io/words.ts";
import {
  buildModel,
  completeModel,
  type Model,
  type RunPoint,
  scalarValues,
} from "../model/mod.ts";
import type { AverageKind } from "../optim/mod.ts";
import { loadTokenizer, tokenizerFileName } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import {
  type AnyConfig,
  findCheckpoint,
  type FirstWeights,
  isCheckpoint,
  isRun,
  namedCheckpoint,
  openModelFile,
  readRunConfig,
  type RunConfig,
  runOf,
  timelineOf,
} from "../train/mod.ts";
import { artifactAt, openArtifact } from "./artifact.ts";
import { beginningOf } from "./beginning.ts";
import { isGgufFile } from "./gguf.ts";
import { isHuggingface, openHuggingface } from "./huggingface.ts";

/** A model and its weights, not yet on a device; close it with `using`. */
export interface OpenedModel extends FirstWeights {
  /** The folder with `tokenizer.json` and, where there is one, `tokenizer_config.json` (which has the chat template). */
  readonly folder: string;
  /** The config of the run that it comes from; undefined where nothing says it. */
  readonly config: AnyConfig | undefined;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** The weights by the model's paths, f32, read when they are asked for. */
  readonly file: Tensors;
  /** Values that the run scheduled, as they stand at its step. */
  readonly point: RunPoint;
  /** The token before each document in training, which a text gets too; undefined where there was none. */
  readonly beginning: number | undefined;
}

export interface WhichWeights {
  /** An average of the weights instead of them. */
  readonly average?: AverageKind | undefined;
  /** Of a run's checkpoints: `latest` unless given, `best`, or `step-N`. */
  readonly checkpoint?: string | undefined;
}

/** Reads configs, names and shapes; the weights' values are read later. */
export async function openAny(
  path: string,
  which: WhichWeights = {},
): Promise<OpenedModel> {
  const isOurs = await isCheckpoint(path) || await isRun(path);
  const artifact = isOurs ? undefined : await artifactAt(path);
  const isElsewhere = artifact !== undefined || !isOurs && await isHuggingface(path);
  if (!isElsewhere) {
    if (await isGgufFile(path)) {
      throw new UserError("a GGUF file, which is for llama.cpp", {
        where: path,
        hint: `make a run of it: quern import ${shellWord(path)} --out RUN`,
      });
    }
    return await openRun(path, which);
  }
  const { average, checkpoint } = which;
  for (const [option, value] of Object.entries({ average, checkpoint })) {
    if (value === undefined) continue;
    throw new UserError(`it holds one set of weights, so --${option} ${value} means nothing`, {
      where: path,
      hint: `leave it out, or give the run that it was exported from`,
    });
  }
  return artifact === undefined ? await openHuggingface(path) : await openArtifact(artifact);
}

async function openRun(path: string, { average, checkpoint }: WhichWeights): Promise<OpenedModel> {
  const folder = await checkpointOf(path, checkpoint), run = await runOf(folder);
  const config = await readRunConfig(run), tokenizer = await loadTokenizer(run);
  const model = buildModel(
    completeModel(config.model!, {
      vocab_size: tokenizer.vocabSize,
      max_position_embeddings: config.sequence_length,
    }),
  );
  const { state: { step, tokenizer_sha256 }, file } = await openModelFile(folder, average);
  using stack = new DisposableStack();
  stack.use(file);
  if (tokenizer_sha256 !== tokenizer.hash) {
    throw new UserError("not the tokenizer that the model was trained with", {
      where: join(run, tokenizerFileName),
      hint: "copy it from the data folder, or take the checkpoint's own run folder",
      exitCode: exitCodes.failed,
    });
  }
  const scalars = scalarValues(model, timelineOf(config as RunConfig), step);
  const beginning = await beginningOf(run, tokenizer, config);
  const owned = stack.move();
  return {
    folder: run,
    checkpoint: folder,
    config,
    model,
    tokenizer,
    tokenizer_sha256,
    file,
    step,
    point: { scalars, seed: config.seed, step },
    beginning,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

async function checkpointOf(path: string, name: string | undefined): Promise<string> {
  if (name === undefined) return await findCheckpoint(path);
  if (!await exists(path)) return await findCheckpoint(path); // says so
  return await namedCheckpoint(path, name);
}
