/**
 * Loading a model of 600 million parameters, random, from a Hugging Face folder onto the cpu device, beside reading its
 * file: `deno task bench load`. Each is a process of its own, so that its peak of memory is known. Takes 2.4 GB of disk.
 *
 * Asked: at most 1.5 times the time of reading the file, and a peak of at most 1.3 times its size.
 */

import { join } from "node:path";
import process from "node:process";
import { openDevice } from "../../core/device/mod.ts";
import { fillStored, storedSpecs } from "../../core/generate/weights.ts";
import { llama, originsOf, type Plain, plainFields } from "../../core/import/mod.ts";
import { leavesOf, type Spec } from "../../core/graph/mod.ts";
import { type TensorSource, writeSafetensors } from "../../core/io/safetensors.ts";
import {
  buildModel,
  type CompleteModelConfig,
  countAll,
  modelForms,
  namedParams,
} from "../../core/model/mod.ts";
import { openAny } from "../../core/open/mod.ts";

/** Qwen3-0.6B's sizes. */
const shape = {
  vocab_size: 151936,
  hidden_size: 1024,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 3072,
  qk_norm: true,
  tie_word_embeddings: true,
  max_position_embeddings: 256,
};

const rounds = 3, megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;

/** Its largest part of memory, of this process. */
function peakBytes(): number {
  const found = Deno.readTextFileSync("/proc/self/status").match(/VmHWM:\s+(\d+) kB/);
  return Number(found?.[1]) * 1024;
}

async function writeFolder(folder: string, dtype: "F32" | "BF16"): Promise<number> {
  const model = buildModel(modelForms.parse(shape) as CompleteModelConfig);
  const { kind, architecture, fields } = plainFields(model) as Plain;
  await Deno.mkdir(folder);
  const config = { architectures: [architecture], model_type: kind, ...fields };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
  await Deno.writeTextFile(
    join(folder, "tokenizer.json"),
    `${JSON.stringify({ quern: "byte" })}\n`,
  );
  const bits = new Uint32Array(2 ** 14);
  const tensors = originsOf(llama, model).map(({ param: { shape }, theirs }): TensorSource => ({
    name: `model.${theirs}`,
    shape,
    dtype,
    data() {
      // any bits whose exponent is that of numbers around 1/64
      const size = shape.reduce((a, b) => a * b, 1);
      crypto.getRandomValues(bits);
      const small = bits.map((word) => (word & 0x807fffff) | 0x3c800000);
      if (dtype === "F32") {
        return Uint32Array.from({ length: size }, (_, i) => small[i % small.length]);
      }
      return Uint16Array.from({ length: size }, (_, i) => small[i % small.length] >>> 16);
    },
  }));
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  console.log(
    `${countAll(namedParams(model.params)).toLocaleString("en-US")} parameters, ${dtype}`,
  );
  return (await Deno.stat(join(folder, "model.safetensors"))).size;
}

/** What a child does, in a process of its own: milliseconds. */
const jobs: Record<string, (folder: string) => Promise<number>> = {
  /** All bytes into one small buffer. */
  pass(folder) {
    using file = Deno.openSync(join(folder, "model.safetensors"));
    const buffer = new Uint8Array(4 * 2 ** 20), start = performance.now();
    while (file.readSync(buffer) !== null);
    return Promise.resolve(performance.now() - start);
  },
  /** All bytes into memory. */
  read(folder) {
    using file = Deno.openSync(join(folder, "model.safetensors"));
    const start = performance.now(), { size } = file.statSync();
    const memory = new WebAssembly.Memory({ initial: 65536, maximum: 65536, shared: true });
    const bytes = new Uint8Array(memory.buffer, 0, size);
    for (let done = 0; done < size;) done += file.readSync(bytes.subarray(done)) ?? size;
    return Promise.resolve(performance.now() - start);
  },
  load: (folder) => load(folder, "f32"),
  "load as bf16": (folder) => load(folder, "bf16"),
};

async function load(folder: string, weights: "f32" | "bf16"): Promise<number> {
  await using device = await openDevice({ device: "cpu", threads: 1 });
  const start = performance.now();
  using opened = await openAny(folder);
  const specs = leavesOf<Spec>(storedSpecs(opened.model, weights));
  using state = device.createState(
    specs.map(({ path, leaf }) => ({ ...leaf, name: `params.${path}` })),
  );
  fillStored(state, opened.file, opened.model, weights);
  return performance.now() - start;
}

/** Wall time of the job, processor time and memory of its whole process. */
interface Measured {
  readonly ms: number;
  readonly cpu: number;
  readonly peak: number;
}

async function measured(name: string, folder: string): Promise<Measured> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.filename!, name, folder],
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`${name} failed`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function main(): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "quern-bench-load-" });
  try {
    for (const dtype of ["F32", "BF16"] as const) {
      const folder = join(dir, dtype), size = await writeFolder(folder, dtype);
      const all = new Map(
        Object.keys(jobs).map((name) => [name, { ms: Infinity, cpu: Infinity, peak: 0 }]),
      );
      for (let round = 0; round < rounds; round++) {
        for (const [name, kept] of all) {
          const { ms, cpu, peak } = await measured(name, folder);
          kept.ms = Math.min(kept.ms, ms);
          kept.cpu = Math.min(kept.cpu, cpu);
          kept.peak = Math.max(kept.peak, peak);
        }
      }
      console.log(`the file has ${megabytes(size)}; best of ${rounds}, taking turns`);
      const read = all.get("read")!;
      for (const [name, { ms, cpu, peak }] of all) {
        console.log(
          `  ${name.padEnd(13)} ${ms.toFixed(0).padStart(6)} ms, ${
            (ms / read.ms).toFixed(2)
          } × reading  processor ${cpu.toFixed(0).padStart(6)} ms, ${
            (cpu / read.cpu).toFixed(2)
          } ×  peak ${megabytes(peak)}, ${(peak / size).toFixed(2)} × the file`,
        );
      }
      await Deno.remove(folder, { recursive: true });
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const [job, folder] = Deno.args;
if (job === undefined) await main();
else {
  const ms = await jobs[job](folder), { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ ms, cpu: (user + system) / 1000, peak: peakBytes() }));
}
