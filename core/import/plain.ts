/** Plain decoders in Hugging Face's `config.json`: Llama, Mistral, Qwen2 and Qwen3, to a model of ours and back. */

import { z } from "zod";
import { UserError } from "../io/errors.ts";
import { blocksOf, type CompleteModelConfig, type Model, modelConfig } from "../model/mod.ts";

const size = z.int().positive(), flag = z.boolean();

/** Fields that say what is computed. What else a file has is for other tools. */
const schema = z.looseObject({
  model_type: z.string(),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  max_position_embeddings: size.default(2048),
  hidden_act: z.string().default("silu"),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z.number().nullish(),
  /** Null, or how positions beyond those of training are made. */
  rope_scaling: z.looseObject({}).nullish(),
  /** The same with theta in it, from transformers 5 on. */
  rope_parameters: z.looseObject({ rope_theta: z.number().positive().optional() }).nullish(),
  tie_word_embeddings: flag.default(false),
  attention_bias: flag.default(false),
  mlp_bias: flag.default(false),
  use_sliding_window: flag.default(false),
  sliding_window: size.nullish(),
  layer_types: z.array(z.string()).nullish(),
  initializer_range: z.number().positive().default(0.02),
});
type PlainConfig = z.output<typeof schema>;

/** Model types that are read, and what distinguishes them. */
const kinds = {
  llama: { architecture: "LlamaForCausalLM", qkBias: false, qkNorm: false },
  mistral: { architecture: "MistralForCausalLM", qkBias: false, qkNorm: false },
  qwen2: { architecture: "Qwen2ForCausalLM", qkBias: true, qkNorm: false },
  qwen3: { architecture: "Qwen3ForCausalLM", qkBias: false, qkNorm: true },
} as const;
export type PlainKind = keyof typeof kinds;

export function isPlain(type: unknown): type is PlainKind {
  return typeof type === "string" && Object.hasOwn(kinds, type);
}

/** What the classes of transformers give a field that a file leaves out, where they differ. */
const headWidth: Partial<Record<PlainKind, number>> = { qwen3: 128 };

/** The model that a `config.json` describes; what cannot be computed as it says is one error that lists it all. */
export function plainModel(json: unknown, where: string): CompleteModelConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
    throw new UserError(`not a decoder's config: ${faults.join("; ")}`, { where });
  }
  const c = parsed.data, { model_type: type } = c;
  if (!isPlain(type)) throw unknownType(type, where);
  const faults = unsupported(c, type);
  if (faults.length > 0) {
    throw new UserError(`quern has no ${faults.join("; no ")}`, {
      where,
      hint: "weights that were trained so give other numbers without it",
    });
  }
  return ourForm(c, type, where);
}

export function unknownType(type: unknown, where: string): UserError {
  return new UserError(`quern knows no model_type ${JSON.stringify(type ?? null)}`, {
    where,
    hint: `known: ${Object.keys(kinds).join(", ")}, and what quern export writes; ` +
      "weights of other names: quern import with --config",
  });
}

function unsupported(c: PlainConfig, type: PlainKind): string[] {
  const found: string[] = [], { rope_scaling, rope_parameters, layer_types } = c;
  for (const [name, given] of Object.entries({ rope_scaling, rope_parameters })) {
    const kind = given && (given.rope_type ?? given.type ?? "default");
    if (kind && kind !== "default") found.push(`${name} of type ${kind}`);
  }
  if (!["silu", "swish"].includes(c.hidden_act)) found.push(`hidden_act ${c.hidden_act} here`);
  // queries, keys, values and the output alike have one; ours have the first three, as Qwen2 has
  if (c.attention_bias && type !== "qwen2") found.push(`attention_bias of ${type}`);
  if (c.mlp_bias) found.push("mlp_bias");
  if (c.use_sliding_window) found.push("use_sliding_window for some layers alone");
  const sliding = layer_types?.find((kind) => kind !== "full_attention");
  if (sliding && type !== "mistral") found.push(`layer_types ${sliding}`);
  return found;
}

function ourForm(c: PlainConfig, type: PlainKind, where: string): CompleteModelConfig {
  const { qkBias, qkNorm } = kinds[type], theta = c.rope_theta ?? c.rope_parameters?.rope_theta;
  const head_dim = c.head_dim ?? headWidth[type];
  const { hidden_size, intermediate_size, rms_norm_eps: eps, initializer_range } = c;
  const { vocab_size, max_position_embeddings, tie_word_embeddings } = c;
  const shared = { hidden_size, vocab_size, max_position_embeddings, initializer_range };
  const heads = {
    num_attention_heads: c.num_attention_heads,
    num_key_value_heads: c.num_key_value_heads ?? undefined,
    head_dim,
    rope_theta: theta ?? 10000,
    partial_rotary_factor: c.partial_rotary_factor ?? 1,
    qk_norm: qkNorm,
  };
  const window = type === "mistral" ? c.sliding_window ?? 0 : 0;
  const isFlat = !qkBias && window === 0;
  const norm = { kind: "rms_norm", eps };
  const form = isFlat
    ? {
      ...shared,
      ...heads,
      num_hidden_layers: c.num_hidden_layers,
      intermediate_size,
      rms_norm_eps: eps,
      tie_word_embeddings,
    }
    : {
      ...shared,
      blocks: [{
        repeat: c.num_hidden_layers,
        mixer: { kind: "attention", ...heads, qk_norm_eps: eps, attention_bias: qkBias, window },
        mlp: { kind: "swiglu", intermediate_size },
        residual: { kind: "pre_norm", norm },
      }],
      norm,
      head: { kind: "linear", tie_word_embeddings },
    };
  const { data, error } = modelConfig.safeParse(form);
  if (data) return data as CompleteModelConfig;
  const issues = error.issues.flatMap((issue) =>
    issue.code === "invalid_union" ? issue.errors[isFlat ? 0 : 1] ?? [] : [issue]
  );
  const faults = issues.map(({ path, message }) => [...path, message].join(": "));
  throw new UserError(`no decoder can be so: ${faults.join("; ")}`, { where });
}

/** A plain decoder's fields, and what it is called. */
export interface Plain {
  readonly kind: PlainKind;
  readonly architecture: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The `config.json` fields of a model that standard classes compute; else what they do not have. */
export function plainFields({ config, dims }: Pick<Model, "config" | "dims">): Plain | string {
  const tree = blocksOf(config), [first, ...others] = tree.blocks;
  const { mixer, mlp, residual } = first, lacking: string[] = [];
  const need = (holds: boolean, what: string) => void (holds || lacking.push(what));
  const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
  const alike = ({ mixer, mlp, residual }: typeof first) => ({ mixer, mlp, residual });
  need(others.every((block) => same(alike(block), alike(first))), "layers that differ");
  need(tree.order === undefined && tree.skips.length === 0, "replayed layers or skips");
  need(same(tree.input, { kind: "token", smear: false }), "an input beyond tokens");
  need(tree.head.softcap === 0, "a softcap");
  const { norm } = tree, isRms = norm.kind === "rms_norm" && norm.weight && !norm.zero_centered;
  need(isRms, "norms of that kind");
  need(residual.kind === "pre_norm" && same(residual.norm, norm), "such a residual stream");
  need(mlp.kind === "swiglu", `a ${mlp.kind} mlp`);
  if (mixer.kind !== "attention") return `standard classes have no ${mixer.kind}`;
  const { num_attention_heads: heads, head_dim = dims.hidden_size / heads } = mixer;
  const rest = mixer.value_residual || mixer.value_embedding || mixer.exclusive || mixer.fan ||
    mixer.query_gain !== undefined || mixer.output_gate !== "none" || mixer.softcap > 0 ||
    mixer.rope_direction !== 1 || mixer.rope_original_positions !== undefined ||
    mixer.partial_rotary_factor !== 1 || mixer.dropout > 0;
  need(!rest, "such attention");
  const { qk_norm, attention_bias, window } = mixer;
  const isQwen3 = qk_norm && mixer.qk_norm_weight && !mixer.qk_norm_zero_centered &&
    mixer.qk_norm_eps === norm.eps && !attention_bias && window === 0;
  need(!qk_norm || isQwen3, "such a qk_norm");
  need(!attention_bias || (window === 0 && head_dim * heads === dims.hidden_size), "such biases");
  if (lacking.length > 0) return `standard classes have not: ${lacking.join(", ")}`;
  const kind = isQwen3 ? "qwen3" : attention_bias ? "qwen2" : window > 0 ? "mistral" : "llama";
  const intermediate_size = (mlp as { intermediate_size: number }).intermediate_size;
  return {
    kind,
    architecture: kinds[kind].architecture,
    fields: {
      vocab_size: dims.vocab_size,
      hidden_size: dims.hidden_size,
      intermediate_size,
      num_hidden_layers: dims.depth,
      num_attention_heads: heads,
      num_key_value_heads: mixer.num_key_value_heads ?? heads,
      head_dim,
      max_position_embeddings: dims.max_position_embeddings,
      hidden_act: "silu",
      rms_norm_eps: norm.eps,
      rope_theta: mixer.rope_theta,
      rope_scaling: null,
      tie_word_embeddings: tree.head.tie_word_embeddings,
      attention_bias: kind === "qwen2",
      ...(kind === "llama" && { mlp_bias: false }),
      ...(kind === "mistral" && { sliding_window: window }),
      ...(kind.startsWith("qwen") && { use_sliding_window: false, sliding_window: null }),
      attention_dropout: 0,
      initializer_range: config.initializer_range,
    },
  };
}
