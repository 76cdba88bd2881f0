/** The formats that quern reads of others and its own small one: good files of each, ways to damage them, and all that is read. */

import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { exportGguf } from "../../core/export/mod.ts";
import { openWeights } from "../../core/import/mod.ts";
import { writeSafetensors } from "../../core/io/safetensors.ts";
import { openTensorFile } from "../../core/io/tensors.ts";
import { namedParams } from "../../core/model/mod.ts";
import { openArtifact } from "../../core/open/artifact.ts";
import { openAny, openGgufModel } from "../../core/open/mod.ts";
import { encodeArtifact } from "../../core/quant/artifact.ts";
import { store } from "../../core/quant/forms.ts";
import { parseTokenizer } from "../../core/text/load.ts";
import { byteTokenizer } from "../../core/text/tokenizer.ts";
import { bpeFile } from "../../core/text/train_bpe.ts";
import { requireTensors } from "../../core/train/mod.ts";
import { configAround, writeRandomRun } from "../core/export/random_run.ts";
import {
  dict,
  joined,
  legacyOf,
  orderedDict,
  pickleOf,
  tensor,
  torchEntries,
  zipOf,
} from "../core/io/torch/writer.ts";
import { below, damaged, damagedJson, pick, type Random } from "./mutations.ts";

export interface Format {
  readonly name: string;
  /** Good files. */
  readonly good: readonly Uint8Array[];
  /** Files that are well formed on the outside, so that what is within is reached. */
  within(random: Random): Uint8Array;
  /** Opens and reads all that there is; throws where it is refused. */
  readonly open: (path: string) => Promise<void>;
}

/** All of them; `dir` is for what lies beside a file. */
export async function fileFormats(dir: string): Promise<Format[]> {
  return [await safetensors(dir), torch(), await gguf(dir), await artifact(dir)];
}

async function readAll(path: string): Promise<void> {
  {
    using file = await openTensorFile(path);
    for (const [name, { dtype, shape }] of file.tensors) {
      const { length } = file.read(name);
      if (length !== shape.reduce((a, b) => a * b, 1)) throw new Error(`${name} is short`);
      if (["F32", "F16", "BF16", "F64"].includes(dtype)) {
        file.readInto(name, new Float32Array(length), 0);
      }
    }
  }
  using weights = await openWeights(path);
  for (const [name, { dtype }] of weights.tensors) {
    if (["F32", "F16", "BF16", "F64"].includes(dtype)) weights.read(name);
  }
}

async function safetensors(dir: string): Promise<Format> {
  const path = join(dir, "good.safetensors");
  await writeSafetensors(path, [
    { name: "a.weight", dtype: "F32", shape: [3, 5], data: () => new Float32Array(15).fill(0.5) },
    { name: "a.bias", dtype: "F16", shape: [5], data: () => new Float16Array(5).fill(1) },
    { name: "b", dtype: "BF16", shape: [2, 2, 2], data: () => new Uint16Array(8).fill(0x3f80) },
    { name: "c", dtype: "I64", shape: [], data: () => new BigInt64Array(1) },
    { name: "d", dtype: "U8", shape: [0, 4], data: () => new Uint8Array(0) },
  ], { format: "pt", note: "good" });
  const good = await Deno.readFile(path);
  const length = Number(new DataView(good.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(good.subarray(8, 8 + length)));
  return {
    name: "safetensors",
    good: [good],
    within(random) {
      const text = JSON.stringify(damagedJson(header, random));
      const json = new TextEncoder().encode(text), start = new Uint8Array(8);
      new DataView(start.buffer).setBigUint64(0, BigInt(json.length), true);
      return joined([start, json, good.subarray(8 + length)]);
    },
    open: readAll,
  };
}

function torch(): Format {
  const place = { type: "FloatStorage", key: "0", numbers: 12, shape: [3, 4], strides: [4, 1] };
  const storages = {
    0: new Float32Array(12).fill(0.25),
    1: new Uint16Array(8).fill(0x3f80),
    2: new BigInt64Array(2),
  };
  const widths = { 0: 4, 1: 2, 2: 8 };
  const root = (isLegacy: boolean) =>
    dict({
      model: orderedDict({
        weight: tensor(place, isLegacy),
        turned: tensor({ ...place, shape: [4, 2], strides: [1, 4], offset: 4 }, isLegacy),
        half: tensor(
          { type: "BFloat16Storage", key: "1", numbers: 8, shape: [2, 2, 2], strides: [4, 2, 1] },
          isLegacy,
        ),
        ids: tensor(
          { type: "LongStorage", key: "2", numbers: 2, shape: [2], strides: [1] },
          isLegacy,
        ),
      }),
      optimizer: dict({ lr: 0.5, betas: [0.9, 0.95], name: "adamw", step: 2 ** 40, none: null }),
    });
  const entries = torchEntries(root(false), storages), pickle = pickleOf(root(false));
  const wide = zipOf(entries.map((entry) => ({ ...entry, wide: true })), { wide: true });
  return {
    name: "pt",
    good: [zipOf(entries), wide, legacyOf(root(true), storages, widths)],
    within(random) {
      if (random() < 0.8) {
        const bytes = damaged(pickle, random);
        return zipOf(entries.map((entry, i) => i === 0 ? { ...entry, bytes } : entry));
      }
      const at = below(random, entries.length);
      const odd = pick(random, [0, 1, 30, 64, 1000, 2 ** 20, 2 ** 32 - 1, 2 ** 40, 2 ** 53]);
      const change = pick(random, [
        { size: odd, wide: odd >= 2 ** 32 },
        { local: odd, wide: odd >= 2 ** 32 },
        { method: below(random, 20) },
        { flags: below(random, 2 ** 16) },
        {
          name: pick(random, ["../x", "archive/data.pkl", "archive/data/0", "/", "a\u0000b", "é"]),
        },
        { bytes: new Uint8Array(below(random, 60)) },
      ]);
      return zipOf(entries.map((entry, i) => i === at ? { ...entry, ...change } : entry));
    },
    open: readAll,
  };
}

const llama = {
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 32,
  vocab_size: 264,
};

const configOf = (model: object) =>
  configAround(model, { sequence_length: 16, batch_size: 1, steps: 1 });

async function gguf(dir: string): Promise<Format> {
  const run = join(dir, "gguf-run");
  const tokenizer = await parseTokenizer(
    bpeFile([{ left: 84, right: 72, joined: 256 }]),
    "tokenizer.json",
  );
  await writeRandomRun(run, configOf(llama), tokenizer, 0);
  using opened = await openAny(run);
  const good: Uint8Array[] = [];
  for (const type of ["f16", "q8_0"] as const) {
    const out = join(dir, `${type}.gguf`);
    await exportGguf({ opened, out, type, name: "good" });
    good.push(await Deno.readFile(out));
  }
  // numbers and names of the header: behind the tokens' texts, before the data
  const metadataEnd = new TextDecoder("latin1").decode(good[0]).indexOf("token_embd.weight");
  return {
    name: "gguf",
    good,
    within(random) {
      const bytes = Uint8Array.from(pick(random, good)), end = Math.min(bytes.length, 9000);
      const [from, to] = random() < 0.4
        ? [0, 900]
        : random() < 0.7
        ? [metadataEnd - 8, metadataEnd + 800]
        : [0, end];
      const part = damaged(bytes.subarray(from, to), random);
      return joined([bytes.subarray(0, from), part, bytes.subarray(to)]);
    },
    async open(path) {
      await readAll(path);
      const { opened } = await openGgufModel(path);
      using model = opened;
      for (const name of model.file.tensors.keys()) model.file.read(name);
    },
  };
}

async function artifact(dir: string): Promise<Format> {
  const run = join(dir, "artifact-run"), tokenizer = byteTokenizer();
  await writeRandomRun(run, configOf(llama), tokenizer, 0);
  using opened = await openAny(run);
  await Deno.copyFile(join(run, "tokenizer.json"), join(dir, "tokenizer.json"));
  const { model, file, step, point: { scalars, seed } } = opened;
  const tensors = namedParams(model.params).map(({ path, shape }, i) => {
    const form = shape.length === 1 ? "f16" : (["int5", "int6", "int8"] as const)[i % 3];
    const read = () => file.read(path) as Float32Array;
    return store({ name: path, shape, read }, form, { search: "row", floor: "tiny" });
  });
  const facts = {
    model: model.config,
    step,
    tokenizer_sha256: tokenizer.hash,
    scalars: [...scalars],
    seed,
  };
  const good = [
    encodeArtifact({ facts, tensors }, "bytes", ["zstd"]).bytes,
    encodeArtifact({ facts, tensors }, "bits", ["lzma"]).bytes,
  ];
  const parts = good.map((bytes) => {
    const length = new DataView(bytes.buffer).getUint32(8, true);
    const header = zstdDecompressSync(bytes.subarray(12, 12 + length));
    return {
      header: JSON.parse(new TextDecoder().decode(header)),
      body: bytes.subarray(12 + length),
    };
  });
  return {
    name: "artifact",
    good,
    within(random) {
      const { header, body } = pick(random, parts);
      const isBody = random() < 0.4, bytes = isBody ? damaged(body, random) : body;
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const honest = { ...header, body: { ...header.body, sha256 } };
      const head = new Uint8Array(
        zstdCompressSync(
          new TextEncoder().encode(JSON.stringify(isBody ? honest : damagedJson(honest, random))),
        ),
      );
      const start = Uint8Array.from(good[0].subarray(0, 12));
      new DataView(start.buffer).setUint32(8, head.length, true);
      return joined([start, head, bytes]);
    },
    async open(path) {
      using model = await openArtifact(path);
      if (dirname(path) !== dir) throw new Error("the tokenizer lies beside the file");
      requireTensors(
        model.file,
        namedParams(model.model.params).map(({ path, shape }) => ({
          name: path,
          shape,
          dtype: "f32" as const,
        })),
      );
      for (const name of model.file.tensors.keys()) model.file.read(name);
    },
  };
}
