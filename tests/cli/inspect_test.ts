import assert from "node:assert/strict";
import { join } from "node:path";
import { viewTensors } from "../../cli/inspect_model.ts";
import { recognise } from "../../core/inspect/recognise.ts";
import { writeGguf } from "../../core/io/gguf.ts";
import { openSafetensors, writeSafetensors } from "../../core/io/safetensors.ts";
import { dict, tensor, torchEntries, zipOf } from "../core/io/torch/writer.ts";
import { withTempDir } from "../support.ts";
import { attempt, makeProject, run } from "./tiny_project.ts";

const routed = `
model:
  hidden_size: 16
  blocks:
    - mixer: { kind: attention, num_attention_heads: 2 }
      mlp: { kind: polyglu, intermediate_size: 24 }
data: { path: data }
sequence_length: 32
batch_size: 4
steps: 4
optimizer: { kind: adamw, learning_rate: 0.01, weight_decay: 0.1 }
`;

Deno.test("quern inspect: runs, configs, tensors, shards and tokenizers, each recognised", () =>
  withTempDir(async (dir) => {
    await makeProject(dir);
    await Deno.writeTextFile(join(dir, "routed.yaml"), routed);
    await run(dir, "pretrain", "routed.yaml", "--out", "run", "--quiet");

    await Deno.writeTextFile(join(dir, "a.txt"), "To be, or not to be");
    const looks = ["inspect", "run", "--device", "cpu", "--quiet"];
    const html = ["--html", "page.html"];
    const routing = await run(dir, ...looks, "--routing", "a.txt", "--routing", "b=a.txt", ...html);
    assert.match(routing.stdout, /^ {2}read {2}a \(1 row, 20 tokens\), b \(1 row, 20 tokens\)$/m);
    assert.match(
      routing.stdout,
      /all even is 1\.386\n {2}layer {2}static +dynamic\n/,
    );
    assert.match(routing.stdout, /^map, dynamic: .*24 units.*r relu, t tanh, s silu, g gelu$/m);
    assert.match(routing.stdout, /^ {2}0 +shift( +-?[\d.e-]+){4}$/m);
    const page = await Deno.readTextFile(join(dir, "page.html"));
    assert.match(page, /<h3>What each unit takes most of, dynamic<\/h3>/);
    assert.match(page, /<h3>Entropy of routers<\/h3>/);

    const shards = JSON.parse((await run(dir, "inspect", "data", "--json")).stdout);
    assert.equal(shards.kind, "shards");
    assert.equal(
      shards.splits.train.bytes,
      shards.splits.train.tokens - shards.splits.train.documents,
    );
    const tokenizer = await run(dir, "inspect", "data/tokenizer.json", "--text", "é");
    assert.match(tokenizer.stdout, /^"é": 2 tokens, 2 bytes$/m);
    const config = await run(dir, "inspect", "polyglu-0.6b");
    assert.match(config.stdout, /^ {2}router .* adamw +0 .*layers\.\*\.mlp\.router\.alpha/m);
    assert.match(config.stdout, /^parameters: 597,153,888$/m);
    assert.match(config.stdout, /^ {2}layers\.0–27\.mlp +polyglu +intermediate_size 4096, /m);

    const bad = "run/checkpoints/step-4/model.safetensors";
    {
      using file = openSafetensors(join(dir, bad));
      await writeSafetensors(
        join(dir, "bad.safetensors"),
        [...file.tensors].map(([name, info], i) => {
          const values = file.read(name) as Float32Array;
          if (i === 1) values[0] = NaN;
          return { name, ...info, data: () => values };
        }),
      );
    }
    const broken = await attempt(dir, "inspect", "bad.safetensors");
    assert.equal(broken.code, 1);
    assert.match(broken.stdout, /^ {2}layers\.0\.residual\.mixer_norm\.gain .* 1$/m);
    assert.match(
      broken.stderr,
      /bad\.safetensors: 1 tensor with numbers that are not finite: layers/,
    );
    const unmeant = await attempt(dir, "inspect", "bad.safetensors", "--samples", "2");
    assert.equal(unmeant.code, 2);
    assert.match(unmeant.stderr, /bad\.safetensors: --samples is for token shards/);
    const none = await attempt(dir, "inspect", "polyglu-0.7b");
    assert.equal(none.code, 2);
    assert.match(none.stderr, /there is nothing here, .* \(did you mean "polyglu-0\.6b"\?\)/);
  }));

Deno.test("quern inspect: PyTorch's files and GGUF are looked into as safetensors are", async () => {
  await withTempDir(async (dir) => {
    const pt = join(dir, "it.pt"), gguf = join(dir, "it.gguf"), values = Float32Array.of(0, 3, -4);
    const place = { type: "FloatStorage", key: "0", numbers: 3, shape: [3], strides: [1] };
    const root = dict({ model: dict({ w: tensor(place) }), epoch: 1 });
    await Deno.writeFile(pt, zipOf(torchEntries(root, { 0: values })));
    await writeGguf(gguf, new Map([["general.name", { type: "string", value: "it" }]]), [
      { name: "w", shape: [3], type: "f32", data: () => values },
    ]);
    for (const path of [pt, gguf]) {
      assert.equal(await recognise(path), "tensors");
      const options = { each: true, quiet: true, samples: 0, seed: 0, limit: 1 } as const;
      const { text, json } = await viewTensors(path, { ...options, device: "cpu", blas: "off" });
      const { tensors: [w] } = json() as { tensors: readonly Record<string, unknown>[] };
      assert.partialDeepStrictEqual(w, { name: "w", dtype: "F32", shape: [3], max: 4, zeros: 1 });
      assert.equal("storage" in w, false);
      assert.match(text(), path === pt ? /epoch +the weights are in model/ : /general\.name +it/);
    }
  });
});
