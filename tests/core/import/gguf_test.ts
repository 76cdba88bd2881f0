import assert from "node:assert/strict";
import { join } from "node:path";
import { exportGguf, type GgufExported } from "../../../core/export/mod.ts";
import {
  ggufConfig,
  ggufSettings,
  ggufTokenizerFile,
  plainModel,
} from "../../../core/import/mod.ts";
import { type GgufValue, writeGguf } from "../../../core/io/gguf.ts";
import { type GgufMetadata, openGguf } from "../../../core/io/gguf_file.ts";
import { namedParams } from "../../../core/model/mod.ts";
import { importFolder, openAny, openGgufModel } from "../../../core/open/mod.ts";
import { cutterOf, preTokenizerName, preTokenizerStage } from "../../../core/text/pieces.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { withTempDir } from "../../support.ts";
import { byteBpe, configAround, qwen2, writeRandomRun } from "../export/random_run.ts";

const session = { version: "test", command: ["test"] };
const plain = {
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 32,
  vocab_size: 272,
};
const models = {
  llama: plain,
  qwen3: { ...plain, qk_norm: true, head_dim: 32, tie_word_embeddings: false },
  qwen2,
};

/** A random run and what it is exported as. */
async function withExport(
  model: object,
  tokenizer: Tokenizer,
  type: "f32" | "f16" | "bf16" | "q8_0",
  use: (dir: string, file: string, exported: GgufExported) => Promise<void>,
): Promise<void> {
  await withTempDir(async (dir) => {
    const run = join(dir, "run"), out = join(dir, "model.gguf");
    await writeRandomRun(run, configAround(model, { sequence_length: 32 }), tokenizer, 3);
    using opened = await openAny(run);
    await use(dir, out, await exportGguf({ opened, out, type, name: "it" }));
  });
}

Deno.test("gguf: a run that llama.cpp could run comes back to the bit, with its tokenizer", async () => {
  for (const [kind, model] of Object.entries(models)) {
    await withExport(model, byteBpe, "f32", async (dir, from, exported) => {
      assert.equal(exported.architecture, kind);
      const back = join(dir, "back");
      const imported = await importFolder({ from, out: back, session });
      assert.equal(imported.mapping.table.name, `gguf ${kind}`);
      using before = await openAny(join(dir, "run"));
      using after = await openAny(back);
      assert.deepEqual(after.model.dims, before.model.dims);
      assert.deepEqual(after.beginning, before.beginning);
      for (const { path } of namedParams(before.model.params)) {
        assert.deepEqual(after.file.read(path), before.file.read(path), `${kind} ${path}`);
      }
      const text = "THE other\n TH  12 É", { tokenizer } = after;
      assert.deepEqual(tokenizer.encode(text), byteBpe.encode(text));
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
      assert.deepEqual([...tokenizer.specialTokens], [...byteBpe.specialTokens]);
      assert.equal(tokenizer.endOfText, byteBpe.endOfText);
    });
  }
});

Deno.test("gguf: halves and q8_0 are read as what they stand for, any part of them", async () => {
  for (const type of ["f16", "bf16", "q8_0"] as const) {
    await withExport(plain, byteBpe, type, async (dir, path) => {
      using run = await openAny(join(dir, "run"));
      const { opened } = await openGgufModel(path);
      using model = opened;
      const name = "layers.1.mlp.up", exact = run.file.read(name) as Float32Array;
      const values = model.file.read(name) as Float32Array;
      const most = exact.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
      const near = { f16: 2 ** -11, bf16: 2 ** -8, q8_0: 0.6 / 127 }[type] * most;
      values.forEach((x, i) => assert.ok(Math.abs(x - exact[i]) <= near, `${type} ${i}`));
      for (const [at, count] of [[0, 1], [31, 2], [45, 700], [values.length - 33, 33]]) {
        const part = new Float32Array(count);
        model.file.readInto!(name, part, at);
        assert.deepEqual(part, values.slice(at, at + count), `${type} ${at}`);
      }
    });
  }
});

Deno.test("gguf: a tokenizer that cannot be read from the file may be given", async () => {
  await withExport(plain, characterTokenizer("abc e"), "f16", async (dir, from) => {
    const job = { from, out: join(dir, "back"), session };
    await assert.rejects(importFolder(job), /of the 256 bytes are not in its vocabulary/);
    await importFolder({ ...job, tokenizer: byteTokenizer() });
    using after = await openAny(join(dir, "back"));
    assert.equal(after.tokenizer.kind, "byte");
    await assert.rejects(openAny(from), { hint: /quern import .*model\.gguf --out RUN/ });
  });
});

Deno.test("gguf: names of ways of cutting texts lead back to them", () => {
  for (const name of ["gpt-2", "llama-bpe", "qwen2", "gpt-4o", "smollm"]) {
    const stage = preTokenizerStage(name);
    assert.equal(preTokenizerName(stage), name);
    assert.ok(cutterOf(stage), name);
  }
  assert.equal(preTokenizerStage("deepseek-llm"), undefined);
});

Deno.test("gguf: models and tokenizers that quern has not are refused by what they are", () => {
  const good = new Map<string, GgufMetadata>(Object.entries({
    "general.architecture": "llama",
    "llama.context_length": 32,
    "llama.embedding_length": 8,
    "llama.block_count": 1,
    "llama.feed_forward_length": 16,
    "llama.attention.head_count": 2,
    "llama.attention.layer_norm_rms_epsilon": Math.fround(1e-6),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<|end|>", "[PAD4]"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3, 5],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 3,
  }));
  const tensors = new Map(
    ["token_embd", "blk.0.attn_q", "blk.0.attn_k"].map((name) => [
      `${name}.weight`,
      { dtype: "F32" as const, shape: [8, 8] },
    ]),
  );
  const header = (change: Record<string, GgufMetadata | undefined>) => {
    const metadata = new Map(good);
    for (const [key, value] of Object.entries(change)) {
      if (value === undefined) metadata.delete(key);
      else metadata.set(key, value);
    }
    return { path: "x.gguf", metadata, tensors };
  };
  const { fields } = ggufConfig(header({}));
  assert.partialDeepStrictEqual(fields, {
    model_type: "llama",
    vocab_size: 8,
    head_dim: 4,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
  });
  const file = JSON.parse(ggufTokenizerFile(header({})));
  assert.deepEqual(file.model.vocab, { a: 0, b: 1, ab: 2 });
  assert.deepEqual(file.model.merges, [["a", "b"]]);
  assert.partialDeepStrictEqual(file.added_tokens, [{ id: 3, content: "<|end|>", special: true }]);
  assert.deepEqual(ggufSettings(header({})), { add_bos_token: false, eos_token: "<|end|>" });
  const mistral = ggufConfig(header({ "llama.attention.sliding_window": 16 })).fields;
  assert.partialDeepStrictEqual(mistral, { model_type: "mistral", sliding_window: 16 });
  const configs: readonly (readonly [Record<string, GgufMetadata | undefined>, RegExp])[] = [
    [{ "general.architecture": "gemma3" }, /of the architecture "gemma3"/],
    [{ "llama.block_count": undefined }, /lack llama\.block_count/],
    [{ "llama.block_count": 1e9 }, /3 tensors for 1000000000 layers/],
    [{ "llama.block_count": "1" }, /block_count is 1, a number is expected/],
    [
      { "llama.attention.head_count": 2 ** 31, "llama.attention.key_length": 4 },
      /not 2147483648 heads/,
    ],
    [{ "llama.attention.head_count": [1, 2] }, /head_count is an array/],
    [{ "llama.attention.value_length": 8 }, /keys have 4 channels, values 8/],
    [{ "llama.expert_count": 4 }, /no experts/],
  ];
  for (const [change, message] of configs) {
    assert.throws(() => ggufConfig(header(change)), { name: "UserError", message });
  }
  const split = ggufConfig(header({ "llama.attention.head_count": 2 ** 31 })).fields;
  assert.throws(() => plainModel(split, "x.gguf"), /head_dim: .*expected int/);
  const scaled = ggufConfig(header({ "llama.rope.scaling.type": "yarn" })).fields;
  assert.throws(() => plainModel(scaled, "x.gguf"), /no rope_scaling of type yarn/);
  const tokenizers: readonly (readonly [Record<string, GgufMetadata | undefined>, RegExp])[] = [
    [{ "tokenizer.ggml.model": "llama" }, /its tokenizer is "llama"/],
    [{ "tokenizer.ggml.pre": undefined }, /does not say how it cuts texts/],
    [{ "tokenizer.ggml.pre": "deepseek-llm" }, /cuts texts as "deepseek-llm"/],
    [{ "tokenizer.ggml.tokens": undefined }, /it has no tokenizer/],
    [{ "tokenizer.ggml.tokens": [1, 2] }, /no array of strings/],
    [{ "tokenizer.ggml.tokens": ["a", "a"] }, /the token "a" comes twice/],
    [{ "tokenizer.ggml.token_type": [1, 6] }, /the token "b" is of type 6/],
    [{ "tokenizer.ggml.merges": ["ab"] }, /"ab" is no merge/],
  ];
  for (const [change, message] of tokenizers) {
    assert.throws(() => ggufTokenizerFile(header(change)), { name: "UserError", message });
  }
});

const metadata = new Map<string, GgufValue>([
  ["general.architecture", { type: "string", value: "llama" }],
]);
const one = { name: "w", shape: [2, 32], type: "f32" as const, data: () => new Float32Array(64) };

/** What opening a file is refused with, whose bytes may be changed first. */
async function refuses(
  message: RegExp,
  change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | void,
  values = metadata,
): Promise<void> {
  await withTempDir(async (dir) => {
    const path = join(dir, "x.gguf");
    await writeGguf(path, values, [one, { ...one, name: "v", type: "f32" }]);
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(path, change(bytes) ?? bytes);
    assert.throws(() => openGguf(path)[Symbol.dispose](), {
      name: "UserError",
      message,
      where: path,
    });
  });
}

/** Where a text stands in bytes, from its first letter. */
function placeOf(bytes: Uint8Array, text: string): number {
  return new TextDecoder("latin1").decode(bytes).indexOf(text);
}

Deno.test("gguf: headers are held against the file, and against what can be", async () => {
  const setter = (at: (bytes: Uint8Array) => number, value: bigint | number) =>
  (
    bytes: Uint8Array<ArrayBuffer>,
  ) => {
    const view = new DataView(bytes.buffer);
    if (typeof value === "bigint") view.setBigUint64(at(bytes), value, true);
    else view.setUint32(at(bytes), value, true);
  };
  // behind a tensor's name of one letter: axes, two sizes, type, offset
  const w = (bytes: Uint8Array) => placeOf(bytes, "w\u0002\0\0\0") + 1,
    v = (bytes: Uint8Array) => placeOf(bytes, "v\u0002\0\0\0") + 1;
  await refuses(/begin with GGUF/, setter(() => 0, 0));
  await refuses(/version is 1/, setter(() => 4, 1));
  await refuses(/claims .* tensors/, setter(() => 8, 1n << 60n));
  await refuses(/its header does not end: truncated/, (bytes) => bytes.slice(0, 60));
  await refuses(/a text in its header claims/, setter(() => 24, 1n << 40n));
  await refuses(/w has 9 axes/, setter(w, 9));
  await refuses(/w is \[2,0\]/, setter((bytes) => w(bytes) + 4, 0n));
  await refuses(/v begins at byte 256/, setter((bytes) => w(bytes) + 4, 64n));
  await refuses(/w is f32 \[/, setter((bytes) => w(bytes) + 4, (1n << 53n) - 1n));
  await refuses(/quern does not read q4_0, as v is stored/, setter((bytes) => v(bytes) + 20, 2));
  await refuses(/does not read type 77/, setter((bytes) => v(bytes) + 20, 77));
  await refuses(/v begins at byte 0 of the data, not 256/, setter((bytes) => v(bytes) + 24, 0n));
  await refuses(/v ends beyond the file: truncated/, (bytes) => bytes.slice(0, -40));
  await refuses(/32 bytes follow its last tensor/, (bytes) => {
    const more = new Uint8Array(bytes.length + 32);
    more.set(bytes);
    return more;
  });
  const odd = new Map(metadata).set("general.alignment", { type: "u32", value: 48 });
  await refuses(/general.alignment is 48/, () => {}, odd);
});

Deno.test("plain decoders: a config that no model can have is refused, however large its numbers", () => {
  const good = {
    model_type: "llama",
    vocab_size: 10,
    hidden_size: 32,
    intermediate_size: 8,
    num_hidden_layers: 2,
    num_attention_heads: 4,
  };
  const refused: readonly (readonly [object, RegExp])[] = [
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers: Too big: expected number to be <=4096/],
    [{ model_type: "qwen2", num_hidden_layers: 1e9 }, /repeat: Too big/],
    [{ model_type: "qwen2", num_attention_heads: 3 }, /3 heads do not divide hidden_size 32/],
    [{ partial_rotary_factor: 7 }, /partial_rotary_factor: Too big/],
  ];
  assert.equal(plainModel(good, "config.json").hidden_size, 32);
  for (const [change, message] of refused) {
    assert.throws(() => plainModel({ ...good, ...change }, "config.json"), {
      name: "UserError",
      message,
      where: "config.json",
    });
  }
});
