import assert from "node:assert/strict";
import * as k from "../../../kernels/mod.ts";
import { type Graph, interpret, type Tensor, trace } from "../../../core/graph/mod.ts";
import { planGraph } from "../../../core/plan/mod.ts";
import type { Device } from "../../../core/device/mod.ts";
import { openCpu } from "../../../core/device/cpu/device.ts";
import { openWebgpu } from "../../../core/device/webgpu/mod.ts";
import { webgpuTest } from "../../support.ts";
import { dice } from "./random_graphs.ts";

type Tensors = Record<string, Tensor>;
const rows = { shape: [2, 3, 2], dtype: "f32" as const };
const STATE = { a: rows, b: rows, c: rows };
const BATCH = {
  x: rows,
  row: { shape: [2, 1, 2], dtype: "f32" as const },
  at: { shape: [2], dtype: "i32" as const },
  hyper: { shape: [8], dtype: "f32" as const },
  gate: { shape: [2], dtype: "f32" as const },
};
const numbers = (seed: number, count: number) => {
  const roll = dice(seed);
  return Array.from({ length: count }, () => roll(2001) / 1000 - 1);
};
const VALUES: Record<string, number[]> = {
  a: numbers(1, 12),
  b: numbers(2, 12),
  c: numbers(3, 12),
  x: numbers(4, 12),
  row: numbers(5, 4),
  at: [2, 0],
  hyper: [0.1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.75, 0.1],
  gate: [1, 1],
};

/**
 * States that become each other, themselves in place, or anything else; outputs that are old
 * states, new ones or neither.
 */
function randomStep(seed: number): Graph {
  const roll = dice(seed);
  return trace((state: Tensors, { x, row, at, hyper, gate }: Tensors) => {
    const pool: Tensor[] = [...Object.values(state), x];
    const pick = () => pool[roll(2) ? pool.length - 1 - roll(3) : roll(pool.length)];
    for (let i = roll(8); i >= 0; i--) {
      switch (roll(5)) {
        case 0:
          pool.push(k.cacheWrite(pick(), row, at));
          break;
        case 1: {
          const moved = k.adamW(pick(), pick(), pick(), k.square(pick()), hyper, gate, {
            eps: 0.1,
            decay: 0,
          });
          pool.push(moved.v, moved.m, moved.param);
          break;
        }
        case 2:
          pool.push(k.reshape(k.permute(k.reshape(pick(), [2, 3, 2]), [1, 0, 2]), [2, 3, 2]));
          break;
        case 3:
          pool.push(k.tanh(k.add(pick(), k.sumLast(pick()))));
          break;
        default:
          pool.push(k.tanh(k.sub(pick(), pick())));
      }
    }
    const next = Object.keys(state).filter(() => roll(3) > 0).map((name) => [name, pick()]);
    const outputs = ["one", "two"].map((name) => [name, pick()]);
    return { state: Object.fromEntries(next), outputs: Object.fromEntries(outputs) };
  }, { state: STATE, batch: BATCH });
}

async function compare(device: Device, seed: number): Promise<void> {
  const graph = randomStep(seed), results = [...graph.updates, ...graph.outputs];
  const expected = interpret(
    results.map(({ value }) => value),
    new Map(graph.inputs.map(({ name, tensor }) => [tensor, VALUES[name]])),
  );
  using store = device.createState(Object.entries(STATE).map(([name, s]) => ({ name, ...s })));
  for (const name of Object.keys(STATE)) store.write(name, VALUES[name]);
  using executable = await device.compile(planGraph(graph, device.target), store);
  executable.run(Object.fromEntries(Object.keys(BATCH).map((name) => [name, VALUES[name]])));
  const [outputs] = await executable.outputs();
  for (const [i, { name }] of results.entries()) {
    const found = i < graph.updates.length ? await store.read(name) : outputs[name];
    found.forEach((value, j) =>
      assert(
        Math.abs(value - expected[i][j]) < 1e-5,
        `seed ${seed}, ${name}[${j}]: ${value} is not ${expected[i][j]}`,
      )
    );
  }
}

for (const wasm of [false, true]) {
  Deno.test(`state in place, moved, kept and handed out: 400 random steps, ${wasm ? "in wasm" : "by plain loops"}`, async () => {
    await using device = await openCpu({ threads: 1, blas: "off", wasm });
    for (let seed = 1300; seed < 1700; seed++) await compare(device, seed);
  });
}

webgpuTest("state in place, moved, kept and handed out: 12 random steps on webgpu", async () => {
  await using device = await openWebgpu();
  for (let seed = 0; seed < 12; seed++) await compare(device, seed);
});
