/**
 * Generating for evaluation: tokens a second of many prompts in the rows of one batch beside one after the other; at least
 * four times is asked. `deno run -A tests/bench/eval.ts [--threads 1 --time processor]` counts the process's own time
 * instead, which other work on the machine does not lengthen much.
 */

import process from "node:process";
import { parseArgs } from "node:util";
import { openDevice } from "../../core/device/mod.ts";
import { Slots } from "../../core/generate/slots.ts";
import { normals, sizeOf } from "../../core/graph/mod.ts";
import { loadConfig } from "../../core/io/config.ts";
import type { Tensors } from "../../core/io/tensors.ts";
import { buildModel, type Model, namedParams } from "../../core/model/mod.ts";
import { pretrainConfig, resolveConfig } from "../../core/train/mod.ts";
import { root } from "../support.ts";
import { type Contender, interleave } from "./interleave.ts";

const { values } = parseArgs({
  options: {
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
    rounds: { type: "string", default: "5" },
    time: { type: "string", default: "clock" },
  },
});
await using device = await openDevice({
  device: "cpu",
  blas: "off",
  threads: Number(values.threads),
});
/** Bytes, the beginning of a text and its end. */
const vocab = 259, prompt = 96, newTokens = 64, burst = 4;

/** What a checkpoint of it would hold before training. */
function untrained(model: Model): Tensors {
  const params = namedParams(model.params);
  return {
    path: "untrained",
    tensors: new Map(params.map(({ path, shape }) => [path, { dtype: "F32", shape }])),
    read(name: string) {
      const { shape } = params.find(({ path }) => path === name)!;
      return normals(1, name, sizeOf(shape)).map((x) => shape.length === 1 ? 1 : 0.1 * x);
    },
  } as unknown as Tensors;
}

function now(): number {
  if (values.time === "clock") return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Milliseconds a token: of decoding alone, or with reading the prompts. */
function contender(slots: Slots, what: "decoding" | "all"): Contender {
  const { batch } = slots.layout;
  let texts = 0;
  /** No two begin alike. */
  const nextPrompt = () => {
    const seed = ++texts;
    return Int32Array.from({ length: prompt }, (_, t) => (seed * (79 + t) + t * t) % 251);
  };
  return async () => {
    let spent = 0;
    const timed = async (work: () => Promise<void>, isCounted: boolean) => {
      await device.idle();
      const at = now();
      await work();
      await device.idle();
      if (isCounted) spent += now() - at;
    };
    await timed(async () => {
      for (let slot = 0; slot < batch; slot++) await slots.put(slot, nextPrompt());
    }, what === "all");
    await timed(async () => {
      for (let done = 0; done < newTokens; done += burst) await slots.run(burst);
    }, true);
    return spent / (batch * newTokens);
  };
}

const wide = ["hidden_size=512", "intermediate_size=1376", "num_attention_heads=16"];
for (
  const [name, rows, ...changes] of [
    ["quickstart", 8],
    ["llama-5m", 24],
    ["llama-5m", 24, ...wide],
  ] as const
) {
  const file = `${root}configs/${name}.yaml`;
  const overrides = changes.map((change) => `model.${change}`);
  const config = resolveConfig(await loadConfig(pretrainConfig, file, overrides), vocab);
  const model = buildModel({ ...config.model, max_position_embeddings: 256 });
  const size = namedParams(model.params).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const source = {
    model,
    file: untrained(model),
    point: { scalars: new Float32Array(), seed: 0, step: 0 },
  };
  const slotsFor = (batch: number) =>
    Slots.create(source, device, { batch, capacity: 256, weights: "f32" }, burst);
  using one = await slotsFor(1), many = await slotsFor(rows);
  const found = await interleave({
    one: contender(one, "decoding"),
    many: contender(many, "decoding"),
    "one with prompt": contender(one, "all"),
    "many with prompts": contender(many, "all"),
  }, { rounds: Number(values.rounds), warmMs: 200 });
  const rate = (ms = NaN) => Math.round(1000 / ms).toLocaleString("en-US");
  const line = (a: keyof typeof found, b: keyof typeof found) =>
    (["median", "best"] as const).map((of) =>
      `${rate(found[b]?.[of])} beside ${rate(found[a]?.[of])} (${of}): ` +
      `${(found[a]![of] / found[b]![of]).toFixed(1)} times`
    ).join(", ");
  console.log(
    `${name}, ${
      (size / 1e6).toFixed(1)
    } million parameters, tokens/s of ${rows} rows beside one:\n` +
      `  decoding ${line("one", "many")}\n` +
      `  with prompts of ${prompt} tokens ${line("one with prompt", "many with prompts")}`,
  );
}
