import assert from "node:assert/strict";
import { join } from "node:path";
import { exportDtypeNames } from "../../../cli/export.ts";
import { exportDtypes, exportGguf } from "../../../core/export/mod.ts";
import { ggufTypes } from "../../../core/io/gguf.ts";
import { openAny } from "../../../core/open/mod.ts";
import { preTokenizerName } from "../../../core/text/pieces.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { byteBpe, configAround, qwen2, writeRandomRun } from "./random_run.ts";
import { type GgufFile, readGguf } from "./read_gguf.ts";

const plain = {
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 48,
  vocab_size: 272,
};

/** What a model is exported as, and the weights that it came from. */
async function exported(
  model: object,
  tokenizer: Tokenizer,
  type: keyof typeof ggufTypes,
  check: (file: GgufFile, weights: (path: string) => Float32Array, wide: readonly string[]) => void,
): Promise<void> {
  await withTempDir(async (dir) => {
    const run = join(dir, "run"), out = join(dir, "model.gguf");
    await writeRandomRun(run, configAround(model, { sequence_length: 32 }), tokenizer, 3);
    using opened = await openAny(run);
    const { wide } = await exportGguf({ opened, out, type, name: "it" });
    const read = (path: string) => opened.file.read(path) as Float32Array;
    check(readGguf(await Deno.readFile(out)), read, wide);
    await assert.rejects(exportGguf({ opened, out, type, name: "it" }), {
      message: /exists already/,
    });
  });
}

const largest = (x: Float32Array) => x.reduce((most, one) => Math.max(most, Math.abs(one)), 0);

/** Half a step of the block's scale, and what f16 leaves of that. */
function checkQ8(values: Float32Array, exact: Float32Array): void {
  for (let at = 0; at < exact.length; at += 32) {
    const most = largest(exact.subarray(at, at + 32)),
      near = most / 127 * (0.5 + 127 / 2048 + 1e-3);
    for (let i = at; i < at + 32; i++) assert.ok(Math.abs(values[i] - exact[i]) <= near, `${i}`);
  }
}

Deno.test("gguf: Llama's names, sizes, and rows of queries and keys as llama.cpp turns them", async () => {
  assert.deepEqual([...exportDtypeNames.gguf].sort(), Object.keys(ggufTypes).sort());
  assert.deepEqual([...exportDtypeNames.hf], Object.keys(exportDtypes));
  await exported(plain, byteBpe, "f32", ({ metadata, tensors }, weights) => {
    assert.partialDeepStrictEqual(metadata, {
      "general.architecture": "llama",
      "general.file_type": 0,
      "llama.context_length": 32,
      "llama.attention.head_count": 4,
      "llama.attention.head_count_kv": 2,
      "llama.attention.key_length": 16,
      "llama.rope.freq_base": 10000,
      "llama.vocab_size": 272,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.merges": ["T H", "TH E"],
      "tokenizer.ggml.add_bos_token": true,
      "tokenizer.ggml.bos_token_id": 258,
      "tokenizer.ggml.eos_token_id": 258,
    });
    const tokens = metadata["tokenizer.ggml.tokens"] as string[];
    assert.deepEqual([tokens.length, tokens[257], tokens[258]], [272, "THE", "<|endoftext|>"]);
    assert.equal(tokens[271], "[PAD271]");
    const types = metadata["tokenizer.ggml.token_type"] as number[];
    assert.deepEqual([types[257], types[258], types[271]], [1, 3, 5]);
    const sizes = Object.fromEntries([...tensors].map(([name, { sizes }]) => [name, sizes]));
    assert.equal(tensors.size, 2 + 2 * 9, "a tied head is the table");
    assert.partialDeepStrictEqual(sizes, {
      "token_embd.weight": [64, 272],
      "output_norm.weight": [64],
      "blk.1.attn_k.weight": [64, 32],
      "blk.1.ffn_down.weight": [48, 64],
    });
    const v = tensors.get("blk.1.attn_v.weight")!.values;
    assert.deepEqual(v, weights("layers.1.mixer.v"));
    for (const [name, heads] of [["q", 4], ["k", 2]] as const) {
      const { values } = tensors.get(`blk.1.attn_${name}.weight`)!;
      const own = weights(`layers.1.mixer.${name}`),
        row = (x: Float32Array, r: number) => x.subarray(64 * r, 64 * (r + 1));
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < 8; i++) {
          // llama.cpp turns 2i and 2i + 1 by angle i; here it is i and i + 8
          assert.deepEqual(row(values, 16 * head + 2 * i), row(own, 16 * head + i));
          assert.deepEqual(row(values, 16 * head + 2 * i + 1), row(own, 16 * head + i + 8));
        }
      }
    }
  });
});

Deno.test("gguf: q8_0 is near in each block; rows that are no whole blocks stay f16, vectors f32", async () => {
  await exported(plain, byteTokenizer(), "q8_0", ({ metadata, tensors }, weights, wide) => {
    assert.equal(metadata["general.file_type"], 7);
    checkQ8(tensors.get("token_embd.weight")!.values, weights("input.embedding"));
    checkQ8(tensors.get("blk.0.attn_v.weight")!.values, weights("layers.0.mixer.v"));
    assert.deepEqual(wide, ["layers.0.mlp.down", "layers.1.mlp.down"]);
    const down = tensors.get("blk.0.ffn_down.weight")!;
    assert.deepEqual(
      [down.type, down.values],
      [1, weights("layers.0.mlp.down").map((x) => Math.f16round(x))],
    );
    assert.equal(tensors.get("blk.0.attn_norm.weight")!.type, 0);
  });
});

Deno.test("gguf: Qwen2 has biases, Qwen3 norms of heads, and neither's rows are moved", async () => {
  const letters = characterTokenizer("abc e");
  await exported(qwen2, letters, "f16", ({ metadata, tensors }, weights) => {
    assert.equal(metadata["general.architecture"], "qwen2");
    assert.deepEqual(
      (metadata["tokenizer.ggml.tokens"] as string[]).slice(0, 3),
      ["\u0120", "a", "b"],
    );
    assert.deepEqual(tensors.get("blk.1.attn_q.bias")!.values, weights("layers.1.mixer.q_bias"));
    const rounded = weights("layers.1.mixer.q").map((x) => Math.f16round(x));
    assert.deepEqual(tensors.get("blk.1.attn_q.weight")!.values, rounded);
  });
  const untied = { ...plain, qk_norm: true, head_dim: 32, tie_word_embeddings: false };
  await exported(untied, byteBpe, "f32", ({ metadata, tensors }, weights) => {
    assert.equal(metadata["qwen3.attention.key_length"], 32);
    assert.deepEqual(tensors.get("blk.0.attn_q_norm.weight")!.sizes, [32]);
    assert.deepEqual(tensors.get("blk.0.attn_k.weight")!.values, weights("layers.0.mixer.k"));
    assert.deepEqual(tensors.get("output.weight")!.values, weights("head.weight"));
  });
});

Deno.test("gguf: what llama.cpp has not is refused, and says what to do", async () => {
  const none = () => assert.fail("it was written");
  const other = {
    ...qwen2,
    blocks: [{ ...qwen2.blocks[0], mlp: { kind: "gelu", intermediate_size: 8 } }],
  };
  await assert.rejects(exported(other, byteBpe, "f16", none), { hint: /--to hf/ });
  await assert.rejects(exported(plain, characterTokenizer("aé"), "f16", none), {
    message: /"é" is one token of several bytes/,
  });
});

Deno.test("gguf: ways of cutting texts have llama.cpp's names", () => {
  const byteLevel = (use_regex: boolean) => ({
    type: "ByteLevel",
    add_prefix_space: false,
    use_regex,
  });
  const split = (Regex: string) => ({
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false },
      byteLevel(false),
    ],
  });
  const qwen =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+" +
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  assert.equal(preTokenizerName(split(qwen)), "qwen2");
  assert.equal(preTokenizerName(split(qwen.replace("\\p{N}|", "\\p{N}{1,3}|"))), "llama-bpe");
  assert.equal(preTokenizerName(byteLevel(true)), "gpt-2");
  const digits = { type: "Digits", individual_digits: true };
  const smollm = { type: "Sequence", pretokenizers: [digits, byteLevel(true)] };
  assert.equal(preTokenizerName(smollm), "smollm");
  assert.equal(preTokenizerName(split("\\w+")), undefined);
  assert.equal(preTokenizerName(byteLevel(false)), undefined);
});
