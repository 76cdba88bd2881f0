import assert from "node:assert/strict";
import { openDevice } from "../../../core/device/mod.ts";
import { generate, openModel } from "../../../core/generate/mod.ts";
import { initialValues, namedParams } from "../../../core/model/mod.ts";
import { openAny } from "../../../core/open/mod.ts";
import { withTempDir } from "../../support.ts";
import { llamaShape, plainModelOf, writeForeign } from "./foreign.ts";

for (
  const [name, shape] of [
    ["llama", llamaShape],
    ["qwen3, tied", { ...llamaShape, qk_norm: true, head_dim: 8, tie_word_embeddings: true }],
    ["qwen2", {
      vocab_size: 259,
      hidden_size: 16,
      max_position_embeddings: 64,
      blocks: [{
        repeat: 2,
        mixer: { kind: "attention", num_attention_heads: 4, attention_bias: true },
        mlp: { kind: "swiglu", intermediate_size: 24 },
      }],
    }],
    ["mistral", {
      vocab_size: 259,
      hidden_size: 16,
      max_position_embeddings: 64,
      blocks: [{
        mixer: { kind: "attention", num_attention_heads: 4, window: 8 },
        mlp: { kind: "swiglu", intermediate_size: 24 },
      }],
    }],
  ] as const
) {
  Deno.test(`openAny: a Hugging Face folder of ${name} is the model that it says`, async () => {
    await withTempDir(async (dir) => {
      const model = plainModelOf(shape);
      await writeForeign(dir, model, { shards: name === "llama" ? 3 : 1 });
      using opened = await openAny(dir);
      const { output_initializer_range: _, initializer: __, ...dims } = model.dims;
      assert.partialDeepStrictEqual(opened.model.dims, dims);
      assert.equal(opened.beginning, undefined);
      const params = namedParams(model.params);
      assert.deepEqual(namedParams(opened.model.params), params);
      for (const param of params) {
        assert.deepEqual(opened.file.read(param.path), initialValues(param, 7), param.path);
      }
    });
  });
}

Deno.test("openModel: a Hugging Face folder generates; f16 and bf16 are read as f32", async () => {
  await withTempDir(async (dir) => {
    await using device = await openDevice({ device: "cpu", threads: 1 });
    const plain = plainModelOf(llamaShape), [first] = namedParams(plain.params);
    const rounded = { F32: (x: number) => x, F16: Math.f16round };
    for (const dtype of ["F32", "F16", "BF16"] as const) {
      await writeForeign(`${dir}/${dtype}`, plain, { dtype });
      using opened = await openAny(`${dir}/${dtype}`);
      const read = opened.file.read(first.path) as Float32Array, exact = initialValues(first, 7);
      if (dtype !== "BF16") assert.deepEqual(read, exact.map(rounded[dtype]));
      // half of the last of 8 bits
      else assert.ok(read.every((x, i) => Math.abs(x - exact[i]) <= Math.abs(exact[i]) * 2 ** -8));
      using model = await openModel(`${dir}/${dtype}`, device);
      const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
      const events = await Array.fromAsync(
        generate(model, "abc", { maxTokens: 8, sampling }),
      );
      assert.ok(events.some(({ kind }) => kind === "token"));
    }
  });
});

Deno.test("replay: huggingface/transformers 38870, 43159: missing, extra and misshapen tensors are one error that lists them all", async () => {
  await withTempDir(async (dir) => {
    const model = plainModelOf(llamaShape);
    await writeForeign(dir, model, {
      change: (all) => [
        ...all.filter(({ name }) => name !== "lm_head.weight" && name !== "model.norm.weight")
          .map((one) =>
            one.name === "model.layers.1.mlp.up_proj.weight"
              ? { ...one, shape: [...one.shape].reverse() }
              : one
          ),
        {
          name: "model.layers.0.self_attn.q_proj.bias",
          shape: [16],
          dtype: "F32",
          data: () => new Float32Array(16),
        },
      ],
    });
    await assert.rejects(openAny(dir), (error: Error) => {
      assert.match(error.message, /lm_head\.weight is missing .*tie_word_embeddings/);
      assert.match(error.message, /\n\s+norm\.weight is missing/);
      assert.match(
        error.message,
        /layers\.1\.mlp\.up_proj\.weight is \[16,24\]; .* needs \[24,16\]/,
      );
      assert.match(error.message, /q_proj\.bias \[16\] is nowhere in the config/);
      return true;
    });
    // the tied head is no loss: the file may have either name, and what is read is the table
    const tied = plainModelOf({ ...llamaShape, tie_word_embeddings: true });
    await writeForeign(`${dir}/tied`, tied);
    using opened = await openAny(`${dir}/tied`);
    assert.deepEqual(namedParams(opened.model.params.head), []);
  });
});

Deno.test("openAny: what a config.json asks for and quern has not is one error", async () => {
  await withTempDir(async (dir) => {
    const model = plainModelOf(llamaShape),
      fault = async (fields: object, message: RegExp) => {
        await writeForeign(dir, model, { fields });
        await assert.rejects(openAny(dir), { message });
      };
    await fault(
      { rope_scaling: { rope_type: "llama3", factor: 8 } },
      /no rope_scaling of type llama3/,
    );
    await fault(
      { attention_bias: true, mlp_bias: true },
      /no attention_bias of llama; no mlp_bias/,
    );
    await fault({ hidden_act: "gelu" }, /no hidden_act gelu/);
    await fault({ model_type: "mamba" }, /knows no model_type "mamba"/);
    await fault({ hidden_size: 0 }, /hidden_size/);
    await writeForeign(dir, model);
    await assert.rejects(openAny(dir, { average: "ema" }), { message: /one set of weights/ });
  });
});

Deno.test("openModel: bf16 weights of a bf16 file are its own bits; what is not finite is refused in each form", async () => {
  await withTempDir(async (dir) => {
    await using device = await openDevice({ device: "cpu", threads: 1 });
    const plain = plainModelOf(llamaShape), at = (name: string) => `${dir}/${name}`;
    await writeForeign(at("BF16"), plain, { dtype: "BF16" });
    await writeForeign(at("F32"), plain);
    const texts: string[] = [];
    for (const name of ["BF16", "F32"]) {
      using model = await openModel(at(name), device, { weights: "bf16", outputs: "logits" });
      const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
      const options = { maxTokens: 3, sampling, alternatives: 3 };
      const events = await Array.fromAsync(generate(model, "abc", options));
      texts.push(JSON.stringify(events.filter(({ kind }) => kind === "token")));
    }
    // gains are bf16 in one file, f32 in the other, and begin as 1 in both
    assert.equal(texts[0], texts[1]);
    for (const dtype of ["BF16", "F32"] as const) {
      await writeForeign(at(`bad ${dtype}`), plain, {
        dtype,
        change: (all) =>
          all.map((one) =>
            one.name !== "model.layers.1.mlp.up_proj.weight" ? one : {
              ...one,
              data: () =>
                dtype === "F32"
                  ? new Float32Array(384).fill(NaN, 383)
                  : new Uint16Array(384).fill(0xff80, 383),
            }
          ),
      });
      await assert.rejects(openModel(at(`bad ${dtype}`), device, { weights: "bf16" }), {
        message: /up_proj\.weight holds numbers that are not finite/,
      });
    }
  });
});
