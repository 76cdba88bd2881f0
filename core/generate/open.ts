/** Opening a trained model: a run folder, or one of its checkpoints. */

import { join } from "node:path";
import type { Device } from "../device/types.ts";
import { exitCodes, UserError } from "../io/errors.ts";
import { loadTokenizer, tokenizerFileName } from "../text/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { buildModel, completeModel, type Model, scalarValues } from "../model/mod.ts";
import type { AverageKind } from "../optim/mod.ts";
import {
  openModelFile,
  readRunConfig,
  type ResolvedConfig,
  resumePoint,
  timelineOf,
} from "../train/mod.ts";
import { Decoder } from "./decoder.ts";
import type { DecodeOutputs, PenaltyState, WeightType } from "./programs.ts";

/** What continuing a text takes. */
export interface TextModel {
  readonly tokenizer: Tokenizer;
  readonly decoder: Decoder;
  /** The token before each document in training, which a prompt gets too; undefined where there was none. */
  readonly beginning: number | undefined;
}

/** A model ready to generate; close it with `using`. The device stays the caller's. */
export interface OpenModel extends TextModel, Disposable {
  readonly model: Model;
  /** The checkpoint folder, and the updates that it was trained for. */
  readonly checkpoint: string;
  readonly step: number;
}

export interface OpenOptions {
  /** Prompts that are continued at once; 1 unless given. */
  readonly batch?: number;
  /** f32 unless given. bf16 halves the weights' bytes; logits move in their third digit. */
  readonly weights?: WeightType;
  /** Tokens unless given; logits for alternatives. */
  readonly outputs?: DecodeOutputs;
  /** Whether tokens are counted, for penalties; they are not unless given. */
  readonly penalties?: PenaltyState;
  /** An average of the weights instead of them. */
  readonly average?: AverageKind;
}

export async function openModel(
  path: string,
  device: Device,
  options: OpenOptions = {},
): Promise<OpenModel> {
  const { batch = 1, weights: stored = "f32", outputs = "tokens", penalties = "none" } = options;
  const { run, checkpoint } = await resumePoint(path);
  const config = await readRunConfig(run), tokenizer = await loadTokenizer(run);
  const model = buildModel(
    completeModel(config.model, {
      vocab_size: tokenizer.vocabSize,
      max_position_embeddings: config.sequence_length,
    }),
  );
  const { state, file } = await openModelFile(checkpoint, options.average);
  using weights = file;
  if (state.tokenizer_sha256 !== tokenizer.hash) {
    throw new UserError("not the tokenizer that the model was trained with", {
      where: join(run, tokenizerFileName),
      hint: "copy it from the data folder, or take the checkpoint's own run folder",
      exitCode: exitCodes.failed,
    });
  }
  const { step } = state, capacity = model.dims.max_position_embeddings;
  const layout = { batch, weights: stored, outputs, penalties, capacity };
  const scalars = scalarValues(model, timelineOf(config as ResolvedConfig), step);
  const point = { scalars, seed: config.seed, step };
  const decoder = await Decoder.create(model, weights, device, layout, point);
  return {
    model,
    tokenizer,
    decoder,
    checkpoint,
    step,
    beginning: config.data.packing === "documents" ? tokenizer.endOfText : undefined,
    [Symbol.dispose]: () => decoder[Symbol.dispose](),
  };
}
