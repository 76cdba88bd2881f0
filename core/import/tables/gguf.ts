/** The tensor names of GGUF files of Llama, Qwen2 and Qwen3. */

import type { Step } from "../steps.ts";
import type { ImportTable, Place } from "../table.ts";

const layer = "layers.{i}", mixer = `${layer}.mixer`, block = "blk.{i}";

/**
 * llama.cpp turns channels 2i and 2i + 1 of Llama together, not i and i + half as here: rows of queries and keys lie so,
 * within each head. (Its Qwens turn them as here.)
 */
export function ggufTable(architecture: string): ImportTable {
  const turns = architecture === "llama";
  return {
    name: `gguf ${architecture}`,
    rules: [
      { ours: "input.embedding", theirs: "token_embd.weight" },
      { ours: `${layer}.residual.mixer_norm.gain`, theirs: `${block}.attn_norm.weight` },
      { ours: `${layer}.residual.mlp_norm.gain`, theirs: `${block}.ffn_norm.weight` },
      ...["q", "k", "v"].flatMap((name) => [
        {
          ours: `${mixer}.${name}`,
          theirs: `${block}.attn_${name}.weight`,
          ...(turns && name !== "v" && { steps: (place: Place) => halvesFirst(place, name) }),
        },
        { ours: `${mixer}.${name}_bias`, theirs: `${block}.attn_${name}.bias` },
      ]),
      { ours: `${mixer}.o`, theirs: `${block}.attn_output.weight` },
      { ours: `${mixer}.q_norm`, theirs: `${block}.attn_q_norm.weight` },
      { ours: `${mixer}.k_norm`, theirs: `${block}.attn_k_norm.weight` },
      ...["gate", "up", "down"].map((name) => (
        { ours: `${layer}.mlp.${name}`, theirs: `${block}.ffn_${name}.weight` }
      )),
      { ours: "norm.gain", theirs: "output_norm.weight" },
      { ours: "head.weight", theirs: "output.weight" },
    ],
    tied: ["token_embd.weight", "output.weight"],
    ignored: [],
  };
}

/** Rows (head, pair, half) → (head, half, pair), in steps on blocks of rows. */
function halvesFirst({ mixer, hidden_size }: Place, name: string): readonly Step[] {
  if (mixer?.kind !== "attention") return [];
  const { num_attention_heads, num_key_value_heads = num_attention_heads } = mixer;
  const heads = name === "q" ? num_attention_heads : num_key_value_heads;
  const width = mixer.head_dim ?? hidden_size / num_attention_heads, half = width / 2;
  return [
    // (half, head, pair)
    { kind: "rows", groups: heads * half, take: [[0, 1], [1, 1]] },
    { kind: "reshape", shape: [2 * heads, half * hidden_size] },
    // (head, half), pairs together
    { kind: "rows", groups: 2, take: Array.from({ length: heads }, (_, head) => [head, 1]) },
    { kind: "reshape", shape: [heads * width, hidden_size] },
  ];
}
