import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { parse } from "yaml";
import { openDevice } from "../../../core/device/mod.ts";
import { exportHuggingface, figuresOf } from "../../../core/export/mod.ts";
import { generate, openModel } from "../../../core/generate/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import { openSafetensors } from "../../../core/io/safetensors.ts";
import { importFolder, openAny } from "../../../core/open/mod.ts";
import {
  chatml,
  encodePrompt,
  openChatTemplate,
  tokenizerConfigName,
  tokenizerConfigText,
} from "../../../core/text/chat/mod.ts";
import { withSpecialTokens } from "../../../core/text/special_tokens.ts";
import { byteTokenizer, characterTokenizer, type Tokenizer } from "../../../core/text/tokenizer.ts";
import { type PretrainConfig, pretrainConfig } from "../../../core/train/mod.ts";
import { root, withTempDir } from "../../support.ts";
import { llamaShape, plainModelOf, writeForeign } from "../open/foreign.ts";
import { configAround, writeRandomRun } from "./random_run.ts";

const session = { version: "test", command: ["test"] };
const letters = characterTokenizer("abcdefghijklmnopqrstuvwxyz .");

async function exportRun(run: string, out: string, changes: object = {}) {
  using opened = await openAny(run);
  return await exportHuggingface({
    opened,
    out,
    dtype: "f32",
    shardBytes: 5e9,
    form: "standard",
    version: "test",
    figures: await figuresOf(opened),
    ...changes,
  });
}

const llamaConfig = (rest: object = {}) => configAround(llamaShape, rest);

/** The likeliest tokens after a text, with all digits of their logits. */
async function likeliest(path: string): Promise<string> {
  await using device = await openDevice({ device: "cpu", threads: 1 });
  using model = await openModel(path, device, { outputs: "logits" });
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  const events = await Array.fromAsync(
    generate(model, "abc d", { maxTokens: 3, sampling, alternatives: 5 }),
  );
  return JSON.stringify(events.filter(({ kind }) => kind === "token"));
}

Deno.test("export: a run there and back is the run, to the bit; its folder computes the same", async () => {
  const named = (name: string) => loadConfig(pretrainConfig, `${root}configs/${name}.yaml`, []);
  const cases: [string, PretrainConfig, Tokenizer][] = [
    ["llama", llamaConfig(), byteTokenizer()],
    ["polyglu", await named("polyglu-tiny"), letters],
    ["veronica", await named("veronica-tiny"), letters],
    ["neollm", await named("neollm-tiny"), letters],
    ["recycled", await named("recycled-core-tiny"), letters],
  ];
  for (const [name, config, tokenizer] of cases) {
    await withTempDir(async (dir) => {
      const [run, folder, back] = ["run", "hf", "back"].map((name) => join(dir, name));
      await writeRandomRun(run, config, tokenizer, 9);
      await exportRun(run, folder);
      assert.equal((await importFolder({ from: folder, out: back, session })).config, "its own");
      const text = (at: string, file: string) => Deno.readTextFileSync(join(at, file));
      assert.deepEqual(parse(text(back, "config.yaml")), parse(text(run, "config.yaml")), name);
      assert.equal(text(back, "tokenizer.json"), text(run, "tokenizer.json"), name);
      const [first, second] = [run, back].map((at) =>
        openSafetensors(join(at, "checkpoints/step-9/model.safetensors"))
      );
      using stack = new DisposableStack();
      stack.use(first), stack.use(second);
      assert.deepEqual([...second.tensors.keys()].sort(), [...first.tensors.keys()].sort());
      for (const path of first.tensors.keys()) {
        assert.deepEqual(second.read(path), first.read(path), `${name}: ${path}`);
      }
      assert.equal(await likeliest(folder), await likeliest(run), name);
    });
  }
});

Deno.test("export: shards of a size, an index, halves; what f16 cannot hold is refused", async () => {
  await withTempDir(async (dir) => {
    const run = join(dir, "run");
    await writeRandomRun(run, llamaConfig(), byteTokenizer(), 9);
    const { files, architecture } = await exportRun(run, join(dir, "small"), {
      shardBytes: 20_000,
      dtype: "bf16",
    });
    assert.equal(architecture, "LlamaForCausalLM");
    const shards = files.filter((name) => name.endsWith(".safetensors"));
    assert.deepEqual([shards[0], shards.length], ["model-00001-of-00002.safetensors", 2]);
    const index = JSON.parse(
      await Deno.readTextFile(join(dir, "small/model.safetensors.index.json")),
    );
    assert.equal(index.weight_map["lm_head.weight"], shards[1]);
    using opened = await openAny(join(dir, "small"));
    using before = await openAny(run);
    for (const path of before.file.tensors.keys()) {
      const [read, exact] = [opened, before].map(({ file }) => file.read(path) as Float32Array);
      assert.ok(read.every((x, i) => Math.abs(x - exact[i]) <= Math.abs(exact[i]) * 2 ** -8), path);
    }
    const { file } = before,
      large = {
        ...before,
        file: { ...file, read: () => new Float32Array(4144).fill(70000) },
      };
    await assert.rejects(exportRun(run, join(dir, "f16"), { dtype: "f16", opened: large }), {
      message: /which f16 cannot/,
    });
    await assert.rejects(Deno.stat(join(dir, "f16")), Deno.errors.NotFound);
    await assert.rejects(exportRun(run, run), { message: /exists already/ });
  });
});

Deno.test("export: the card has the run's figures of that checkpoint, config.json what tools need", async () => {
  await withTempDir(async (dir) => {
    const run = join(dir, "run");
    await writeRandomRun(run, llamaConfig(), byteTokenizer(), 9);
    const lines = [
      { step: 5, tokens: 320, loss: 3 },
      { step: 9, validation_loss: 2.125, bits_per_byte: 3.0625 },
      { step: 9, weights: "ema", validation_loss: 2, bits_per_byte: 3 },
      { step: 10, tokens: 640, validation_loss: 1 },
    ];
    await Deno.writeTextFile(
      join(run, "metrics.jsonl"),
      lines.map((line) => `${JSON.stringify(line)}\n`).join(""),
    );
    await exportRun(run, join(dir, "hf"));
    const card = await Deno.readTextFile(join(dir, "hf/README.md"));
    for (
      const row of [
        "| updates | 9 |",
        "| trained on | 320 tokens |",
        "| validation loss | 2.1250 nats a token |",
        "| bits per byte | 3.0625 |",
      ]
    ) assert.ok(card.includes(row), card);
    const config = JSON.parse(await Deno.readTextFile(join(dir, "hf/config.json")));
    assert.partialDeepStrictEqual(config, {
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      num_key_value_heads: 2,
      bos_token_id: 256,
      eos_token_id: 256,
      torch_dtype: "float32",
    });
    const { model: { vocab, merges }, decoder } = JSON.parse(
      await Deno.readTextFile(join(dir, "hf/tokenizer.json")),
    );
    assert.deepEqual([vocab["A"], vocab["\u0120"], merges, decoder.type], [
      65,
      32,
      [],
      "ByteLevel",
    ]);
  });
});

Deno.test("export: a chat template writes the token that a conversation begins with here, once", async () => {
  await withTempDir(async (dir) => {
    const [run, out] = [join(dir, "run"), join(dir, "hf")];
    const tokenizer = await withSpecialTokens(byteTokenizer(), chatml.controlTokens);
    const data = { path: "data", packing: "documents" };
    await writeRandomRun(run, llamaConfig({ data }), tokenizer, 3);
    await Deno.writeTextFile(
      join(run, tokenizerConfigName),
      tokenizerConfigText(chatml, tokenizer),
    );
    await exportRun(run, out);
    using here = await openAny(run);
    using there = await openAny(out);
    assert.deepEqual([here.beginning, there.beginning], [256, 256]);
    const messages = [{ role: "user" as const, content: "a" }];
    const { beginning } = here;
    const ids = encodePrompt(chatml, tokenizer, messages, { beginning });
    const template = await openChatTemplate(out);
    assert.deepEqual(encodePrompt(template, there.tokenizer, messages), ids);
    assert.deepEqual(encodePrompt(template, there.tokenizer, messages, { beginning }), ids);
  });
});

Deno.test("import: a foreign folder becomes a run with a start of a config, and begins texts as it did", async () => {
  await withTempDir(async (dir) => {
    const [folder, run] = [join(dir, "hf"), join(dir, "run")];
    await writeForeign(folder, plainModelOf(llamaShape), { dtype: "BF16", shards: 2 });
    const dry = await importFolder({ from: folder, out: undefined, session });
    assert.deepEqual([dry.config, dry.step, dry.files.length], ["a start", 0, 2]);
    const tokens = { bos_token: { content: "<|endoftext|>" }, add_bos_token: true };
    await Deno.writeTextFile(join(folder, "tokenizer_config.json"), JSON.stringify(tokens));
    await importFolder({ from: folder, out: run, session });
    using before = await openAny(folder);
    using after = await openAny(run);
    assert.deepEqual([before.beginning, after.beginning], [256, 256]);
    for (const path of before.file.tensors.keys()) {
      assert.deepEqual(after.file.read(path), before.file.read(path), path);
    }
  });
});

Deno.test("export: other programs' tokenizers put the beginning token before a text, as training did", async () => {
  await withTempDir(async (dir) => {
    for (const packing of ["documents", "windows"] as const) {
      const run = join(dir, packing), folder = join(dir, `hf-${packing}`);
      await writeRandomRun(run, llamaConfig({ data: { path: "d", packing } }), byteTokenizer(), 3);
      await exportRun(run, folder);
      const read = async (name: string) => JSON.parse(await Deno.readTextFile(join(folder, name)));
      const theirs = new Library(await read("tokenizer.json"), await read("tokenizer_config.json"));
      const first = packing === "documents" ? [256] : [];
      assert.deepEqual(theirs.encode("ab").ids, [...first, 97, 98]);
      using opened = await openAny(folder);
      assert.equal(opened.beginning, first[0]);
    }
  });
});
