/** The state dict of parameter-golf's pull request 1573, whose matrices lie in banks of all layers. */

import type { ImportTable, Rule } from "../table.ts";

const layer = "layers.{i}", mixer = `${layer}.mixer`, residual = `${layer}.residual`;
const block = "blocks.{i}";

const ofBank = (ours: string, theirs: string, half: 0 | 1 = 0): Rule => ({
  ours: `${layer}.${ours}`,
  theirs,
  steps: ({ i, layers }) => [{ kind: "entry", at: half * layers + i }],
});

export const recycledCore: ImportTable = {
  name: "recycled-core",
  rules: [
    { ours: "input.embedding", theirs: "tok_emb.weight" },
    { ours: "input.bigram.embedding", theirs: "bigram.embed.weight" },
    { ours: "input.bigram.projection", theirs: "bigram.proj.weight" },
    { ours: "input.bigram.scale", theirs: "bigram.scale" },
    { ours: "input.smear", theirs: "smear.gate" },
    { ours: "input.value_embedding.embedding", theirs: "ve_shared.embed.weight" },
    { ours: "input.value_embedding.projection", theirs: "ve_shared.proj.weight" },
    { ours: "input.value_embedding.scale", theirs: "ve_shared.scale" },
    // the bank's first half are queries' and keys', its second the outputs' and values'
    ofBank("mixer.q", "qo_bank"),
    ofBank("mixer.o", "qo_bank", 1),
    ofBank("mixer.k", "kv_bank"),
    ofBank("mixer.v", "kv_bank", 1),
    ofBank("mlp.up", "mlp_up_bank"),
    ofBank("mlp.down", "mlp_down_bank"),
    { ours: `${mixer}.query_gain`, theirs: `${block}.attn.q_gain` },
    { ours: `${mixer}.value_mix`, theirs: `${block}.attn.vr_lambda` },
    { ours: `${mixer}.gate`, theirs: `${block}.attn.attn_gate.weight` },
    { ours: `${mixer}.gate_bias`, theirs: `${block}.attn.attn_gate.bias` },
    { ours: `${mixer}.value_embedding_scale`, theirs: "ve_layer_scales.{n}" },
    {
      ours: `${residual}.mix.x`,
      theirs: `${block}.resid_mix`,
      steps: () => [{ kind: "entry", at: 0 }],
    },
    {
      ours: `${residual}.mix.x0`,
      theirs: `${block}.resid_mix`,
      steps: () => [{ kind: "entry", at: 1 }],
    },
    { ours: `${residual}.mixer_scale`, theirs: `${block}.attn_scale` },
    { ours: `${residual}.mlp_scale`, theirs: `${block}.mlp_scale` },
    { ours: "modulations.{i}.scale", theirs: "recycle_mods.{i}.scale" },
    { ours: "modulations.{i}.shift", theirs: "recycle_mods.{i}.bias" },
    {
      ours: "skips.{i}.weight",
      theirs: "skip_weights",
      steps: ({ i }) => [{ kind: "entry", at: i }],
    },
    { ours: "head.weight", theirs: "lm_head.weight" },
  ],
  tied: ["tok_emb.weight", "lm_head.weight"],
  ignored: [["*inv_freq", "frequencies of angles"]],
};
