import assert from "node:assert/strict";
import * as k from "../../kernels/mod.ts";
import { type Graph, type Spec, spec, type Tensor, trace } from "../../core/graph/mod.ts";
import { webgpuTest } from "../support.ts";
import { cpuMachine, type Machine, type Named, plainLoops, webgpuMachine } from "../machines.ts";
import { checkClose, readJson, type Tensors } from "../vectors.ts";
import { adamWGraph, constantHyper, noMoments } from "./vectors_optimizer.ts";

type Matrix = readonly (readonly number[])[];

// Worked examples of attention, the loss and the optimizer in double precision: f32 and its tables
// are a few 1e-7 away from them.
const examples = { attention, crossEntropy, softcap, maskedLoss, adamW, globalClip };

const tolerances: Record<Machine["name"], number> = {
  "loops, f64": 2e-7, // tables come as f32
  "loops, f32": 2e-6,
  "cpu, no wasm": 2e-6,
  "cpu": 2e-6,
  "webgpu": 2e-5, // WGSL promises less of exp and tanh than a CPU's library
};

async function checkAll(t: Deno.TestContext, opened: Machine): Promise<void> {
  await using machine = opened;
  for (const [name, check] of Object.entries(examples)) await t.step(name, () => check(machine));
}

Deno.test("worked examples: plain loops in double precision", (t) =>
  checkAll(t, plainLoops("f64")));

Deno.test("worked examples: cpu", async (t) => await checkAll(t, await cpuMachine()));

webgpuTest("worked examples: webgpu", async (t) => await checkAll(t, await webgpuMachine()));

/** Runs once and compares every output with what is expected of it. */
async function checkGraph(machine: Machine, graph: Graph, inputs: Named, expected: Named) {
  using session = await machine.start(graph);
  const found = await session.run(inputs), tolerance = tolerances[machine.name];
  assert.deepEqual(Object.keys(found).toSorted(), Object.keys(expected).toSorted());
  for (const [name, values] of Object.entries(expected)) {
    checkClose(`${machine.name}: ${name}`, found[name], values, tolerance, tolerance);
  }
}

const traced = (
  batch: Readonly<Record<string, Spec>>,
  body: (inputs: Tensors) => Record<string, Tensor>,
): Graph =>
  trace((_: Tensors, inputs: Tensors) => ({ outputs: body(inputs) }), {
    state: {},
    batch,
  }) as Graph;

async function attention(machine: Machine): Promise<void> {
  const { input, ...v } = readJson<{
    input: { q: Matrix; k: Matrix; v: Matrix };
    q_normed: Matrix;
    k_normed: Matrix;
    q_rot: Matrix;
    k_rot: Matrix;
    y: Matrix;
    doc_mask: { cu_seqlens: number[]; y: Matrix };
    partial_rope:
      & Record<"q_rot" | "k_rot" | "y", Matrix>
      & { rope_dims: number }
      & Record<
        "golf_sign_q_rot" | "golf_sign_k_rot" | "golf_sign_y",
        Matrix
      >;
    output_gate: { gate_logits: Matrix; y_gated: Matrix };
  }>("attention.json");
  const shape = [1, 3, 1, 4], head = spec(shape);
  const graph = traced({ q: head, k: head, v: head, gate: head }, (given) => {
    const positions = k.constant("positions", [1, 3], Int32Array.of(0, 1, 2));
    const documents = k.constant("documents", [1, 3], Int32Array.of(0, 0, 1));
    const normed = (x: Tensor) => k.rmsNorm(x, undefined, { eps: 1e-6 });
    const q = normed(given.q), keys = normed(given.k);
    const turn = (width: number, direction: 1 | -1 = 1) => {
      const tables = k.ropeTables(3, width, 10000);
      return [q, keys].map((x) => k.rope(x, positions, tables, { direction }));
    };
    const [whole, partial, golf] = [turn(4), turn(2), turn(2, -1)];
    const y = k.attention(whole[0], whole[1], given.v);
    return {
      q_normed: q,
      k_normed: keys,
      q_rot: whole[0],
      k_rot: whole[1],
      y,
      "doc_mask.y": k.attention(whole[0], whole[1], given.v, documents),
      "partial.q_rot": partial[0],
      "partial.k_rot": partial[1],
      "partial.y": k.attention(partial[0], partial[1], given.v),
      "golf.q_rot": golf[0],
      "golf.k_rot": golf[1],
      "golf.y": k.attention(golf[0], golf[1], given.v),
      y_gated: k.mul(y, k.sigmoid(given.gate)),
    };
  });
  await checkGraph(machine, graph, {
    q: input.q.flat(),
    k: input.k.flat(),
    v: input.v.flat(),
    gate: v.output_gate.gate_logits.flat(),
  }, {
    q_normed: v.q_normed.flat(),
    k_normed: v.k_normed.flat(),
    q_rot: v.q_rot.flat(),
    k_rot: v.k_rot.flat(),
    y: v.y.flat(),
    "doc_mask.y": v.doc_mask.y.flat(),
    "partial.q_rot": v.partial_rope.q_rot.flat(),
    "partial.k_rot": v.partial_rope.k_rot.flat(),
    "partial.y": v.partial_rope.y.flat(),
    "golf.q_rot": v.partial_rope.golf_sign_q_rot.flat(),
    "golf.k_rot": v.partial_rope.golf_sign_k_rot.flat(),
    "golf.y": v.partial_rope.golf_sign_y.flat(),
    y_gated: v.output_gate.y_gated.flat(),
  });
}

const loss = readJson<{
  logits: Matrix;
  targets: number[];
  nll: number[];
  mean: number;
  dlogits: Matrix;
  softcap_before_ce: { cap: number; logits: number[]; capped: number[] };
  masked_sft: { nll: number[]; mask: number[]; loss: number };
}>("cross_entropy.json");

const identity = (n: number) =>
  k.constant(
    `identity:${n}`,
    [n, n],
    Float32Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0)),
  );

async function crossEntropy(machine: Machine): Promise<void> {
  const graph = traced({ z: spec([3, 3]), targets: spec([3], "i32") }, ({ z, targets }) => {
    const { sum, losses } = k.linearCrossEntropy(z, identity(3), targets);
    const mean = k.div(sum, loss.targets.filter((t) => t >= 0).length);
    return { mean, nll: losses, dlogits: k.gradients(mean, [z])[0] };
  });
  await checkGraph(machine, graph, { z: loss.logits.flat(), targets: loss.targets }, {
    mean: [loss.mean],
    nll: [...loss.nll, 0],
    dlogits: loss.dlogits.flat(),
  });
}

/**
 * Capped logits are not handed out, but the losses of all targets say what they were, up to one
 * number for all.
 */
async function softcap(machine: Machine): Promise<void> {
  const { cap, logits, capped } = loss.softcap_before_ce, n = logits.length;
  const lse = Math.log(capped.reduce((sum, z) => sum + Math.exp(z), 0));
  const graph = traced({ z: spec([1, n]), targets: spec([n], "i32") }, ({ z, targets }) => {
    const rows = k.expand(z, [n, n]);
    return {
      nll: k.linearCrossEntropy(rows, identity(n), targets, undefined, { softcap: cap }).losses,
    };
  });
  await checkGraph(machine, graph, { z: logits, targets: [...logits.keys()] }, {
    nll: capped.map((z) => lse - z),
  });
}

async function maskedLoss(machine: Machine): Promise<void> {
  const { nll, mask, loss: expected } = loss.masked_sft;
  // Two logits, 0 for the target and log(eˡ − 1) for the other, have a loss of l.
  const rows = nll.flatMap((l) => [0, Math.log(Math.expm1(l))]);
  const specs = {
    z: spec([nll.length, 2]),
    targets: spec([nll.length], "i32"),
    mask: spec([nll.length]),
  };
  const graph = traced(specs, ({ z, targets, mask }) => {
    const { sum, losses } = k.linearCrossEntropy(z, identity(2), targets, mask);
    return { loss: k.div(sum, k.sumAll(mask)), nll: k.mul(losses, mask) };
  });
  await checkGraph(machine, graph, { z: rows, targets: nll.map(() => 0), mask }, {
    loss: [expected],
    nll: nll.map((l, i) => l * mask[i]),
  });
}

const optimizer = readJson<{
  cases: {
    lr: number;
    betas: [number, number];
    weight_decay: number;
    grads: number[];
    trace: { m: number; v: number; param: number }[];
  }[];
  global_clip: {
    grads: number[];
    max_norm: number;
    norm: number;
    factor: number;
    clipped: number[];
  };
}>("adamw.json");

async function adamW(machine: Machine): Promise<void> {
  const tolerance = tolerances[machine.name];
  for (const { lr, betas: [beta1, beta2], weight_decay, grads, trace } of optimizer.cases) {
    const graph = adamWGraph({ x: [] }, 1e-8);
    using session = await machine.start(graph, { "p.x": [1], ...noMoments({ x: [1] }) });
    for (const [step, expected] of trace.entries()) {
      const rates = { learning_rate: lr, beta1, beta2, decays: [weight_decay] };
      await session.run({ "g.x": [grads[step]], hyper: constantHyper(rates, step) });
      for (const [name, value] of [["p", expected.param], ["m", expected.m], ["v", expected.v]]) {
        const what = `${machine.name}: lr ${lr}, step ${step}, ${name}`;
        checkClose(what, await session.read(`${name}.x`), [Number(value)], 1e-9, tolerance);
      }
    }
  }
}

async function globalClip(machine: Machine): Promise<void> {
  const { grads, max_norm, norm, factor, clipped } = optimizer.global_clip;
  const graph = traced({ g: spec([2]), max_norm: spec([]) }, ({ g, max_norm }) => {
    const { norm, gate } = k.globalNorm([g], k.fill([], 1), max_norm);
    return { norm, gate, clipped: k.mul(g, k.slice(gate, 0, 0, 1)) };
  });
  await checkGraph(machine, graph, { g: grads, max_norm: [max_norm] }, {
    norm: [norm],
    gate: [factor, 1],
    clipped,
  });
}
