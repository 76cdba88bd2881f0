/** A plain decoder as a GGUF file, which llama.cpp runs. */

import { ggufTable, originsOf, plainFields, type PlainKind } from "../import/mod.ts";
import { isTaken, writeFileAtomic } from "../io/atomic.ts";
import { UserError } from "../io/errors.ts";
import { type GgufTensor, type GgufType, type GgufValue, writeGguf } from "../io/gguf.ts";
import { countAll, type NamedParam, namedParams } from "../model/mod.ts";
import type { OpenedModel } from "../open/mod.ts";
import { ggufTexts, ggufTokenizer } from "./gguf_tokenizer.ts";
import { endOf, tokenizerConfig } from "./huggingface.ts";
import { converted } from "./shards.ts";

export interface GgufJob {
  readonly opened: OpenedModel;
  /** The file; whatever is there already is an error. */
  readonly out: string;
  /** What matrices and tables are stored as; vectors stay f32. */
  readonly type: GgufType;
  readonly name: string;
}

export interface GgufExported {
  readonly architecture: string;
  readonly tensors: number;
  readonly params: number;
  /** Matrices that stayed f16 because their rows are no whole blocks. */
  readonly wide: readonly string[];
}

/** llama.cpp's `general.file_type`. */
const fileTypes = { f32: 0, f16: 1, q8_0: 7, bf16: 32 } as const;

export async function exportGguf({ opened, out, type, name }: GgufJob): Promise<GgufExported> {
  if (await isTaken(out)) throw new UserError("it exists already", { where: out });
  const { model, file, tokenizer, beginning } = opened, plain = plainFields(model);
  if (typeof plain === "string" || plain.kind === "mistral") {
    const why = typeof plain === "string" ? plain : "it has a window";
    throw new UserError(`llama.cpp has no such model: ${why}`, {
      hint: "--to hf writes it with a PyTorch module of its own",
    });
  }
  const settings = await tokenizerConfig(opened), { fields, kind } = plain;
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: kind }],
    ["general.name", { type: "string", value: name }],
    ["general.file_type", { type: "u32", value: fileTypes[type] }],
    ["general.quantization_version", { type: "u32", value: 2 }],
    ...sizesOf(kind, fields),
    ...ggufTokenizer(tokenizer, model.dims.vocab_size),
    ...ggufTexts(settings, { begin: beginning, end: endOf(opened, settings) }),
  ]);
  const params = namedParams(model.params), wide: string[] = [];
  const tensors = originsOf(ggufTable(kind), model).map(({ param, theirs }): GgufTensor => {
    const stored = typeOf(param, type);
    if (stored !== type && param.shape.length > 1) wide.push(param.path);
    return {
      name: theirs,
      shape: param.shape,
      type: stored,
      data: () => {
        const values = permuted(file.read(param.path) as Float32Array, param, kind, fields);
        return stored === "q8_0" ? quantized(values) : converted(values, stored, param.path);
      },
    };
  });
  await writeFileAtomic(out, (path) => writeGguf(path, metadata, tensors));
  return { architecture: kind, tensors: tensors.length, params: countAll(params), wide };
}

function typeOf({ shape }: NamedParam, type: GgufType): GgufType {
  if (shape.length === 1) return "f32";
  return type === "q8_0" && shape.at(-1)! % 32 !== 0 ? "f16" : type;
}

type Fields = Readonly<Record<string, unknown>>;

function sizesOf(kind: PlainKind, fields: Fields): [string, GgufValue][] {
  const size = (name: string, field: string): [string, GgufValue] => [
    `${kind}.${name}`,
    { type: "u32", value: fields[field] as number },
  ];
  const float = (name: string, field: string): [string, GgufValue] => [
    `${kind}.${name}`,
    { type: "f32", value: fields[field] as number },
  ];
  return [
    size("context_length", "max_position_embeddings"),
    size("embedding_length", "hidden_size"),
    size("block_count", "num_hidden_layers"),
    size("feed_forward_length", "intermediate_size"),
    size("attention.head_count", "num_attention_heads"),
    size("attention.head_count_kv", "num_key_value_heads"),
    size("attention.key_length", "head_dim"),
    size("attention.value_length", "head_dim"),
    size("rope.dimension_count", "head_dim"),
    size("vocab_size", "vocab_size"),
    float("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    float("rope.freq_base", "rope_theta"),
  ];
}

/** Rows of queries and keys as llama.cpp has them: see `ggufTable`. */
function permuted(
  values: Float32Array,
  { path, shape: [rows, width = 1] }: NamedParam,
  kind: PlainKind,
  { head_dim }: Fields,
): Float32Array {
  if (kind !== "llama" || !/\.mixer\.[qk]$/.test(path)) return values;
  const out = new Float32Array(values.length), head = head_dim as number, half = head / 2;
  for (let row = 0; row < rows; row++) {
    const at = row % head, pair = at % half, from = row - at;
    const to = from + 2 * pair + (at < half ? 0 : 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

/** Blocks of 32: a scale in f16, the largest over 127, and whole numbers of it. */
export function quantized(values: Float32Array): Uint8Array {
  const blocks = values.length / 32, out = new Uint8Array(34 * blocks);
  const view = new DataView(out.buffer);
  for (let block = 0; block < blocks; block++) {
    let most = 0;
    for (let i = 0; i < 32; i++) most = Math.max(most, Math.abs(values[32 * block + i]));
    const scale = Math.fround(most / 127), inverse = scale > 0 ? Math.fround(1 / scale) : 0;
    view.setFloat16(34 * block, scale, true);
    for (let i = 0; i < 32; i++) {
      const x = Math.fround(values[32 * block + i] * inverse);
      view.setInt8(34 * block + 2 + i, Math.sign(x) * Math.round(Math.abs(x)));
    }
  }
  return out;
}
