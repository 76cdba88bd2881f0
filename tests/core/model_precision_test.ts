/**
 * Models that are trained in bf16: what is computed is what f32 computes, but for roundings; what is
 * kept takes half the room; and all machines do it, by their fast kernels.
 */

import assert from "node:assert/strict";
import { cpuTarget } from "../../core/device/cpu/target.ts";
import {
  type Graph,
  interpret,
  nodesOf,
  placeholder,
  roundBf16,
  sizeOf,
} from "../../core/graph/mod.ts";
import { causalConv, gradients, inPrecision, linear, square, sumAll } from "../../kernels/mod.ts";
import { namedParams, withPrecision } from "../../core/model/mod.ts";
import { bindOptimizer, optimizerConfig } from "../../core/optim/mod.ts";
import { planGraph, type Target } from "../../core/plan/mod.ts";
import { assumedLimits, webgpuTarget } from "../../core/device/webgpu/mod.ts";
import { traceAccumulate } from "../../core/train/programs.ts";
import { webgpuTest } from "../support.ts";
import { cpuMachine, type Machine, type Named, plainLoops, webgpuMachine } from "../machines.ts";
import { tinyModel, variants, vocab, wave } from "./model/tiny.ts";
import { firstScalars, firstState, firstTold, packedRows, stepGraph } from "./model/steps.ts";

const optimizer = optimizerConfig.parse({
  kind: "adamw",
  learning_rate: { kind: "constant", peak: 0.01 },
});
const size = { rows: 2, length: 9 };

type Changes = Readonly<Record<string, unknown>>;

const graphOf = (name: string, precision: "f32" | "bf16", changes: Changes = {}) =>
  stepGraph(
    withPrecision(tinyModel({ ...variants[name] as Changes, ...changes }), precision),
    optimizer,
    size,
  );

/** Loss, the tokens' losses and all gradients. */
async function run(machine: Machine, name: string, graph: Graph): Promise<Named> {
  const rows = packedRows(size, vocab), model = tinyModel(variants[name]);
  using session = await machine.start(graph, firstState(model));
  return await session.run({
    ...rows,
    ...firstTold(model, size),
    ...firstScalars(optimizer, rows["rows.targets"]),
  });
}

/** The largest ‖a − b‖ / ‖b‖ of the outputs. */
function farthest(found: Named, expected: Named): { far: number; name: string } {
  const norm = (values: number[]) => Math.hypot(...values);
  assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted());
  return Object.keys(expected).map((name) => {
    const wanted = Array.from(expected[name]);
    return { name, far: norm(wanted.map((x, i) => found[name][i] - x)) / norm(wanted) };
  }).reduce((worst, next) => next.far <= worst.far ? worst : next);
}

const roundingsIn = (graph: Graph) =>
  nodesOf(graph.outputs.map(({ value }) => value)).filter(({ outputs: [out], op }) =>
    op.name === "cast" && out.dtype === "bf16"
  ).length;

for (const name of Object.keys(variants)) {
  Deno.test(`precision: bf16 is f32 but for roundings: ${name}`, async () => {
    const loops = plainLoops("f64"), graph = graphOf(name, "bf16");
    const whole = await run(loops, name, graphOf(name, "f32"));
    // In double precision halves are not rounded, and nothing else differs.
    const unrounded = farthest(await run(loops, name, graph), whole);
    assert.ok(unrounded.far < 1e-12, `${unrounded.name} is off by ${unrounded.far}`);
    const roundings = roundingsIn(graph);
    assert.ok(roundings > 20, `${roundings} roundings`);
    // A rounding moves a number by up to 2^-8 of its size, 2^-9 and less on average, to either side:
    // those of a chain add up like a walk.
    const { far, name: worst } = farthest(await run(plainLoops("f32"), name, graph), whole);
    const bound = Math.sqrt(roundings) * 2 ** -8;
    assert.ok(far > 1e-4 && far < bound, `${worst} is off by ${far}, more than ${bound}`);
  });
}

Deno.test("precision: gradients of parameters are f32, and layers may be rebuilt", async () => {
  const [name] = Object.keys(variants), loops = plainLoops("f32");
  const graph = graphOf(name, "bf16");
  const found = await run(loops, name, graph);
  for (const { name, value } of graph.outputs) {
    assert.equal(value.dtype, "f32", name);
    if (sizeOf(value.shape) === 1) continue;
    const values = Array.from(found[name]);
    assert.ok(values.some((x) => x !== roundBf16(x)), `${name} is rounded`);
  }
  assert.deepEqual(await run(loops, name, graphOf(name, "bf16", { remat: true })), found);
});

Deno.test("precision: an op that knows nothing of halves reads f32, which is not kept", () => {
  const weights = [[8, 8], [4, 8], [8, 8]].map((shape, i) =>
    placeholder({ shape, dtype: "f32" }, `w${i}`, "state")
  );
  const x = placeholder({ shape: [2, 5, 8], dtype: "f32" }, "x", "upload");
  const [first, taps, last] = weights;
  const gradientsIn = (precision: "f32" | "bf16") => {
    const loss = inPrecision(
      precision,
      () => sumAll(square(linear(causalConv(linear(x, first), taps), last))),
    );
    return gradients(loss, weights);
  };
  const found = gradientsIn("bf16");
  const values = new Map(
    [x, ...weights].map((tensor, i) => [tensor, wave(sizeOf(tensor.shape), i)]),
  );
  const [a, b] = [found, gradientsIn("f32")].map((grads) =>
    interpret(grads, values, { precision: "f64" })
  );
  a.forEach((gradient, i) =>
    gradient.forEach((value, j) => assert.ok(Math.abs(value - b[i][j]) < 1e-9))
  );
  const widened = nodesOf(found).filter(({ op, inputs, outputs: [out] }) =>
    op.name === "cast" && out.dtype === "f32" && inputs[0].shape.join() === "2,5,8"
  );
  // The product, for the forward pass and again for the taps' gradient; and what comes back to it.
  assert.equal(widened.length, 3);
  assert.equal(new Set(widened.map(({ inputs }) => inputs[0])).size, 2);
});

async function checkMachine(opened: Machine, names: readonly string[]): Promise<void> {
  await using machine = opened;
  for (const name of names) {
    const graph = graphOf(name, "bf16");
    const found = await run(machine, name, graph);
    const { far, name: worst } = farthest(found, await run(plainLoops("f32"), name, graph));
    // Sums in another order now and then round to the other neighbour, and that goes on.
    const bound = Math.sqrt(roundingsIn(graph)) * 2 ** -8;
    assert.ok(far < bound, `${machine.name}: ${name}: ${worst} is off by ${far}`);
  }
}

Deno.test("precision: training in bf16 on the cpu is as by plain loops", async () =>
  await checkMachine(await cpuMachine(), Object.keys(variants)));

webgpuTest("precision: training in bf16 on WebGPU is as by plain loops", async () => {
  await checkMachine(await webgpuMachine(), Object.keys(variants).slice(0, 1));
});

// Large enough that activations are nearly all there is.
const wide = {
  hidden_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 192,
  qk_norm: true,
};
const cpu = cpuTarget({ threads: 2, relaxed: true, blas: false });
const planned = (precision: "f32" | "bf16", changes: Changes = {}) => {
  const model = withPrecision(tinyModel({ ...wide, ...changes }, 256), precision);
  const adamw = optimizerConfig.parse({ kind: "adamw", learning_rate: 0.1 });
  const optimizer = bindOptimizer(adamw, namedParams(model.params));
  return traceAccumulate(model, optimizer, { rows: 32, length: 256, segments: true });
};

Deno.test("precision: bf16 takes little more than half the memory, on both devices", () => {
  for (const target of [cpu, webgpuTarget(assumedLimits)] as Target[]) {
    const bytes = (precision: "f32" | "bf16") =>
      planGraph(planned(precision), target).totals.arenaBytes;
    const ratio = bytes("bf16") / bytes("f32");
    assert.ok(ratio < 0.58, `${target.kind}: ${ratio}`);
    const rebuilt = (precision: "f32" | "bf16") =>
      planGraph(planned(precision, { remat: true }), target).totals.arenaBytes;
    assert.ok(rebuilt("bf16") < bytes("bf16"), `${target.kind}: with remat`);
    assert.ok(rebuilt("bf16") < rebuilt("f32"), `${target.kind}: with remat`);
  }
});

Deno.test("precision: no step of training in bf16 falls back to a plain loop on the cpu, and no kernel only rounds", () => {
  const { steps } = planGraph(planned("bf16"), cpu);
  assert.deepEqual(steps.filter(({ lowered }) => !lowered.jobs).map(({ op }) => op.name), []);
  const isCast = ({ op, attrs }: typeof steps[number]) =>
    op.name === "fused" &&
    (attrs.program as { steps: { op: string }[] }).steps.every(({ op }) =>
      ["input", "round_bf16"].includes(op)
    );
  // But for weights: what comes of the embedding, and the cotangents of the head's input and of the
  // last layer's output.
  const casts = steps.filter(isCast).filter(({ context: { outputs: [out] } }) =>
    sizeOf(out.shape) >= 32 * 256 * 32
  );
  assert.equal(casts.length, 3, casts.map(({ path }) => path).join());
});
