/** The state dict of MhaWay/Veronica, as its model card describes it. */

import type { Step } from "../steps.ts";
import type { ImportTable, Place } from "../table.ts";

const layer = "blocks.{i}", mlp = `${layer}.mlp`, branch = `${mlp}.branches.{j}`;
const ours = "layers.{i}.mlp.branches.{j}";

/** The config of the branch where a parameter stands. */
function branchAt({ mlp, j }: Place) {
  return mlp?.kind === "polymorphic" ? mlp.branches[j] : undefined;
}

/** Gated branches have gate and up in one matrix, in this order. */
const isGated = (place: Place) => ["swiglu", "glu"].includes(branchAt(place)?.kind ?? "");

function half(place: Place, at: 0 | 1): Step[] {
  const units = branchAt(place)!.intermediate_size;
  return [{ kind: "rows", groups: 1, take: [[at * units, units]] }];
}

export const veronica: ImportTable = {
  name: "veronica",
  rules: [
    { ours: "input.embedding", theirs: "wte.weight" },
    { ours: "layers.{i}.residual.mixer_norm.gain", theirs: `${layer}.ln1.weight` },
    { ours: "layers.{i}.residual.mixer_norm.bias", theirs: `${layer}.ln1.bias` },
    { ours: "layers.{i}.residual.mlp_norm.gain", theirs: `${layer}.ln2.weight` },
    { ours: "layers.{i}.residual.mlp_norm.bias", theirs: `${layer}.ln2.bias` },
    { ours: "layers.{i}.mixer.q", theirs: `${layer}.attn.q_proj.weight` },
    { ours: "layers.{i}.mixer.k", theirs: `${layer}.attn.k_proj.weight` },
    { ours: "layers.{i}.mixer.v", theirs: `${layer}.attn.v_proj.weight` },
    { ours: "layers.{i}.mixer.o", theirs: `${layer}.attn.o_proj.weight` },
    { ours: "layers.{i}.mlp.router.hidden", theirs: `${mlp}.router.0.weight` },
    { ours: "layers.{i}.mlp.router.hidden_bias", theirs: `${mlp}.router.0.bias` },
    { ours: "layers.{i}.mlp.router.out", theirs: `${mlp}.router.2.weight` },
    { ours: "layers.{i}.mlp.router.out_bias", theirs: `${mlp}.router.2.bias` },
    {
      ours: `${ours}.gate`,
      theirs: `${branch}.up.weight`,
      when: isGated,
      steps: (place) => half(place, 0),
    },
    {
      ours: `${ours}.up`,
      theirs: `${branch}.up.weight`,
      when: isGated,
      steps: (place) => half(place, 1),
    },
    { ours: `${ours}.up`, theirs: `${branch}.up.weight` },
    { ours: `${ours}.down`, theirs: `${branch}.down.weight` },
    {
      ours: `${ours}.conv`,
      theirs: `${branch}.conv.weight`, // [channels, 1, taps]
      steps: ({ hidden_size }) => [
        { kind: "reshape", shape: [hidden_size, -1] },
        { kind: "transpose" },
      ],
    },
    { ours: `${ours}.conv_bias`, theirs: `${branch}.conv.bias` },
    { ours: "norm.gain", theirs: "ln_f.weight" },
    { ours: "norm.bias", theirs: "ln_f.bias" },
    { ours: "head.weight", theirs: "lm_head.weight" },
  ],
  tied: ["wte.weight", "lm_head.weight"],
  ignored: [["*inv_freq", "frequencies of angles"]],
};
