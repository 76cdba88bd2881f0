/**
 * Models agree on every machine: a whole training step, by plain loops, on the cpu and on WebGPU.
 */

import assert from "node:assert/strict";
import { PlanError, planGraph, type PlanOptions } from "../../core/plan/mod.ts";
import { assumedLimits, webgpuTarget } from "../../core/device/webgpu/mod.ts";
import { bindOptimizer, optimizerConfig } from "../../core/optim/mod.ts";
import { traceUpdate } from "../../core/train/programs.ts";
import {
  buildModel,
  completeModel,
  type Model,
  modelConfig,
  namedParams,
} from "../../core/model/mod.ts";
import { webgpuTest } from "../support.ts";
import { cpuMachine, type Machine, type Named, plainLoops, webgpuMachine } from "../machines.ts";
import { tinyModel, vocab } from "./model/tiny.ts";
import {
  firstScalars,
  firstState,
  gradientGraph,
  logitsGraph,
  packedRows,
  stepGraph,
  type StepOptions,
} from "./model/steps.ts";

// Odd sizes, two query heads to a key head.
const llama = {
  hidden_size: 10,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  intermediate_size: 13,
};

const models: Readonly<Record<string, Record<string, unknown>>> = {
  "tied, all channels turn": llama,
  "untied, qk-norm, some channels turn": {
    ...llama,
    tie_word_embeddings: false,
    qk_norm: true,
    partial_rotary_factor: 0.7,
  },
};

// After the first step of Adam a weight moves by the rate's full size in its gradient's direction,
// however small that is, and where it is nearly 0 rounding decides; with this eps such gradients
// move their weights little.
const optimizer = optimizerConfig.parse({
  kind: "adamw",
  learning_rate: { kind: "constant", peak: 0.01 },
  eps: 1e-3,
});

const size: StepOptions = { rows: 2, length: 9 };

/** Everything that a step leaves behind. */
async function stepOn(
  machine: Machine,
  model: Model,
  options: StepOptions & PlanOptions = size,
): Promise<Named> {
  const graph = stepGraph(model, optimizer, options), first = firstState(model);
  const rows = packedRows(options, vocab);
  using session = await machine.start(graph, first, options);
  const outputs = await session.run({ ...rows, ...firstScalars(optimizer, rows["rows.targets"]) });
  const state: Record<string, ArrayLike<number>> = {};
  for (const name of Object.keys(first)) state[name] = await session.read(name);
  return { ...outputs, ...state };
}

/** ‖a − b‖ / ‖b‖ */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  const norm = (values: number[]) => Math.hypot(...values);
  return norm(Array.from(a, (x, i) => x - b[i])) / norm(Array.from(b));
}

/** The largest distance of any tensor from its twin, and which. */
function farthest(found: Named, expected: Named): { far: number; name: string } {
  assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted());
  return Object.keys(expected)
    .map((name) => ({ name, far: distance(found[name], expected[name]) }))
    .reduce((worst, next) => next.far <= worst.far ? worst : next);
}

async function checkModels(opened: Machine): Promise<void> {
  await using machine = opened;
  for (const [name, config] of Object.entries(models)) {
    const expected = await stepOn(plainLoops("f64"), tinyModel(config));
    assert.ok(Object.values(expected).every((x) => x.length > 0 && Number.isFinite(x[0])));
    for (const remat of [false, true]) {
      for (const fuse of [true, false]) {
        const found = await stepOn(machine, tinyModel({ ...config, remat }), { ...size, fuse });
        const worst = farthest(found, expected);
        const what = `${machine.name}: ${name}, remat ${remat}, fuse ${fuse}: ${worst.name}`;
        assert.ok(worst.far < 1e-4, `${what} is off by ${worst.far}`);
      }
    }
  }
}

Deno.test("model: loss, gradients and a step are the same in single precision", () =>
  checkModels(plainLoops("f32")));

Deno.test("model: loss, gradients and a step are the same on the cpu, by plain loops", async () => {
  await checkModels(await cpuMachine({ wasm: false }));
});

Deno.test("model: loss, gradients and a step are the same on the cpu", async () => {
  await checkModels(await cpuMachine());
});

webgpuTest("model: loss, gradients and a step are the same on WebGPU", async () => {
  await checkModels(await webgpuMachine());
});

/** Weights in bf16: the same numbers everywhere, and what they would be without rounding. */
async function checkHalves(opened: Machine): Promise<void> {
  await using machine = opened;
  const model = tinyModel(models["untied, qk-norm, some channels turn"]);
  const halves: StepOptions = { ...size, compute: "bf16" };
  const found = await stepOn(machine, model, halves);
  // Rounding a weight is exact arithmetic, so all round alike and nothing is looser than in f32.
  const twin = farthest(found, await stepOn(plainLoops("f32"), model, halves));
  assert.ok(twin.far < 1e-4, `${machine.name}: ${twin.name} is off by ${twin.far}`);
  // bf16 keeps 8 bits: a weight is off by up to 1/512 of its size, and some ten products lie
  // between it and the loss. The second moment is a square: twice that.
  const whole = farthest(found, await stepOn(plainLoops("f64"), model));
  assert.ok(whole.far < 20 / 512, `${machine.name}: ${whole.name} is off by ${whole.far}`);
  assert.ok(whole.far > 1e-3, `${machine.name}: nothing was rounded`);
  // Without masters: the store itself holds halves, and every kernel reads them.
  const graph = gradientGraph(model, size, "bf16"), rows = packedRows(size, vocab);
  const params = Object.fromEntries(
    Object.entries(firstState(model)).filter(([name]) => name.startsWith("params.")),
  );
  using session = await machine.start(graph, params);
  const stored = await session.run(rows);
  const same = Object.fromEntries(Object.keys(stored).map((name) => [name, found[name]]));
  const worst = farthest(stored, same);
  assert.ok(worst.far < 1e-4, `${machine.name}: ${worst.name} is off by ${worst.far}`);
}

Deno.test("model: weights that are stored in bf16, on the cpu", async () =>
  await checkHalves(await cpuMachine()));

webgpuTest("model: weights that are stored in bf16, on WebGPU", async () => {
  await checkHalves(await webgpuMachine());
});

/**
 * Documents of one row do not see each other: neither in their losses nor in what their losses ask
 * of the weights.
 */
async function checkPacking(opened: Machine): Promise<void> {
  await using machine = opened;
  const model = tinyModel(llama), first = firstState(model);
  const documents = [[3, 1, 4, 1, 5], [9, 2, 6]], changed = [8, 8, 0, 7, 2];
  const graph = (options: StepOptions) => stepGraph(model, optimizer, options);
  /** A row of documents one after another; the last token of each has no target. */
  const rowOf = (rows: number[][]) => ({
    "rows.ids": rows.flat(),
    "rows.targets": rows.flatMap((row) => [...row.slice(1), -100]),
    "rows.positions": rows.flatMap((row) => [...row.keys()]),
    "rows.segment_ids": rows.flatMap((row, i) => row.map(() => i + 1)),
  });
  const run = async (rows: number[][]) => {
    using session = await machine.start(graph({ rows: 1, length: rows.flat().length }), first);
    return await session.run({
      ...rowOf(rows),
      ...firstScalars(optimizer, rows.flatMap((row) => row.slice(1))),
    });
  };
  /** Logits of the last document. */
  const logitsOf = async (rows: number[][]) => {
    const params = Object.entries(first).filter(([name]) => name.startsWith("params."));
    const shape = { rows: 1, length: rows.flat().length };
    using session = await machine.start(logitsGraph(model, shape), Object.fromEntries(params));
    const { logits } = await session.run(rowOf(rows));
    return Array.from(logits).slice(-rows.at(-1)!.length * vocab);
  };
  assert.deepEqual(await logitsOf(documents), await logitsOf([changed, documents[1]]));
  const packed = await run(documents), other = await run([changed, documents[1]]);
  const tail = (x: ArrayLike<number>) => Array.from(x).slice(documents[0].length);
  assert.deepEqual(tail(packed.losses), tail(other.losses));
  assert.notDeepEqual([...Array.from(packed.losses)], [...Array.from(other.losses)]);
  const alone = [await run([documents[0]]), await run([documents[1]])];
  const losses = alone.flatMap((result) => Array.from(result.losses));
  assert.ok(distance(packed.losses, losses) < 1e-5);
  for (const name of Object.keys(packed).filter((name) => name.startsWith("grad."))) {
    const sum = Array.from(alone[0][name], (x, i) => x + alone[1][name][i]);
    assert.ok(distance(packed[name], sum) < 1e-4, `${machine.name}: ${name}`);
  }
}

const packing =
  "replay: huggingface/nanoVLM PR 204; huggingface/trl 805: packed documents do not see each other";
Deno.test(`${packing}, by plain loops`, () => checkPacking(plainLoops("f32")));
Deno.test(`${packing}, on the cpu`, async () => await checkPacking(await cpuMachine()));
webgpuTest(`${packing}, on WebGPU`, async () => await checkPacking(await webgpuMachine()));

Deno.test("replay: stable-diffusion-webgpu 1; onnxruntime PR 25962: a matrix beyond a binding is refused in planning, by name", () => {
  const limits = { ...assumedLimits, maxBindingBytes: 128 * 2 ** 20 }; // WebGPU's default
  const planned = (vocab_size: number, batch_size: number) => {
    const config = modelConfig.parse({ ...llama, hidden_size: 1024, num_hidden_layers: 1 });
    const model = buildModel(completeModel(config, { vocab_size, max_position_embeddings: 64 }));
    const shape = { rows: batch_size, length: 64, segments: false };
    const bound = bindOptimizer(optimizer, namedParams(model.params));
    return planGraph(traceUpdate(model, bound, shape), webgpuTarget(limits));
  };
  planned(32_768, 1); // 128 MiB to the byte; logits are never whole
  const refused = (vocab_size: number, batch_size: number, pattern: RegExp) =>
    assert.throws(() => planned(vocab_size, batch_size), (error) => {
      assert.ok(error instanceof PlanError);
      assert.match(error.message, pattern);
      return true;
    });
  refused(
    32_769,
    1,
    /params\.input\.embedding is a tensor \[32769, 1024\] of 134,221,824 bytes, more than the 134,217,728 bytes .*; use a smaller vocabulary/,
  );
  refused(
    512,
    1024,
    /embedding at input makes a tensor \[1024, 64, 1024\] of 268,435,456 bytes, more than the 134,217,728 bytes .*; use a smaller batch_size/,
  );
});
