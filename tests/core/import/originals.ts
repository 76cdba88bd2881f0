/** Recorded models as their authors' checkpoints: files with their names, and the configs that they were made with. */

import { join } from "node:path";
import { writeSafetensors } from "../../../core/io/safetensors.ts";
import type { Model } from "../../../core/model/mod.ts";
import { characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { type PretrainConfig, pretrainConfig } from "../../../core/train/mod.ts";
import { modelOf as polygluOf } from "../nn/polyglu_network.ts";
import { modelOf as veronicaOf } from "../nn/veronica_network.ts";
import { neollm } from "../../models/neollm.ts";
import { sizesOf as neollmSizes } from "../../models/neollm_cases.ts";
import { recycledCore } from "../../models/recycled.ts";
import { sizesOf as recycledSizes } from "../../models/recycled_cases.ts";
import { type VectorCase, vectorSet, type VectorTensor } from "../../vectors.ts";

export interface Original {
  readonly format: string;
  readonly recorded: VectorCase;
  readonly config: PretrainConfig;
  readonly tokenizer: Tokenizer;
}

const cases: readonly (readonly [set: string, id: string, model: (c: VectorCase) => Model])[] = [
  ["polyglu", "model_eval_noise_free", (c) => polygluOf(c, { tau: Number(c.config.tau) })],
  ["veronica", "model_eval", veronicaOf],
  ["neollm", "model_train", (c) => neollm(neollmSizes(c))],
  ["recycled-core", "model_train", (c) => recycledCore(recycledSizes(c))],
];

export const originals: readonly Original[] = cases.map(([format, id, model]) => {
  const recorded = vectorSet(format).read(id), built = model(recorded);
  const blocks = "blocks" in built.config ? built.config.blocks : [];
  const tau = recorded.config.tau as number | undefined;
  const config = pretrainConfig.parse({
    model: {
      ...built.config,
      blocks: blocks.map((block) => ({
        ...block,
        mlp: tau === undefined ? block.mlp : { ...block.mlp, tau },
      })),
    },
    data: { path: "data", packing: "windows" },
    sequence_length: built.dims.max_position_embeddings,
    batch_size: 1,
    steps: 10,
    optimizer: { kind: "adamw", learning_rate: 0.001 },
  });
  return { format, recorded, config, tokenizer: charactersOf(built.dims.vocab_size) };
});

export function originalNamed(format: string): Original {
  return originals.find((original) => original.format === format)!;
}

/** A tokenizer of so many ids, a character each, "!" being the first, and a last one for the end of text. */
function charactersOf(count: number): Tokenizer {
  const first = 0x21;
  return characterTokenizer(
    String.fromCodePoint(...Array.from({ length: count - 1 }, (_, i) => first + i)),
  );
}

/** The text that a recorded row of ids is with such a tokenizer. */
export const textOf = (ids: ArrayLike<number>) =>
  String.fromCodePoint(...Array.from(ids, (id) => 0x21 + id));

/** The recorded parameters by the names of the original. */
export function paramsOf({ recorded }: Original): Map<string, VectorTensor> {
  return new Map(
    [...recorded.tensors].filter(([name]) => name.startsWith("param/"))
      .map(([name, tensor]) => [name.slice("param/".length), tensor]),
  );
}

type Tensors = ReadonlyMap<string, Pick<VectorTensor, "shape" | "values">>;

/** Writes tensors as f32. */
export async function writeTensors(path: string, tensors: Tensors): Promise<string> {
  await writeSafetensors(
    path,
    [...tensors].map(([name, { shape, values }]) => ({
      name,
      shape,
      dtype: "F32" as const,
      data: () => Float32Array.from(values),
    })),
  );
  return path;
}

/** Writes a model as its author's file. */
export async function writeOriginal(dir: string, original: Original): Promise<string> {
  return await writeTensors(join(dir, `${original.format}.safetensors`), paramsOf(original));
}
