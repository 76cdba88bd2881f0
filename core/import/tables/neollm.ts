/** The state dict of KitsuVp/NeoLLM; its mixers are Qwen3-Next's. */

import type { Range, Step } from "../steps.ts";
import type { ImportTable, Place, Rule } from "../table.ts";

const layer = "layers.{i}", mixer = `${layer}.mixer`, mlp = `${layer}.mlp`;

function deltaAt({ mixer }: Place) {
  return mixer?.kind === "gated_delta" ? mixer : undefined;
}

function attentionAt({ mixer }: Place) {
  return mixer?.kind === "attention" ? mixer : undefined;
}

/** Rows of a joint projection lie by key head; these are a key head's. */
function ofKeyHeads(
  place: Place,
  take: (sizes: { key: number; values: number; each: number }) => Range[],
): Step[] {
  const { num_key_heads, num_value_heads = num_key_heads, ...sizes } = deltaAt(place)!;
  const each = num_value_heads / num_key_heads;
  const lengths = { key: sizes.key_head_dim, values: each * sizes.value_head_dim, each };
  return [{ kind: "rows", groups: num_key_heads, take: take(lengths) }];
}

/** The gate of a head lies behind its query. */
function queryOrGate(place: Place, at: 0 | 1): Step[] {
  const { num_attention_heads: heads, head_dim = place.hidden_size / heads, output_gate } =
    attentionAt(place)!;
  if (output_gate !== "channel") return [];
  return [{ kind: "rows", groups: heads, take: [[at * head_dim, head_dim]] }];
}

/** A rule for layers with one of the two mixers. */
function ofMixer(
  at: (place: Place) => unknown,
  ours: string,
  theirs: string,
  steps?: Rule["steps"],
): Rule {
  return {
    ours: `${mixer}.${ours}`,
    theirs: `${layer}.${theirs}`,
    when: (place) => at(place) !== undefined,
    ...(steps && { steps }),
  };
}

export const neollm: ImportTable = {
  name: "neollm",
  rules: [
    { ours: "input.embedding", theirs: "embed_tokens.weight" },
    { ours: `${layer}.residual.mixer_norm.gain`, theirs: `${layer}.input_layernorm.weight` },
    { ours: `${layer}.residual.mlp_norm.gain`, theirs: `${layer}.post_attention_layernorm.weight` },
    { ours: `${layer}.residual.mixer_gate`, theirs: `${layer}.gpas_attn.gate` },
    { ours: `${layer}.residual.mlp_gate`, theirs: `${layer}.gpas_mlp.gate` },
    { ours: `${mixer}.fan.weight`, theirs: `${layer}.fan_layer.input_linear.weight` },
    { ours: `${mixer}.fan.bias`, theirs: `${layer}.fan_layer.input_linear.bias` },
    // [query | key | value | z] of each key head
    ofMixer(
      deltaAt,
      "qkv",
      "linear_attn.in_proj_qkvz.weight",
      (place) => ofKeyHeads(place, ({ key, values }) => [[0, key], [key, key], [2 * key, values]]),
    ),
    ofMixer(
      deltaAt,
      "z",
      "linear_attn.in_proj_qkvz.weight",
      (place) => ofKeyHeads(place, ({ key, values }) => [[2 * key + values, values]]),
    ),
    // [b | a] of each key head
    ofMixer(
      deltaAt,
      "ba",
      "linear_attn.in_proj_ba.weight",
      (place) => ofKeyHeads(place, ({ each }) => [[0, each], [each, each]]),
    ),
    // [channels, 1, taps]
    ofMixer(deltaAt, "conv", "linear_attn.conv1d.weight", (place) => [
      { kind: "reshape", shape: [-1, deltaAt(place)!.conv_kernel_dim] },
      { kind: "transpose" },
    ]),
    ofMixer(deltaAt, "A_log", "linear_attn.A_log"),
    ofMixer(deltaAt, "dt_bias", "linear_attn.dt_bias"),
    ofMixer(deltaAt, "norm", "linear_attn.norm.weight"),
    ofMixer(deltaAt, "o", "linear_attn.out_proj.weight"),
    ofMixer(attentionAt, "q", "self_attn.q_proj.weight", (place) => queryOrGate(place, 0)),
    ofMixer(attentionAt, "gate", "self_attn.q_proj.weight", (place) => queryOrGate(place, 1)),
    ofMixer(attentionAt, "k", "self_attn.k_proj.weight"),
    ofMixer(attentionAt, "v", "self_attn.v_proj.weight"),
    ofMixer(attentionAt, "o", "self_attn.o_proj.weight"),
    ofMixer(attentionAt, "q_norm", "self_attn.q_norm.weight"),
    ofMixer(attentionAt, "k_norm", "self_attn.k_norm.weight"),
    { ours: `${mlp}.gate`, theirs: `${mlp}.gate_proj.weight` },
    { ours: `${mlp}.up`, theirs: `${mlp}.up_proj.weight` },
    { ours: `${mlp}.down`, theirs: `${mlp}.down_proj.weight` },
    { ours: `${mlp}.polynorm.weight`, theirs: `${mlp}.act_fn.weight` },
    { ours: `${mlp}.polynorm.bias`, theirs: `${mlp}.act_fn.bias` },
    { ours: "norm.gain", theirs: "norm.weight" },
    { ours: "head.weight", theirs: "lm_head.weight" },
  ],
  tied: ["embed_tokens.weight", "lm_head.weight"],
  ignored: [["*inv_freq", "frequencies of angles"]],
};
