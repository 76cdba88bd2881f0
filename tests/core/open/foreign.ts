/** Folders as other tools write them: tiny plain decoders with first weights of ours under their names. */

import { join } from "node:path";
import { bf16Bits } from "../../../core/graph/mod.ts";
import { llama, originsOf, type Plain, plainFields } from "../../../core/import/mod.ts";
import { type TensorSource, writeSafetensors } from "../../../core/io/safetensors.ts";
import { buildModel, initialValues, type Model } from "../../../core/model/mod.ts";
import { modelForms } from "../../../core/model/mod.ts";

export const llamaShape = {
  vocab_size: 259,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 24,
  max_position_embeddings: 64,
  tie_word_embeddings: false,
};

export function plainModelOf(shape: object): Model {
  return buildModel(modelForms.parse(shape) as Model["config"]);
}

type Dtype = "F32" | "BF16" | "F16";

function converted(values: Float32Array, dtype: Dtype): ArrayBufferView {
  if (dtype === "F32") return values;
  return dtype === "F16" ? Float16Array.from(values) : Uint16Array.from(values, bf16Bits);
}

/** What is where: `change` may take away, add or bend. */
export async function writeForeign(
  folder: string,
  model: Model,
  { dtype = "F32" as Dtype, shards = 1, fields = {}, change = (all: TensorSource[]) => all } = {},
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const { kind, architecture, fields: own } = plainFields(model) as Plain;
  const config = { architectures: [architecture], model_type: kind, ...own, ...fields };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
  await Deno.writeTextFile(
    join(folder, "tokenizer.json"),
    `${JSON.stringify({ quern: "byte" })}\n`,
  );
  const all = change(
    originsOf(llama, model).map(({ param, theirs }): TensorSource => ({
      name: theirs.startsWith("lm_head") ? theirs : `model.${theirs}`,
      shape: param.shape,
      dtype,
      data: () => converted(initialValues(param, 7), dtype),
    })),
  );
  if (shards === 1) return await writeSafetensors(join(folder, "model.safetensors"), all);
  const weight_map: Record<string, string> = {};
  for (let at = 0; at < shards; at++) {
    const file = `model-0000${at + 1}-of-0000${shards}.safetensors`;
    const own = all.filter((_, i) => i % shards === at);
    for (const { name } of own) weight_map[name] = file;
    await writeSafetensors(join(folder, file), own, { format: "pt" });
  }
  const index = { metadata: { total_size: 0 }, weight_map };
  await Deno.writeTextFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
}
