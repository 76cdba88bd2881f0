/** What a GGUF file's metadata say of a plain decoder: its config, as a `config.json` has it, and its tokenizer. */

import { exitCodes, UserError } from "../io/errors.ts";
import type { GgufMetadata } from "../io/gguf_file.ts";
import type { TensorInfo } from "../io/safetensors.ts";
import { preTokenizerStage } from "../text/pieces.ts";
import { bpeModel } from "../text/train_bpe.ts";

/** What of a file is looked at. */
export interface GgufHeader {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufMetadata>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

const architectures = ["llama", "qwen2", "qwen3"];

/** Reads metadata by key and type; one that is missing or another kind of value is the user's error. */
function reading({ path, metadata }: GgufHeader) {
  const refuse = (what: string, hint?: string) =>
    new UserError(what, {
      where: path,
      exitCode: exitCodes.failed,
      ...(hint !== undefined && { hint }),
    });
  const value = <T extends "number" | "string" | "boolean">(key: string, type: T) => {
    const found = metadata.get(key);
    if (found === undefined || typeof found === type) {
      return found as ({ number: number; string: string; boolean: boolean }[T]) | undefined;
    }
    throw refuse(`${key} is ${Array.isArray(found) ? "an array" : found}, a ${type} is expected`);
  };
  const needed = (key: string): number => {
    const found = value(key, "number");
    if (found === undefined) throw refuse(`its metadata lack ${key}`);
    return found;
  };
  const list = <T extends "number" | "string">(key: string, type: T) => {
    const found = metadata.get(key);
    if (found === undefined) return undefined;
    if (Array.isArray(found) && found.every((one) => typeof one === type)) {
      return found as readonly ({ number: number; string: string }[T])[];
    }
    throw refuse(`${key} is no array of ${type}s`);
  };
  return { refuse, value, needed, list };
}

/** The architecture, and the model as the fields of a `config.json`. */
export function ggufConfig(
  header: GgufHeader,
): { readonly architecture: string; readonly fields: Record<string, unknown> } {
  const { refuse, value, needed } = reading(header), { tensors } = header;
  const architecture = value("general.architecture", "string") ?? "";
  if (!architectures.includes(architecture)) {
    throw refuse(
      `quern reads no GGUF of the architecture ${JSON.stringify(architecture)}`,
      `known: ${architectures.join(", ")}`,
    );
  }
  const size = (name: string) => needed(`${architecture}.${name}`);
  const maybe = (name: string) => value(`${architecture}.${name}`, "number");
  const table = tensors.get("token_embd.weight");
  if (!table || table.shape.length !== 2) throw refuse("it has no table token_embd.weight");
  const layers = size("block_count");
  if (layers > tensors.size) throw refuse(`it has ${tensors.size} tensors for ${layers} layers`);
  const heads = size("attention.head_count"), width = size("embedding_length");
  const head_dim = maybe("attention.key_length") ?? width / heads;
  const values = maybe("attention.value_length") ?? head_dim;
  if (values !== head_dim) throw refuse(`keys have ${head_dim} channels, values ${values}`);
  const shared = maybe("attention.head_count_kv") ?? heads;
  for (const [name, count] of [["q", heads], ["k", shared]] as const) {
    const rows = tensors.get(`blk.0.attn_${name}.weight`)?.shape[0];
    if (rows === count * head_dim) continue;
    throw refuse(`blk.0.attn_${name} has ${rows} rows, not ${count} heads of ${head_dim} channels`);
  }
  if ((maybe("expert_count") ?? 0) > 0) throw refuse("quern has no experts");
  const scaling = value(`${architecture}.rope.scaling.type`, "string") ??
    (tensors.has("rope_freqs.weight") ? "llama3" : "none");
  const window = maybe("attention.sliding_window") ?? 0;
  const isWindowed = architecture === "llama" && window > 0;
  return {
    architecture,
    fields: {
      model_type: isWindowed ? "mistral" : architecture,
      vocab_size: table.shape[0],
      hidden_size: width,
      intermediate_size: size("feed_forward_length"),
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: shared,
      head_dim,
      max_position_embeddings: size("context_length"),
      rms_norm_eps: plainest(size("attention.layer_norm_rms_epsilon")),
      rope_theta: plainest(maybe("rope.freq_base") ?? 10000),
      partial_rotary_factor: (maybe("rope.dimension_count") ?? head_dim) / head_dim,
      rope_scaling: scaling === "none" ? null : { rope_type: scaling },
      tie_word_embeddings: !tensors.has("output.weight"),
      ...(isWindowed && { sliding_window: window }),
      ...(architecture === "qwen2" && { attention_bias: true }),
    },
  };
}

/** The shortest decimal that is the same f32: 1e-6, not 9.999999974752427e-7. */
function plainest(x: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(x.toPrecision(digits));
    if (Math.fround(short) === x) return short;
  }
  return x;
}

/** What llama.cpp's token types mean. */
const types = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/** The text of the tokenizer.json that the metadata describe. */
export function ggufTokenizerFile(header: GgufHeader): string {
  const { refuse, value, list } = reading(header);
  const other = "give its tokenizer.json: --tokenizer PATH";
  const kind = value("tokenizer.ggml.model", "string"), tokens = list(tokensKey, "string");
  if (kind === undefined || !tokens) throw refuse("it has no tokenizer", other);
  if (kind !== "gpt2") {
    throw refuse(`its tokenizer is ${JSON.stringify(kind)}; read is gpt2, byte-level BPE`, other);
  }
  const pre = value("tokenizer.ggml.pre", "string");
  if (pre === undefined) throw refuse("its tokenizer does not say how it cuts texts", other);
  const pre_tokenizer = preTokenizerStage(pre);
  if (!pre_tokenizer) {
    throw refuse(`its tokenizer cuts texts as ${JSON.stringify(pre)}, which is not known`, other);
  }
  const kinds = list("tokenizer.ggml.token_type", "number");
  const vocab = new Map<string, number>(), added_tokens: object[] = [];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  tokens.forEach((content, id) => {
    const type = kinds?.[id] ?? types.normal;
    if (type === types.unused) return;
    if (type === types.normal) {
      if (vocab.has(content)) throw refuse(`the token ${JSON.stringify(content)} comes twice`);
      return void vocab.set(content, id);
    }
    if (type !== types.control && type !== types.userDefined) {
      throw refuse(`the token ${JSON.stringify(content)} is of type ${type}`, other);
    }
    added_tokens.push({ id, content, ...flags, special: type === types.control });
  });
  const stage = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
  const merges = (list("tokenizer.ggml.merges", "string") ?? []).map((merge) => {
    const at = merge.indexOf(" ", 1);
    if (at < 0) throw refuse(`${JSON.stringify(merge)} is no merge of two tokens`);
    return [merge.slice(0, at), merge.slice(at + 1)];
  });
  const file = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens,
    normalizer: null,
    pre_tokenizer,
    post_processor: null,
    decoder: { ...stage, use_regex: false },
    model: bpeModel(Object.fromEntries(vocab), merges, pre === "llama-bpe"), // as llama.cpp has it
  };
  return `${JSON.stringify(file)}\n`;
}

const tokensKey = "tokenizer.ggml.tokens";

/** What a `tokenizer_config.json` would say: what a text begins and ends with, and a conversation's template. */
export function ggufSettings(header: GgufHeader): Record<string, unknown> {
  const { value, list } = reading(header), tokens = list(tokensKey, "string") ?? [];
  const name = (which: string) => {
    const id = value(`tokenizer.ggml.${which}_token_id`, "number");
    return id === undefined ? undefined : tokens[id];
  };
  const bos = name("bos"), eos = name("eos"), isLlama3 = value("tokenizer.ggml.pre", "string");
  const template = value("tokenizer.chat_template", "string");
  return {
    // where the file is silent llama.cpp puts one before texts of Llama 3
    add_bos_token: value("tokenizer.ggml.add_bos_token", "boolean") ?? isLlama3 === "llama-bpe",
    ...(bos !== undefined && { bos_token: bos }),
    ...(eos !== undefined && { eos_token: eos }),
    ...(template !== undefined && { chat_template: template }),
  };
}
