/** The state dict of danielxmed/PolyGLU. */

import type { ImportTable } from "../table.ts";

const layer = "model_core.{i}", mlp = `${layer}.polyglu`, attention = `${layer}.gqa`;

export const polyglu: ImportTable = {
  name: "polyglu",
  rules: [
    { ours: "input.embedding", theirs: "embeddings.weight" },
    { ours: "layers.{i}.residual.mixer_norm.gain", theirs: `${layer}.rmsnorm_1.gama` },
    { ours: "layers.{i}.residual.mlp_norm.gain", theirs: `${layer}.rmsnorm_2.gama` },
    { ours: "layers.{i}.mixer.q", theirs: `${attention}.W_q.weight` },
    { ours: "layers.{i}.mixer.k", theirs: `${attention}.W_k.weight` },
    { ours: "layers.{i}.mixer.v", theirs: `${attention}.W_v.weight` },
    { ours: "layers.{i}.mixer.o", theirs: `${attention}.W_o.weight` },
    { ours: "layers.{i}.mixer.q_norm", theirs: `${attention}.rmsnorm_q.gama` },
    { ours: "layers.{i}.mixer.k_norm", theirs: `${attention}.rmsnorm_k.gama` },
    { ours: "layers.{i}.mlp.gate", theirs: `${mlp}.W_gate.weight` },
    { ours: "layers.{i}.mlp.up", theirs: `${mlp}.W_up.weight` },
    { ours: "layers.{i}.mlp.down", theirs: `${mlp}.W_down.weight` },
    { ours: "layers.{i}.mlp.router.alpha", theirs: `${mlp}.alpha` },
    { ours: "layers.{i}.mlp.router.beta", theirs: `${mlp}.beta` },
    { ours: "layers.{i}.mlp.router.hidden", theirs: `${mlp}.gate_net.0.weight` },
    { ours: "layers.{i}.mlp.router.hidden_bias", theirs: `${mlp}.gate_net.0.bias` },
    { ours: "layers.{i}.mlp.router.out", theirs: `${mlp}.gate_net.2.weight` },
    { ours: "layers.{i}.mlp.router.out_bias", theirs: `${mlp}.gate_net.2.bias` },
    { ours: "norm.gain", theirs: "rmsnorm.gama" },
    { ours: "head.weight", theirs: "output_head.weight" },
  ],
  tied: ["embeddings.weight", "output_head.weight"],
  ignored: [
    ["*rope.cosines", "a table of angles"],
    ["*rope.sins", "a table of angles"],
    [`${mlp}.tau`, "tau follows the config's schedule"],
  ],
};
