/** Runs whose weights are all random, gains and biases among them: what is computed wrongly shows. */

import { normals, sizeOf } from "../../../core/graph/mod.ts";
import { initialValues, namedParams } from "../../../core/model/mod.ts";
import { completeOptimizer } from "../../../core/optim/mod.ts";
import { parseTokenizer } from "../../../core/text/load.ts";
import type { Tokenizer } from "../../../core/text/tokenizer.ts";
import { bpeFile } from "../../../core/text/train_bpe.ts";
import {
  modelOf,
  type PretrainConfig,
  pretrainConfig,
  saveWeights,
  writeImportedRun,
} from "../../../core/train/mod.ts";

/** A config around a model; what it says of training does not matter. */
export function configAround(model: object, changes: object = {}): PretrainConfig {
  return pretrainConfig.parse({
    model,
    data: { path: "data" },
    sequence_length: 64,
    batch_size: 2,
    steps: 10,
    optimizer: { kind: "adamw", learning_rate: 0.001 },
    ...changes,
  });
}

/** Attention with biases, as Qwen2 has it, in a size that GGUF's blocks fit. */
export const qwen2 = {
  hidden_size: 64,
  vocab_size: 272,
  blocks: [{
    repeat: 2,
    mixer: { kind: "attention", num_attention_heads: 4, attention_bias: true },
    mlp: { kind: "swiglu", intermediate_size: 64 },
  }],
};

/** Bytes, and two tokens that join some of them. */
export const byteBpe = await parseTokenizer(
  bpeFile([
    { left: 84, right: 72, joined: 256 }, // bytes 0x54 and 0x48
    { left: 256, right: 69, joined: 257 },
  ]),
  "tokenizer.json",
);

export async function writeRandomRun(
  folder: string,
  config: PretrainConfig,
  tokenizer: Tokenizer,
  step: number,
): Promise<void> {
  const model = modelOf(config, tokenizer.vocabSize),
    imported = { from: "chance", format: "quern" };
  const complete = {
    ...config,
    model: model.config,
    optimizer: completeOptimizer(config.optimizer),
  };
  await Deno.mkdir(folder);
  const session = { version: "test", command: ["test"], imported };
  await writeImportedRun(folder, complete, tokenizer, session);
  await saveWeights(
    folder,
    { step, tokenizer_sha256: tokenizer.hash, imported },
    namedParams(model.params).map((param) => ({
      name: param.path,
      shape: param.shape,
      dtype: "F32",
      data: () => {
        const first = initialValues(param, 3);
        const moved = normals(4, param.path, sizeOf(param.shape));
        return first.map((x, i) => x + 0.05 * moved[i]);
      },
    })),
  );
}
