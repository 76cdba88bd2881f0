import assert from "node:assert/strict";
import { join } from "node:path";
import * as k from "../../../kernels/mod.ts";
import {
  bf16Bits,
  interpret,
  mapTree,
  placeholder,
  type Spec,
  type Tensor,
} from "../../../core/graph/mod.ts";
import { importCheckpoint, importTables, originsOf } from "../../../core/import/mod.ts";
import { loadConfig } from "../../../core/io/config.ts";
import { UserError } from "../../../core/io/errors.ts";
import { type TensorSource, writeSafetensors } from "../../../core/io/safetensors.ts";
import {
  countAll,
  type Model,
  type ModelTree,
  namedParams,
  scalarValues,
} from "../../../core/model/mod.ts";
import type { TensorTree } from "../../../core/nn/mod.ts";
import {
  checkpointName,
  modelOf,
  openModelFile,
  pretrainConfig,
  readPretrainConfig,
  type ResolvedConfig,
  timelineOf,
} from "../../../core/train/mod.ts";
import { root, withTempDir } from "../../support.ts";
import { checkClose } from "../../vectors.ts";
import { dict, orderedDict, tensor, torchEntries, type Value, zipOf } from "../io/torch/writer.ts";
import {
  type Original,
  originalNamed,
  originals,
  paramsOf,
  writeOriginal,
  writeTensors,
} from "./originals.ts";

const session = { version: "test", command: ["test"] };

function importing(original: Original, from: string, out: string | undefined) {
  const { config, tokenizer } = original;
  return importCheckpoint({ from, config, tokenizer, out, session });
}

/** Logits of rows of ids by the plain loops, from the weights of a run's checkpoint. */
async function logitsOf(
  run: string,
  step: number,
  ids: Original["recorded"],
): Promise<Float64Array> {
  const config = await readPretrainConfig(run) as ResolvedConfig, model = modelOf(config, 0);
  const { file } = await openModelFile(join(run, "checkpoints", checkpointName(step)));
  using weights = file;
  const given = new Map<Tensor, ArrayLike<number>>();
  const params = mapTree(model.params, (spec: Spec, path) => {
    const tensor = placeholder(spec, path, "state");
    given.set(tensor, weights.read(path) as Float32Array);
    return tensor;
  }) as ModelTree<TensorTree>;
  const rows = rowsOf(model, ids, scalarValues(model, timelineOf(config), step));
  const logits = model.logits(params, model.apply(params, rows).hidden);
  return interpret([logits], given, { precision: "f64" })[0] as Float64Array;
}

function rowsOf(model: Model, { tensors }: Original["recorded"], scalars: Float32Array) {
  const { shape, values } = tensors.get("in/ids")!, time = shape[1];
  return {
    ids: k.constant("ids", shape, Int32Array.from(values)),
    positions: k.constant("positions", shape, Int32Array.from(values, (_, i) => i % time)),
    ...(model.scalars.length > 0 && { scalars: k.constant("scalars", [scalars.length], scalars) }),
  };
}

for (const original of originals) {
  const { format, recorded } = original;
  Deno.test(`import: ${format}'s recorded checkpoint gives its recorded logits`, async () => {
    await withTempDir(async (dir) => {
      const run = join(dir, "run");
      const { mapping, params } = await importing(
        original,
        await writeOriginal(dir, original),
        run,
      );
      assert.equal(mapping.table.name, format);
      const numbers = [...paramsOf(original).values()].reduce((n, x) => n + x.values.length, 0);
      assert.equal(params, numbers);
      const found = await logitsOf(run, 10, recorded);
      const { suggested_atol = 0 } = recorded.tolerance("out/logits");
      checkClose(format, found, recorded.tensors.get("out/logits")!.values, suggested_atol, 1e-6);
    });
  });
}

/** What importing a changed checkpoint is refused with. */
async function refusal(
  original: Original,
  change: (tensors: ReturnType<typeof paramsOf>) => void,
  also: Partial<Original> = {},
): Promise<string> {
  return await withTempDir(async (dir) => {
    const tensors = paramsOf(original);
    change(tensors);
    const from = await writeTensors(join(dir, "x.safetensors"), tensors), out = join(dir, "run");
    try {
      await importing({ ...original, ...also }, from, out);
    } catch (error) {
      assert.ok(error instanceof UserError, String(error));
      await assert.rejects(Deno.stat(out), Deno.errors.NotFound);
      return `${error.message}\n${error.hint ?? ""}`;
    }
    throw new Error("it was imported");
  });
}

const polyglu = originalNamed("polyglu"), neollm = originalNamed("neollm");
const veronica = originalNamed("veronica"), recycled = originalNamed("recycled-core");

Deno.test("import: what is missing, too many or misshapen is named, all at once", async () => {
  const message = await refusal(polyglu, (tensors) => {
    tensors.delete("model_core.1.gqa.W_q.weight");
    const norm = tensors.get("rmsnorm.gama")!;
    tensors.set("model_core.3.rmsnorm_1.gama", norm);
    tensors.set("rmsnorm.gama", { ...norm, shape: [47], values: norm.values.slice(1) as never });
  });
  assert.match(
    message,
    /model_core\.1\.gqa\.W_q\.weight is missing \(layers\.1\.mixer\.q \[48,48\]\)/,
  );
  assert.match(message, /model_core\.3\.rmsnorm_1\.gama \[48\] is nowhere in the config/);
  assert.match(message, /rmsnorm\.gama is \[47\]; norm\.gain needs \[48\]/);
});

Deno.test("import: a bank with more layers than the config is not taken apart wrongly", async () => {
  const message = await refusal(recycled, (tensors) => {
    for (const name of ["mlp_up_bank", "mlp_down_bank"]) {
      const { shape: [n, ...rest], ...bank } = tensors.get(name)!;
      const values = Float64Array.from([...bank.values, ...bank.values]);
      tensors.set(name, { ...bank, shape: [2 * n, ...rest], values: values as never });
    }
  });
  assert.match(message, /mlp_up_bank \[12,96,32\] has 36864 numbers, the config takes 18432/);
});

Deno.test("import: names that belong to no table, or not all to one, are refused", async () => {
  const all = await refusal(polyglu, (tensors) => {
    const names = [...tensors.keys()];
    for (const name of names) {
      tensors.set(`transformer.${name}`, tensors.get(name)!);
      tensors.delete(name);
    }
  });
  assert.match(all, /no tensor has a name that is known: transformer\.embeddings\.weight/);
  assert.match(all, /--format says what it is: llama, polyglu, veronica, neollm, recycled-core/);
  const one = await refusal(neollm, (tensors) => {
    tensors.set("layers.0.lora_A", tensors.get("norm.weight")!);
  });
  assert.match(one, /of neollm's, the nearest, not layers\.0\.lora_A/);
});

Deno.test("import: a config with parts that the checkpoint's kind lacks is said so", async () => {
  const message = await refusal(veronica, () => {}, {
    config: neollm.config,
    tokenizer: neollm.tokenizer,
  });
  assert.match(message, /veronica checkpoints have nothing for layers\.0\.residual\.mixer_gate/);
});

Deno.test("replay: huggingface/transformers 38870: a tied weight is taken under either name, and never made up", async () => {
  const embedding = "embed_tokens.weight", head = "lm_head.weight";
  await withTempDir(async (dir) => {
    const tensors = paramsOf(neollm), table = tensors.get(embedding)!;
    tensors.set(head, table);
    const both = await writeTensors(join(dir, "both.safetensors"), tensors);
    tensors.delete(embedding);
    const other = await writeTensors(join(dir, "other.safetensors"), tensors);
    for (const [from, run] of [[both, "a"], [other, "b"]]) {
      await importing(neollm, from, join(dir, run));
      const { file } = await openModelFile(join(dir, run, "checkpoints/step-10"));
      using weights = file;
      assert.deepEqual(
        Array.from(weights.read("input.embedding") as Float32Array),
        Array.from(table.values),
      );
    }
  });
  const neither = await refusal(neollm, (tensors) => void tensors.delete(embedding));
  assert.match(neither, /embed_tokens\.weight is missing/);
  const different = await refusal(neollm, (tensors) => {
    const table = tensors.get(embedding)!;
    tensors.set(head, { ...table, values: table.values.map((x) => 2 * x) as never });
  });
  assert.match(different, /lm_head\.weight is not the same as embed_tokens\.weight/);
  const untied = await refusal(veronica, (tensors) => void tensors.delete(head));
  assert.match(untied, /lm_head\.weight is missing .*say so: head\.tie_word_embeddings=true/);
});

Deno.test("import: half and double precision become f32; wrappers' prefixes and buffers are left out", async () => {
  await withTempDir(async (dir) => {
    const dtypes = ["F16", "BF16", "F64", "F32"] as const, expected = new Map<string, number[]>();
    const sources = [...paramsOf(polyglu)].map(([name, { shape, values }], i): TensorSource => {
      const dtype = dtypes[i % 4], exact = Array.from(values, (x) => Math.round(16 * x) / 16);
      expected.set(name, exact);
      const data = {
        F16: () => Float16Array.from(exact),
        BF16: () => Uint16Array.from(exact, bf16Bits),
        F64: () => Float64Array.from(exact),
        F32: () => Float32Array.from(exact),
      }[dtype];
      return { name: `_orig_mod.module.${name}`, shape, dtype, data };
    });
    const angles = {
      name: "rope.sins",
      shape: [2],
      dtype: "F32" as const,
      data: () => new Float32Array(2),
    };
    const from = join(dir, "mixed.safetensors");
    await writeSafetensors(from, [...sources, angles]);
    const { mapping } = await importing(polyglu, from, join(dir, "run"));
    assert.deepEqual(mapping.dropped, [{ name: "rope.sins", why: "a table of angles" }]);
    const { file } = await openModelFile(join(dir, "run", "checkpoints/step-10"));
    using weights = file;
    for (const { param: { path }, theirs } of mapping.origins) {
      const found = weights.read(path) as Float32Array;
      assert.deepEqual(Array.from(found), expected.get(theirs), path);
    }
  });
  const message = await refusal(polyglu, (tensors) => {
    const gain = tensors.get("rmsnorm.gama")!;
    tensors.set("rmsnorm.gama", { ...gain, values: gain.values.map(() => NaN) as never });
  });
  assert.match(message, /rmsnorm\.gama holds numbers that are not finite/);
});

Deno.test("import: shards that an index joins; a shard or a tensor that is not there is named", async () => {
  await withTempDir(async (dir) => {
    const tensors = [...paramsOf(veronica)], half = Math.floor(tensors.length / 2);
    const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    await writeTensors(join(dir, names[0]), new Map(tensors.slice(0, half)));
    await writeTensors(join(dir, names[1]), new Map(tensors.slice(half)));
    await assert.rejects(importing(veronica, dir, undefined), /several safetensors files and no/);
    const map = Object.fromEntries(tensors.map(([name], i) => [name, names[i < half ? 0 : 1]]));
    const index = join(dir, "model.safetensors.index.json");
    const writeIndex = (weight_map: unknown) =>
      Deno.writeTextFile(index, JSON.stringify({ weight_map }));
    await writeIndex(map);
    const { files, mapping } = await importing(veronica, dir, undefined);
    assert.equal(files.length, 2);
    assert.equal((await importing(veronica, index, undefined)).params > 0, true);
    assert.equal(mapping.dropped.length, 0);
    await writeIndex({ ...map, more: names[1] });
    await assert.rejects(
      importing(veronica, dir, undefined),
      /more is not in model-00002-of-00002/,
    );
    await writeIndex({ ...map, more: "model-00003-of-00003.safetensors" });
    await assert.rejects(importing(veronica, dir, undefined), /not here: model-00003-of-00003/);
  });
});

Deno.test("import: every parameter of the carried configs has a name in its architecture's table", async () => {
  const configs = {
    llama: "llama-5m",
    polyglu: "polyglu-0.6b",
    veronica: "veronica-24l",
    neollm: "neollm-110m",
    "recycled-core": "recycled-core",
  };
  assert.deepEqual(Object.keys(configs), Object.keys(importTables));
  for (const [name, file] of Object.entries(configs)) {
    const config = await loadConfig(pretrainConfig, `${root}configs/${file}.yaml`);
    const model = modelOf(config, 1000), origins = originsOf(importTables[name], model);
    const counted = countAll(origins.map(({ param }) => param));
    assert.equal(counted, countAll(namedParams(model.params)), file);
  }
});

/** The same tensors as torch.save would write them, matrices turned round in memory. */
function torchFile(tensors: ReturnType<typeof paramsOf>, rest: Record<string, Value> = {}) {
  const storages: Record<string, Float32Array<ArrayBuffer>> = {};
  const state = [...tensors].map(([name, { shape, values }], i) => {
    const isMatrix = shape.length === 2, [rows, columns] = shape;
    storages[i] = Float32Array.from(
      values,
      (x, at) => isMatrix ? values[at % rows * columns + Math.floor(at / rows)] : x,
    );
    let width = 1;
    const strides = isMatrix
      ? [1, rows]
      : shape.toReversed().map((size) => (width *= size) / size).reverse();
    const place = { type: "FloatStorage", key: String(i), numbers: values.length, shape, strides };
    return [`module.${name}`, tensor(place)] as const;
  });
  const model = orderedDict(Object.fromEntries(state));
  return zipOf(torchEntries(dict({ model, ...rest }), storages));
}

Deno.test("import: the originals' checkpoints from torch.save give what their safetensors give", async () => {
  for (const original of originals) {
    await withTempDir(async (dir) => {
      const tensors = paramsOf(original), half = Math.floor(tensors.size / 2);
      await importing(original, await writeOriginal(dir, original), join(dir, "a"));
      const one = join(dir, "checkpoint.pt"), rest = { optimizer: dict({ lr: 0.1 }), epoch: 3 };
      await Deno.writeFile(one, torchFile(tensors, rest));
      const { leftOut } = await importing(original, one, join(dir, "b"));
      assert.deepEqual(leftOut.map(({ name }) => name), ["optimizer", "epoch"]);
      const shards = join(dir, "shards"), weight_map: Record<string, string> = {};
      await Deno.mkdir(shards);
      for (const [i, name] of ["pytorch_model-1.bin", "pytorch_model-2.bin"].entries()) {
        const part = new Map([...tensors].slice(i * half, i === 0 ? half : undefined));
        for (const key of part.keys()) weight_map[`module.${key}`] = name;
        await Deno.writeFile(join(shards, name), torchFile(part));
      }
      const index = join(shards, "pytorch_model.bin.index.json");
      await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
      const { files } = await importing(original, shards, join(dir, "c"));
      assert.equal(files.length, 2);
      const weights = (run: string) =>
        Deno.readFile(join(dir, run, "checkpoints/step-10/model.safetensors"));
      const [a, b, c] = await Promise.all(["a", "b", "c"].map(weights));
      assert.deepEqual(b, a, original.format);
      assert.deepEqual(c, a, original.format);
      const elsewhere = { ...weight_map, more: "../checkpoint.pt" };
      for (const bad of [elsewhere, { more: one }, { more: ".." }, { more: "a\\b" }]) {
        await Deno.writeTextFile(index, JSON.stringify({ weight_map: bad }));
        await assert.rejects(importing(original, shards, undefined), {
          name: "UserError",
          message: /not an index of weights/,
        });
      }
    });
  }
});

Deno.test("import: all faults of a .pt file's tensors are one error", async () => {
  await withTempDir(async (dir) => {
    const tensors = paramsOf(polyglu), names = [...tensors.keys()], from = join(dir, "x.pth");
    for (const name of names.slice(0, 20)) {
      tensors.set(`${name}.more`, tensors.get(name)!);
      tensors.delete(name);
    }
    await Deno.writeFile(from, torchFile(tensors));
    const { config, tokenizer } = polyglu;
    const job = { from, config, tokenizer, out: undefined, session, format: "polyglu" };
    await assert.rejects(importCheckpoint(job), (error: UserError) => {
      const lines = error.message.split("\n");
      assert.equal(lines.length, 1 + 12 + 1);
      assert.match(lines[13], /and 28 more/);
      return error instanceof UserError;
    });
  });
});
