/** Opening a trained model for generation: whatever `openAny` opens. */

import type { Device } from "../device/types.ts";
import { openAny, type WhichWeights } from "../open/mod.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Model } from "../model/mod.ts";
import { Decoder } from "./decoder.ts";
import type { DecodeOutputs, PenaltyState } from "./programs.ts";
import type { WeightType } from "./weights.ts";

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
  /** The folder with `tokenizer.json`, and its chat template if it has one. */
  readonly folder: string;
  /** The checkpoint folder, and the updates that it was trained for. */
  readonly checkpoint: string;
  readonly step: number;
}

export interface OpenOptions extends WhichWeights {
  /** Prompts that are continued at once; 1 unless given. */
  readonly batch?: number;
  /** f32 unless given. bf16 halves the weights' bytes, and moves logits in their third digit; int8 quarters them. */
  readonly weights?: WeightType;
  /** Tokens unless given; logits for alternatives. */
  readonly outputs?: DecodeOutputs;
  /** Whether tokens are counted, for penalties; they are not unless given. */
  readonly penalties?: PenaltyState;
}

export async function openModel(
  path: string,
  device: Device,
  options: OpenOptions = {},
): Promise<OpenModel> {
  const { batch = 1, weights: stored = "f32", outputs = "tokens", penalties = "none" } = options;
  using opened = await openAny(path, options);
  const { model, tokenizer, folder, checkpoint, step, point, beginning, file } = opened;
  const capacity = model.dims.max_position_embeddings;
  const layout = { batch, weights: stored, outputs, penalties, capacity };
  const decoder = await Decoder.create(model, file, device, layout, point);
  return {
    model,
    tokenizer,
    decoder,
    folder,
    checkpoint,
    step,
    beginning,
    [Symbol.dispose]: () => decoder[Symbol.dispose](),
  };
}
