/** The tensor names of Hugging Face's Llama, Qwen2 and Qwen3, without the `model.` before them. */

import type { ImportTable } from "../table.ts";

const layer = "layers.{i}", mixer = `${layer}.mixer`, mlp = `${layer}.mlp`;
const attention = `${layer}.self_attn`;

export const llama: ImportTable = {
  name: "llama",
  rules: [
    { ours: "input.embedding", theirs: "embed_tokens.weight" },
    { ours: `${layer}.residual.mixer_norm.gain`, theirs: `${layer}.input_layernorm.weight` },
    { ours: `${layer}.residual.mlp_norm.gain`, theirs: `${layer}.post_attention_layernorm.weight` },
    ...["q", "k", "v"].flatMap((name) => [
      { ours: `${mixer}.${name}`, theirs: `${attention}.${name}_proj.weight` },
      { ours: `${mixer}.${name}_bias`, theirs: `${attention}.${name}_proj.bias` },
    ]),
    { ours: `${mixer}.o`, theirs: `${attention}.o_proj.weight` },
    { ours: `${mixer}.q_norm`, theirs: `${attention}.q_norm.weight` },
    { ours: `${mixer}.k_norm`, theirs: `${attention}.k_norm.weight` },
    ...["gate", "up", "down"].map((name) => (
      { ours: `${mlp}.${name}`, theirs: `${mlp}.${name}_proj.weight` }
    )),
    { ours: "norm.gain", theirs: "norm.weight" },
    { ours: "head.weight", theirs: "lm_head.weight" },
  ],
  tied: ["embed_tokens.weight", "lm_head.weight"],
  ignored: [["*inv_freq", "frequencies of angles"]],
};
