/** What quern exports, in PyTorch: where Python has torch, and counted as skipped where not. */

import assert from "node:assert/strict";
import { join } from "node:path";
import * as k from "../../../kernels/mod.ts";
import { exportHuggingface } from "../../../core/export/mod.ts";
import {
  interpret,
  leavesOf,
  mapTree,
  placeholder,
  type Spec,
  type Tensor,
} from "../../../core/graph/mod.ts";
import { llama, originsOf, torchTable } from "../../../core/import/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import { type TensorSource, writeSafetensors } from "../../../core/io/safetensors.ts";
import type { ModelTree } from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import { openAny, type OpenedModel } from "../../../core/open/mod.ts";
import { characterTokenizer } from "../../../core/text/tokenizer.ts";
import { type PretrainConfig, pretrainConfig } from "../../../core/train/mod.ts";
import { root, withTempDir } from "../../support.ts";
import { python } from "../../torch_python.ts";
import { configAround, writeRandomRun } from "./random_run.ts";

interface Case {
  readonly name: string;
  readonly config: PretrainConfig;
  readonly step: number;
  readonly form?: "standard" | "module";
}

const plain = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 48,
  vocab_size: 48,
  initializer_range: 0.2,
};
const qwen2 = {
  hidden_size: 32,
  vocab_size: 48,
  initializer_range: 0.2,
  blocks: [{
    repeat: 2,
    mixer: { kind: "attention", num_attention_heads: 4, attention_bias: true },
    mlp: { kind: "swiglu", intermediate_size: 48 },
  }],
};

function configOf(model: object, rest: object = {}): PretrainConfig {
  return configAround(model, { sequence_length: 24, steps: 100, ...rest });
}

/** Parts that none of the designs has, and what training may add. */
const others = {
  hidden_size: 32,
  initializer_range: 0.2,
  blocks: [
    {
      mixer: {
        kind: "attention",
        num_attention_heads: 4,
        window: 5,
        softcap: 3,
        output_gate: "channel",
        positions: "row",
        fan: { ratio: 0.2, width: "expanded", activation: "gelu" },
      },
      mlp: { kind: "polynorm", intermediate_size: 48, gated: false },
      residual: { kind: "gpas", gates: "shared" },
    },
    {
      mixer: { kind: "attention", num_attention_heads: 4, rope_original_positions: 16 },
      mlp: {
        kind: "polymorphic",
        branches: [
          { kind: "gelu", intermediate_size: 24 },
          { kind: "polynorm", intermediate_size: 24 },
          { kind: "depthwise_conv", intermediate_size: 24, conv_bias: true },
        ],
        entropy_of: "mean",
        aux_over_layers: "sum",
        tau: { kind: "cosine", peak: 2, end: 0.5, warmup: 10 },
      },
      residual: { kind: "x0_mix", parallel: true },
    },
    {
      mixer: {
        kind: "gated_delta",
        num_key_heads: 2,
        num_value_heads: 4,
        key_head_dim: 8,
        value_head_dim: 6,
      },
      mlp: {
        kind: "polyglu",
        intermediate_size: 24,
        routing_noise: "never",
        pooling: "sequence",
        activations: ["sigmoid", "softplus", "relu_squared", "gelu_tanh"],
      },
    },
  ],
};

async function cases(): Promise<Case[]> {
  const named = async (name: string, overrides: string[] = []) =>
    await loadConfig(pretrainConfig, `${root}configs/${name}.yaml`, overrides);
  return [
    { name: "llama", config: configOf(plain), step: 5 },
    { name: "llama untied", config: configOf({ ...plain, tie_word_embeddings: false }), step: 5 },
    { name: "qwen2", config: configOf(qwen2), step: 5 },
    { name: "qwen3", config: configOf({ ...plain, qk_norm: true, head_dim: 16 }), step: 5 },
    { name: "plain module", config: configOf(plain), step: 5, form: "module" },
    {
      name: "others",
      config: configOf(others, {
        loss: { label_smoothing: 0.1, z_loss: 0.01, repetition: 0.1 },
      }),
      step: 40,
    },
    {
      name: "polyglu",
      // training draws noise, which no two programs share
      config: await named("polyglu-tiny", ["model.blocks.0.mlp.routing_noise=never"]),
      step: 700,
    },
    { name: "veronica", config: await named("veronica-tiny"), step: 600 },
    { name: "neollm", config: await named("neollm-tiny"), step: 600 },
    { name: "recycled-core", config: await named("recycled-core-tiny"), step: 300 },
  ];
}

const batch = 2, time = 24;

/** Two rows of documents, and what should follow each token of them. */
function rowsOf(vocab: number) {
  const ids = Int32Array.from({ length: batch * time }, (_, i) => (7 * i + i * i % 11) % vocab);
  const segments = Int32Array.from(ids, (_, i) => i < 10 ? 0 : i < time ? 1 : i < 29 ? 0 : 4);
  const begins = segments.map((s, i) => +(i % time === 0 || s !== segments[i - 1]));
  let from = 0;
  const positions = ids.map((_, i) => {
    if (begins[i]) from = i;
    return i - from;
  });
  const isLast = (i: number) => (i + 1) % time === 0 || begins[i + 1] === 1;
  const targets = ids.map((_, i) => isLast(i) ? -1 : ids[i + 1]);
  return { ids, segments, positions, targets };
}

/** Logits, the loss that is trained and its slopes, by the plain loops in double precision. */
function expectedOf(
  opened: OpenedModel,
  names: ReadonlyMap<string, string>,
  documents: "one" | "several",
): TensorSource[] {
  const { model, file, point, config } = opened, vocab = model.dims.vocab_size;
  const { ids, segments, positions, targets } = rowsOf(vocab), shape = [batch, time];
  if (documents === "one") {
    segments.fill(0);
    positions.forEach((_, i) => positions[i] = i % time);
  }
  const given = new Map<Tensor, ArrayLike<number>>();
  const params = mapTree(model.params, (spec: Spec, path) => {
    const tensor = placeholder(spec, path, "state");
    given.set(tensor, file.read(path) as Float32Array);
    return tensor;
  }) as ModelTree<TensorTree>;
  const { scalars } = point;
  const rows = {
    ids: k.constant("ids", shape, ids),
    positions: k.constant("positions", shape, positions),
    segment_ids: k.constant("segments", shape, segments),
    targets: k.constant("targets", shape, targets),
    ...(scalars.length > 0 && { scalars: k.constant("scalars", [scalars.length], scalars) }),
  };
  const logits = model.logits(params, model.apply(params, rows).hidden);
  const { value: objective, grads: slopes } = k.valueAndGrad((p: ModelTree<TensorTree>) =>
    [model.loss(p, rows, config!.loss).objective, undefined] as const
  )(params);
  const leaves = leavesOf<Tensor>(slopes);
  const values = interpret([logits, objective, ...leaves.map(({ leaf }) => leaf)], given, {
    precision: "f64",
  });
  const count = targets.filter((target) => target >= 0).length;
  const float = (name: string, shape: readonly number[], data: ArrayLike<number>) => ({
    name,
    shape,
    dtype: "F32" as const,
    data: () => Float32Array.from(data),
  });
  const whole = (name: string, data: Int32Array) => (
    { name, shape, dtype: "I32" as const, data: () => data }
  );
  return [
    whole("ids", ids),
    whole("segment_ids", segments),
    whole("targets", targets),
    float("logits", [...shape, vocab], values[0]),
    float("loss", [], [values[1][0] / count]),
    ...leaves.map(({ path, leaf }, i) =>
      float(`grad.${names.get(path)}`, leaf.shape, Array.from(values[2 + i], (x) => x / count))
    ),
  ];
}

Deno.test({
  name: "export: PyTorch computes what quern does: logits, loss and slopes",
  ignore: python === undefined,
  fn: async () => {
    await withTempDir(async (dir) => {
      const folders: string[] = [];
      for (const { name, config, step, form = "standard" } of await cases()) {
        const folder = join(dir, name), run = join(folder, "run"), out = join(folder, "model");
        const letters = Array.from({ length: 46 }, (_, i) => String.fromCharCode(48 + i));
        await Deno.mkdir(folder);
        await writeRandomRun(run, config, characterTokenizer(letters), step);
        using opened = await openAny(run);
        const { architecture } = await exportHuggingface({
          opened,
          out,
          dtype: "f32",
          shardBytes: name === "llama" ? 8000 : 5e9,
          form,
          version: "test",
          figures: { name, step },
        });
        const isStandard = architecture !== "QuernForCausalLM";
        assert.equal(isStandard, /^(llama|qwen)/.test(name), name);
        const table = isStandard ? llama : torchTable(opened.model);
        const names = new Map(
          originsOf(table, opened.model).map(({ param, theirs }) => [param.path, theirs]),
        );
        // a standard class knows no documents in a row
        const expected = expectedOf(opened, names, isStandard ? "one" : "several");
        await writeSafetensors(join(folder, "expected.safetensors"), expected);
        folders.push(folder);
      }
      const script = join(root, "tests/core/export/check.py");
      const { success, stdout, stderr } = await new Deno.Command(python!, {
        args: ["-B", script, ...folders],
        env: { OMP_NUM_THREADS: "1" },
      }).output();
      const said = new TextDecoder().decode(stdout);
      assert.ok(success, said + new TextDecoder().decode(stderr));
      const results = said.trim().split("\n").map((line) => JSON.parse(line));
      assert.equal(results.length, folders.length);
      for (
        const {
          folder,
          logits,
          alone = 0,
          loss = 0,
          worst: [name, slope] = ["", 0],
          gradients: slopes,
        } of results
      ) {
        const at = folder.slice(dir.length + 1);
        assert.ok(logits < 1e-4, `${at}: logits are ${logits} apart`);
        // "others" has parts that see the whole row, padding and all
        assert.ok(
          alone < 1e-4 || at === "others",
          `${at}: a padded document alone is ${alone} apart`,
        );
        assert.ok(slopes === undefined || slopes > 15, at);
        assert.ok(loss < 1e-5, `${at}: the loss is ${loss} apart`);
        // of each tensor's largest
        assert.ok(slope < 1e-3, `${at}: the slope of ${name} is ${slope} apart`);
      }
    });
  },
});
